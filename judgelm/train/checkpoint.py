"""Where a training goes on: the last whole checkpoint, checked before anything long begins."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open

from judgelm.errors import InputError
from judgelm.jsonl import Record, read_json
from judgelm.models.folder import TRAINING_FILE

_STATE = "trainer_state.json"


def find_checkpoint(output: Path, asked: str | None, sharded: bool) -> tuple[Path | None, str | None]:
    """The checkpoint to go on from, and a line where a newer one was left unfinished.

    `asked` is `--resume_from_checkpoint`: a folder, False (start anew) or None or True (the last one, if there is one).
    `sharded`: whether this training will be. Raises InputError where the checkpoint is damaged or of the other kind.
    """
    numbered = {int(m[1]): f for f in output.glob("checkpoint-*") if (m := re.fullmatch(r"checkpoint-(\d+)", f.name))}
    if asked is not None and asked.lower() == "false":
        if numbered:
            raise InputError(
                f"--resume_from_checkpoint False: {output} holds {numbered[max(numbered)].name}: delete the folder's"
                " checkpoints, or choose another --output_dir"
            )
        return None, None
    if asked is not None and asked.lower() != "true":
        folder = Path(asked).expanduser()
        if not folder.is_dir():
            raise InputError(f"--resume_from_checkpoint {asked}: no such folder")
        _check(folder, sharded)
        return folder, None
    note = None
    for _, folder in sorted(numbered.items(), reverse=True):
        # the state is written last: without it the process ended while it was saving
        if (folder / _STATE).is_file():
            _check(folder, sharded)
            return folder, note
        note = f"{folder} was left unfinished and is passed over"
    if asked is not None:
        raise InputError(f"--resume_from_checkpoint {asked}: {output} holds no whole checkpoint")
    return None, note


def _check(folder: Path, sharded: bool) -> None:
    state = read_json(folder / _STATE)
    if not isinstance(state.get("global_step"), int):
        raise InputError(f"{folder / _STATE}: damaged, it does not say the step; delete the folder to go on without it")
    weights = sorted(folder.glob("*.safetensors"))
    # FULL_STATE_DICT is one file, SHARDED_STATE_DICT a folder
    shards = [*folder.glob("pytorch_model_fsdp*/.metadata"), *folder.glob("pytorch_model_fsdp*.bin")]
    if (weights or shards) and bool(shards) != sharded and not (folder / "adapter_config.json").is_file():
        kind, way = ("sharded", "with --fsdp on GPUs") if shards else ("whole", "without --fsdp")
        raise InputError(f"{folder} is a {kind} checkpoint: go on {way}, as it was begun")
    if not weights and not shards:
        raise InputError(f"{folder}: damaged, it holds no weights; delete the folder to go on without it")
    for index in folder.glob("*.safetensors.index.json"):
        named = read_json(index).get("weight_map")
        missing = set(named.values() if isinstance(named, dict) else [None]) - {file.name for file in weights}
        if missing:
            raise InputError(
                f"{folder}: damaged, {index.name} names weights that are missing; delete the folder to go on without it"
            )
    for file in weights:
        if not _is_whole(file):
            raise InputError(f"{file}: damaged, the file is cut short; delete the folder to go on without it")
    for pattern in ("optimizer*", "scheduler.pt", "rng_state*.pth"):
        found = list(folder.glob(pattern))
        if not found or not all(_is_archive(file) for file in found):
            raise InputError(
                f"{folder}: damaged, {pattern} is missing or cut short (was it saved with --save_only_model?); delete"
                " the folder to go on without it"
            )


def _is_whole(file: Path) -> bool:
    """Whether a safetensors file is as long as its header says, which is looked at when it is opened."""
    try:
        with safe_open(file, "pt"):
            return True
    except (SafetensorError, OSError):
        return False


def _is_archive(file: Path) -> bool:
    """Whether a file written by torch.save has the table at its end, or a folder of shards its own."""
    return (file / ".metadata").is_file() if file.is_dir() else zipfile.is_zipfile(file)


def check_same(output: Path, settings: Record) -> None:
    """Raise InputError where the training in this folder was another one: its order of rows would not go on."""
    path = output / TRAINING_FILE
    if not path.is_file():
        return
    # what trainings begun by earlier versions do not say
    before = {"method": "sft", "dpo_beta": None, "swap_consistency": 0.0, **read_json(path)}
    for name, value in settings.items():
        if name in before and before[name] != value:
            raise InputError(
                f"{output} holds a training with {name} {before[name]}, found {value}: use the same flags, another"
                " --output_dir, or delete its checkpoints to start anew"
            )
