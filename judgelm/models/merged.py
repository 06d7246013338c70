"""An adapter merged into its base: a whole model folder, for a user or kept for engines that know no adapters."""

from __future__ import annotations

import sys
from pathlib import Path

from judgelm.errors import InputError
from judgelm.files import cache_folder, keep
from judgelm.models.folder import ModelFolder
from judgelm.models.loading import load_model
from judgelm.models.tiny import quiet_progress

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

    Its name there has the fingerprint of both, so that what was trained on is merged anew.
    """
    if folder.base is None:
        return folder
    merged = cache_folder() / f"merged-{folder.fingerprint()[:16]}-{dtype}-{_LAYOUT}"

    def merge(work: Path) -> Path:
        print(f"judgelm: merging {folder.name} into its base (once)", file=sys.stderr)
        write_merged(folder, work / "model", dtype)
        return work / "model"

    try:
        return ModelFolder(folder.name, keep(merged, "merged", merge), None)
    except OSError as error:
        raise InputError(f"{merged}: the merged model cannot be kept there ({error.strerror or error})") from error
