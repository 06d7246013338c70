"""Published script: answer files of two or more models -> judge samples, joined on question_id."""

from judgelm.answers import write_judgelm_samples
from judgelm.commands.published import judgelm_preprocess_parser
from judgelm.console import run_main


def command() -> None:
    """Parse the flags and write the samples."""
    args = judgelm_preprocess_parser().parse_args()
    print(write_judgelm_samples([args.ans1_file_path, args.ans2_file_path, *args.ansmore_file_paths]))


if __name__ == "__main__":
    run_main(command)
