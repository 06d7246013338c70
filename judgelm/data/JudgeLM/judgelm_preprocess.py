"""Published script: answer files of two or more models -> judge samples, joined on question_id."""

from judgelm.llm_judge.arguments import Parser, run_main
from judgelm.preprocess import JUDGELM_OUTPUT, write_judgelm_samples


def command() -> None:
    """Parse the flags and write the samples."""
    parser = Parser(
        description=f"Join answer files into judge samples: {JUDGELM_OUTPUT} in the folder above the first file's."
    )
    parser.add_argument("--ans1_file_path", required=True, help="Assistant 1's answers (task single: the reference's)")
    parser.add_argument("--ans2_file_path", required=True, help="Assistant 2's answers")
    parser.add_argument("--ansmore_file_paths", nargs="+", default=[], help="answers of Assistants 3, 4 ..")
    args = parser.parse_args()
    print(write_judgelm_samples([args.ans1_file_path, args.ans2_file_path, *args.ansmore_file_paths]))


if __name__ == "__main__":
    run_main(command)
