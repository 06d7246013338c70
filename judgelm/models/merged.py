"""An adapter merged into its base: a whole model folder, for a user or kept for engines that know no adapters."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from judgelm.errors import InputError
from judgelm.files import cache_folder
from judgelm.models.loading import ModelFolder, load_model
from judgelm.models.tiny import quiet_progress

_UNFINISHED = "unfinished-merged-"
_LAYOUT = "1"
"""raise it when merging changes, so that an older cache is left aside"""


def write_merged(folder: ModelFolder, output: Path, dtype: str) -> None:
    """Write base + adapter as one model folder; the sum is taken in float32. Raises OSError where it cannot."""
    import torch

    model, tokenizer = load_model(folder, dtype="float32", device="cpu")
    with quiet_progress():
        model.to(getattr(torch, dtype)).save_pretrained(output)
        tokenizer.save_pretrained(output)


def merged_folder(folder: ModelFolder, dtype: str) -> ModelFolder:
    """The model without an adapter: the folder itself, or base + adapter in the user's cache, merged at the first call.

    Its name there holds the fingerprint of both, so that what was trained on is merged anew. Processes that start
    together wait for one another; a folder appears whole or not at all.
    """
    if folder.base is None:
        return folder
    merged = cache_folder() / f"merged-{folder.fingerprint()[:16]}-{dtype}-{_LAYOUT}"
    if not merged.is_dir():
        from filelock import FileLock

        try:
            merged.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(merged.parent / "merged.lock"):
                if not merged.is_dir():
                    _merge_into(folder, merged, dtype)
        except OSError as error:
            raise InputError(f"{merged}: the merged model cannot be kept there ({error.strerror or error})") from error
    return ModelFolder(folder.name, merged, None)


def _merge_into(folder: ModelFolder, merged: Path, dtype: str) -> None:
    print(f"judgelm: merging {folder.name} into its base (once)", file=sys.stderr)
    for left in merged.parent.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(dir=merged.parent, prefix=_UNFINISHED) as work:
        write_merged(folder, Path(work) / "model", dtype)
        os.replace(Path(work) / "model", merged)
