"""Published script: MM-Vet ground truth and a model's predictions -> judge samples."""

from judgelm.answers import write_mmvet_samples
from judgelm.commands.published import mmvet_preprocess_parser
from judgelm.console import run_main


def command() -> None:
    """Parse the flags and write the samples."""
    args = mmvet_preprocess_parser().parse_args()
    print(write_mmvet_samples(args.gt_file_path, args.pred_file_path))


if __name__ == "__main__":
    run_main(command)
