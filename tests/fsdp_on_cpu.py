"""Run a training script and report what each process holds; with FSDP on CPU processes, or killed at a step.

    CALL_IT_FSDP=1 DIE_AT_STEP=7 torchrun --nproc_per_node 2 tests/fsdp_on_cpu.py REPORT_FOLDER SCRIPT FLAGS..

accelerate turns FSDP on for accelerators alone. Told that this gloo run is an FSDP run, Trainer takes its real FSDP2
path: what is tested is the path of a GPU run, not an imitation.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from pathlib import Path
from typing import Any

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor


def call_it_fsdp() -> None:
    plain = AcceleratorState.__init__

    def init(self: Any, *args: Any, fsdp_plugin: Any = None, **settings: Any) -> None:
        plain(self, *args, fsdp_plugin=fsdp_plugin, **settings)
        if fsdp_plugin is not None:
            self.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
            self.fsdp_plugin = fsdp_plugin
            if self._mixed_precision != "no":
                fsdp_plugin.set_mixed_precision(self._mixed_precision)

    AcceleratorState.__init__ = init
    from judgelm.train import fsdp

    fsdp.is_possible = lambda args: True


def die_at(step: int) -> None:
    """End this process as a power cut would, at the end of a training step."""
    from transformers import Trainer, TrainerCallback

    class Die(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, args: Any, state: Any, control: Any, **settings: Any) -> None:
            if state.global_step == step:
                os._exit(9)

    init = Trainer.__init__

    def with_end(self: Any, *args: Any, **settings: Any) -> None:
        init(self, *args, **settings)
        self.add_callback(Die())

    Trainer.__init__ = with_end


def report_on(folder: Path) -> None:
    """After training, write what lies on this process."""
    from transformers import Trainer

    train = Trainer.train

    def reporting(self: Any, *args: Any, **settings: Any) -> Any:
        result = train(self, *args, **settings)
        parameters = list(self.model.parameters())
        local = [p.to_local() if hasattr(p, "to_local") else p for p in parameters]
        report = {
            "kinds": sorted({"DTensor" if isinstance(p, DTensor) else "Tensor" for p in parameters}),
            "local_bytes": sum(p.numel() * p.element_size() for p in local),
            "whole_bytes": sum(p.numel() * p.element_size() for p in parameters),
            "wrapped": sorted({type(m).__name__ for m in self.model.modules() if type(m).__name__.startswith("FSDP")}),
            "fsdp": self.is_fsdp_enabled,
            "losses": [entry["loss"] for entry in self.state.log_history if "loss" in entry],
        }
        (folder / f"rank{os.environ.get('RANK', '0')}.json").write_text(json.dumps(report))
        return result

    Trainer.train = reporting


if __name__ == "__main__":
    folder, script, *flags = sys.argv[1:]
    if os.environ.get("CALL_IT_FSDP") == "1":
        call_it_fsdp()
    if "DIE_AT_STEP" in os.environ:
        die_at(int(os.environ["DIE_AT_STEP"]))
    report_on(Path(folder))
    sys.argv = [script, *flags]
    runpy.run_path(script, run_name="__main__")
