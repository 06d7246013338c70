"""Published script: fine-tune a judge; the others beside it differ in attention, or train an adapter."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from judgelm.console import run_main


def main(flash: bool | None = None, lora: bool = False) -> NoReturn:
    """Entry point of the training scripts."""

    def command() -> None:
        from judgelm.train.settings import parse

        settings = parse(sys.argv[1:], lora)
        # loads most, and is needed for right flags only
        from judgelm.train.training import train

        trainer = train(settings, flash=flash)
        _leave(trainer)

    run_main(command, kept="checkpoints are kept")


def _leave(trainer: object) -> None:
    """End one of several processes without a GPU at once, while its trainer is there.

    To drop that one drops gloo's process group, which waits for a thread that may wait for this one (torch 2.13).

    The interpreter's own end would wait for nothing more, but gloo's threads abort it now and then on a busy machine,
    even after the process group is gone, and a finished training would seem to have failed.
    """
    import torch

    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.cuda.is_available():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


if __name__ == "__main__":
    main()
