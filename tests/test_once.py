"""A row is read once: what each row of a file costs a run, counted where it is spent."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import make_samples, write_jsonl
from judging import Scripted

from judgelm import Judge, Sample, prompt_form, samples
from judgelm.criteria import Aspect
from judgelm.encoding import encode_prompt
from judgelm.judge import JudgeChoice, JudgeSettings, judge_folder, run
from judgelm.samples import read_samples

Spent = Counter[str]
_OPENED: list[tuple[str, Spent]] = []
"""folders that are watched, and where their opens are counted"""


def _hear(event: str, args: tuple[Any, ...]) -> None:
    if event == "open":
        for folder, spent in _OPENED:
            if str(args[0]).startswith(folder):
                spent["opens"] += 1


# a hook cannot be taken away again: it hears nothing while no folder is watched
sys.addaudithook(_hear)


class Tokenizer:
    """A token a character."""

    def __call__(self, text: str, **_: Any) -> Any:
        return type("Encoded", (), {"input_ids": list(range(len(text)))})


class Engine(Scripted):
    """Fits its prompts as those of a model are fitted."""

    def fit(
        self, sample: Sample, task: str, max_new_tokens: int, aspect: Aspect | None = None, form: Any = None
    ) -> Any:
        return encode_prompt(sample, task, Tokenizer(), 1 << 20, aspect, form)


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[int], Spent]]:
    """Judges so many rows in both orders; what that took, up to what it returns."""
    spent: Spent = Counter()

    def counted(owner: Any, name: str, what: str) -> None:
        real = getattr(owner, name)

        def call(*args: Any, **settings: Any) -> Any:
            spent[what] += 1
            return real(*args, **settings)

        monkeypatch.setattr(owner, name, call)

    # which renders samples of its own, a fixed number a run
    monkeypatch.setattr(run, "prompt_fingerprint", lambda *_: "")
    counted(json.JSONDecoder, "raw_decode", "parses")
    counted(Sample, "__init__", "samples")
    counted(prompt_form, "show_prompt", "renders")

    def judge(rows: int) -> Spent:
        spent.clear()
        texts = {str(k): "8 7\nfuller" for k in range(rows)}
        questions = write_jsonl(tmp_path / f"{rows}.jsonl", [each.to_record() for each in make_samples(rows)])
        spent.clear()
        _OPENED.append((str(tmp_path), spent))
        engine = Engine(texts)
        choice = JudgeChoice("scripted", lambda: Judge(engine), {})
        found = judge_folder(read_samples(questions), tmp_path / str(rows), choice, JudgeSettings())
        _OPENED.clear()
        assert [(len(each.lines), each.counts["ok"]) for each in found.values()] == [(rows, rows)] * 2
        return spent.copy()

    yield judge
    _OPENED.clear()


def test_a_row_is_parsed_once_and_made_and_rendered_once_an_order(count: Callable[[int], Spent]) -> None:
    """Nothing is parsed and no file opened for a judgement that is written."""
    few, many = count(10), count(110)
    assert {name: many[name] - few[name] for name in many} == {
        "parses": 100,
        "samples": 200,
        "renders": 200,
        "opens": 0,
    }
    hundred = count(100)
    # the file's first line is looked at to tell lines from a document
    assert (hundred["parses"], hundred["samples"], hundred["renders"]) == (101, 200, 200)
    assert hundred["opens"] < 40


def test_rows_that_memory_should_not_hold_are_read_twice(
    count: Callable[[int], Spent], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are checked before the first is judged."""
    monkeypatch.setattr(samples, "_HELD", 0)
    spent = count(100)
    assert (spent["parses"], spent["samples"], spent["renders"]) == (201, 300, 200)
