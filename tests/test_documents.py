from __future__ import annotations

import json
from pathlib import Path

import pytest

from judgelm.documents import Document
from judgelm.errors import InputError


class Weighed(Document):
    what = "a weight"

    grams: float
    note: str | None = None


def test_a_document_is_read_as_it_was_written_and_says_its_format(tmp_path: Path) -> None:
    path = tmp_path / "weight.json"
    Weighed(grams=3, note="a").write(path)
    assert json.loads(path.read_text()) == {"format": 1, "grams": 3.0, "note": "a"}
    assert Weighed.read(path) == Weighed(grams=3, note="a")


def test_a_file_of_an_earlier_or_a_richer_version_is_read_and_kept_whole(tmp_path: Path) -> None:
    path = tmp_path / "weight.json"
    path.write_text('{"grams": 3, "colour": "red"}')
    found = Weighed.read(path)
    assert found.format == 1
    assert found.to_record() == {"format": 1, "grams": 3.0, "note": None, "colour": "red"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"weight\.json:1: not JSON"),
        ("{}", r"weight\.json: not a weight \(grams: Field required\)"),
        ('{"grams": "3"}', r"weight\.json: not a weight \(grams: Input should be a valid number, found 3\)"),
        ('{"grams": 3, "format": 2}', r"weight\.json: not a weight \(format: Input should be 1, found 2\)"),
    ],
)
def test_a_document_of_another_form_is_named_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "weight.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        Weighed.read(path)
