"""Records with images, as people and statistics know them."""

from __future__ import annotations

import contextlib
import re

from judgelm.dialogue import read_turns
from judgelm.images import Gallery, name_images
from judgelm.jsonl import Record
from judgelm.sample import num_hidden

_SAID = re.compile(r"messages|conversation[1-9][0-9]?|question_body|answer([1-9][0-9]?)?_body")


def labelled(record: Record) -> Record:
    """A record as people and statistics are to know it: with the names of its images in their places, and without the
    thoughts of answers that are given in parts. The same where it has no images.
    """
    found = [name for name, value in record.items() if _SAID.fullmatch(name) and isinstance(value, list)]
    gallery, read = Gallery(), {}
    # as they are numbered where a judge is shown them
    for name in sorted(found, key=lambda name: ("mcqa".index(name[0]), len(name), name)):
        with contextlib.suppress(ValueError):
            read[name] = _read_field(record, name, gallery)
    try:
        images = gallery.close()
    except ValueError:
        images = ()
    if not images:
        return record
    said = {
        name: name_images(value, images)
        if isinstance(value, str)
        else [{**message, "content": name_images(message["content"], images)} for message in value]
        for name, value in read.items()
    }
    hidden = record.get("pred_thoughts")
    left = {name: size for name, size in hidden.items() if name not in said} if isinstance(hidden, dict) else hidden
    return {**record, **said, "pred_thoughts": left}


def _read_field(record: Record, name: str, gallery: Gallery) -> str | list[Record]:
    """A body's text, or messages whose contents are texts. Raises ValueError for what is neither."""
    if name.endswith("_body"):
        return gallery.read(record[name])[num_hidden(record, name) :]
    turns = read_turns(record[name], name, gallery)
    return [{**message, "content": turn.text} for message, turn in zip(record[name], turns, strict=True)]
