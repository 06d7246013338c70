"""Published script: MM-Vet ground truth and a model's predictions -> judge samples."""

from judgelm.console import run_main
from judgelm.llm_judge.arguments import mmvet_preprocess_parser
from judgelm.preprocess import write_mmvet_samples


def command() -> None:
    """Parse the flags and write the samples."""
    args = mmvet_preprocess_parser().parse_args()
    print(write_mmvet_samples(args.gt_file_path, args.pred_file_path))


if __name__ == "__main__":
    run_main(command)
