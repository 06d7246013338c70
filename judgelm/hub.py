"""Data sets of the Hugging Face hub as files of rows."""

from __future__ import annotations

import os
import re
from pathlib import Path

from judgelm.errors import InputError, one_line
from judgelm.files import cache_folder, keep

_NAME = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(?::([\w.\[\]:%-]+))?")
_FILES = (".jsonl", ".json", ".txt", ".gz", ".csv", ".tsv", ".parquet")


def find_file(source: str | os.PathLike[str], split: str | None = None) -> Path:
    """The file of that name; without one, a data set's rows: `org/set`, or `org/set:split`, kept in the user's cache.

    `split` is meant where none is named; without both, the data set's only one. Raises InputError where the hub does
    not give it. A name that no data set can have is given back as it is, for whoever opens the file.
    """
    path = Path(source).expanduser()
    named = _NAME.fullmatch(str(source))
    if path.exists() or not named or path.suffix in _FILES:
        return path
    name, split = named[1], named[2] or split
    import datasets
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return _fetch_lines(name, split) or _fetch_rows(name, split)
    except (OSError, ValueError, HfHubHTTPError, datasets.exceptions.DatasetsError) as error:
        reason = one_line(str(error)) or type(error).__name__
        raise InputError(f"{source}: no such file, and the hub did not give such a data set ({reason})") from None


def _fetch_lines(name: str, split: str | None) -> Path | None:
    """The one JSONL file of a data set with the split in its name: rows of mixed types stay as they are."""
    from huggingface_hub import snapshot_download

    if split is None or not split.isidentifier():
        return None
    pattern = f"*{split}*.jsonl"
    folder = Path(snapshot_download(name, repo_type="dataset", allow_patterns=[pattern]))
    files = sorted(folder.rglob(pattern))
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise InputError(f"{name}: several files could be meant ({names}): download one and name it")
    return files[0] if files else None


def _fetch_rows(name: str, split: str | None) -> Path:
    """A data set of another form, such as Parquet, as a Parquet file in the cache."""
    import datasets

    found = datasets.load_dataset(name, split=split)
    if isinstance(found, dict):
        if len(found) != 1:
            raise InputError(f"{name}: name one of its splits, {name}:SPLIT (found: {', '.join(found)})")
        (found,) = found.values()

    def write(work: Path) -> Path:
        found.to_parquet(work / "rows.parquet")
        return work / "rows.parquet"

    return keep(cache_folder() / "data-sets" / f"{found._fingerprint}.parquet", "data-sets", write)
