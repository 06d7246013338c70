"""Published script: MM-Vet ground truth and a model's predictions -> judge samples."""

from judgelm.llm_judge.arguments import Parser, run_main
from judgelm.preprocess import MMVET_OUTPUT, write_mmvet_samples


def command() -> None:
    """Parse the flags and write the samples."""
    parser = Parser(
        description=f"Join ground truth and predictions into judge samples: {MMVET_OUTPUT} beside the truth."
    )
    parser.add_argument("--gt_file_path", required=True, help="mm-vet.json")
    parser.add_argument("--pred_file_path", required=True, help='predictions: {"v1_0": "text", ..}')
    args = parser.parse_args()
    print(write_mmvet_samples(args.gt_file_path, args.pred_file_path))


if __name__ == "__main__":
    run_main(command)
