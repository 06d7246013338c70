"""A model's name -> its folder: hub id, local folder, PEFT adapter or an embedded one."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from judgelm.errors import InputError
from judgelm.jsonl import read_json
from judgelm.models.tiny import ADAPTER, NOTES, TINY, TINY_BASE, tiny_folder

_WEIGHTS = ("*.safetensors", "*.bin")
_SAMPLED_BYTES = 1 << 20
TRAINING_FILE = "judgelm_training.json"
"""what `judgelm train` leaves beside the weights: with which settings"""
_CHECKPOINT = re.compile(r"checkpoint-\d+")


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """Where a model's files lie."""

    name: str
    path: Path
    base: ModelFolder | None
    """the model under a PEFT adapter"""

    @property
    def note(self) -> str | None:
        """What a user of this model must know."""
        return NOTES.get(self.name)

    @property
    def trained_here(self) -> bool:
        """Whether `judgelm train` wrote it, or the folder above this checkpoint, or `judgelm merge` of such a one."""
        path = self.path.resolve()
        places = [path, path.parent] if _CHECKPOINT.fullmatch(path.name) else [path]
        return any((place / TRAINING_FILE).is_file() for place in places)

    def fingerprint(self) -> str:
        """sha256 over each file's name, size, first and last MiB: quick for any size, and other after training."""
        digest = hashlib.sha256()
        try:
            for file in sorted(self.path.iterdir()):
                if file.suffix in (".json", ".safetensors", ".bin", ".model"):
                    size = file.stat().st_size
                    digest.update(f"{file.name}\0{size}\0".encode())
                    with file.open("rb") as content:
                        digest.update(content.read(_SAMPLED_BYTES))
                        content.seek(max(0, size - _SAMPLED_BYTES))
                        digest.update(content.read(_SAMPLED_BYTES))
        except OSError as error:
            where = error.filename or self.path
            raise InputError(f"model {self.name}: {where} cannot be read ({error.strerror or error})") from error
        if self.base is not None:
            digest.update(self.base.fingerprint().encode())
        return digest.hexdigest()


def find_model(name: str, cache_dir: str | None = None) -> ModelFolder:
    """Resolve a name: `tiny`, `tiny-base`, a folder, or else a hub id, whose files are fetched into the hub's cache.

    Raises InputError for a folder without config or weights, for an adapter whose base is another adapter or itself,
    and for a hub id that cannot be had.
    """
    return _find(name, cache_dir, None)


def _find(name: str, cache_dir: str | None, above: str | None) -> ModelFolder:
    """See `find_model`; `above` is the adapter whose base is looked for."""
    if above is not None and name == TINY:
        raise InputError(_no_base(above, name))
    if name == TINY:
        return ModelFolder(name, ADAPTER, find_model(TINY_BASE))
    if name == TINY_BASE:
        return ModelFolder(name, tiny_folder(), None)
    path = Path(name).expanduser()
    if not path.is_dir():
        if path.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
            raise InputError(f"model {name}: no such folder{_named_by(above)}")
        path = _fetch(name, cache_dir, above)
    return _check(ModelFolder(name, path, None), cache_dir, above)


def _check(folder: ModelFolder, cache_dir: str | None, above: str | None) -> ModelFolder:
    adapter = folder.path / "adapter_config.json"
    if above is not None and adapter.is_file():
        # itself perhaps, or one of a ring
        raise InputError(_no_base(above, folder.name))
    if not any(file for pattern in _WEIGHTS for file in folder.path.glob(pattern)):
        raise InputError(f"model {folder.name}: the folder holds no weights (*.safetensors or *.bin)")
    if adapter.is_file():
        base = read_json(adapter).get("base_model_name_or_path")
        if not isinstance(base, str) or not base:
            raise InputError(f"model {folder.name}: adapter_config.json does not name its base model")
        return ModelFolder(folder.name, folder.path, _find(base, cache_dir, folder.name))
    if not (folder.path / "config.json").is_file():
        raise InputError(f"model {folder.name}: the folder holds no config.json")
    return folder


def _no_base(adapter: str, base: str) -> str:
    return (
        f"model {adapter}: its adapter_config.json names as its base {base}, which is an adapter itself (judgelm merge"
        " makes a model of one)"
    )


def _named_by(adapter: str | None) -> str:
    return "" if adapter is None else f", but the adapter {adapter} names it as its base"


def _fetch(name: str, cache_dir: str | None, above: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        for weights in _WEIGHTS:
            patterns = ["*.json", weights, "*.model", "*.txt", "*.jinja"]
            folder = Path(snapshot_download(name, allow_patterns=patterns, cache_dir=cache_dir))
            if any(folder.glob(weights)):
                break
    except HFValidationError:
        raise InputError(f"model {name}: no such folder, and not a hub id{_named_by(above)}") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        # the hub's models of today have an owner: a bare name is rather a slip
        ours = "" if "/" in name else "; the judge that is here already is tiny"
        raise InputError(
            f"model {name}: no such folder, and the hub did not give it ({reason}){_named_by(above)}{ours}"
        ) from None
    return folder
