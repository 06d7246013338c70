"""Several runs of one judge -> which of its own texts are preferred: right and consistent against wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from judgelm.dialogue import USER, Turn, Turns
from judgelm.errors import InputError
from judgelm.evaluation.results import JudgedSample, read_folder
from judgelm.files import PathLike
from judgelm.forms import Columns
from judgelm.jsonl import Line, index_by_id, read_lines
from judgelm.judge.description import read_description
from judgelm.judge.settings import JudgeSettings
from judgelm.judgement import Outcome
from judgelm.preferences.answers import check_pairs
from judgelm.preferences.preferences import Pair, Preferences
from judgelm.prompt_form import PromptForm
from judgelm.sample import unshow_fields
from judgelm.samples import make_sample
from judgelm.verdict import Reading

_SAME = ("engine", "model", "model_fingerprint", "base_url", "api", "prompt_format", "prompt_fingerprint")
"""settings that are the same in all runs of one judge"""
_WRITTEN = ("stop", "length")
"""finish reasons of texts that the judge wrote"""
_RIGHT, _NEITHER, _WRONG = "right", "right in one order alone, or cut", "wrong"
_DEFAULTS = JudgeSettings().to_record()


@dataclass(frozen=True, slots=True)
class _Text:
    """What the judge wrote after one prompt in one run."""

    prompt: Turns | str
    text: str
    state: str
    """`_RIGHT`, `_NEITHER` or `_WRONG`"""
    points: float | None
    """by how many points it is on the side of the truth"""


@dataclass(frozen=True, slots=True)
class _Run:
    """A judged folder."""

    samples: Mapping[str, JudgedSample]
    lines: Mapping[str, Mapping[str, Line]]
    """of each order, by id"""
    chat: str | None
    """whose message the prompt was: a template's or a server's; None: it was continued"""
    scores_only: bool
    """texts have no reasons, which could be cut"""


def prefer_texts(
    folders: Sequence[PathLike], labels: PathLike | None = None, columns: Columns | None = None
) -> Preferences:
    """Pairs of what one judge wrote after one prompt, in runs with other seeds.

    Chosen is a text whose verdict is right, and that of the same run in the other order too; rejected one with a wrong
    verdict, or none. One that is right in its own order alone, or whose reasons were cut, is neither, and each is in
    one pair at most. Prompts that had to be shortened give none. `labels` are the truth, `columns` their names
    (default: what the rows bring along).
    Raises InputError for fewer than two runs, runs of different judges, and runs without texts to learn from: by
    criteria, from a template, with thoughts or scoring `expected`; and as `read_folder`.
    """
    if len(folders) < 2:
        raise InputError("pairs of a judge's texts are made of two or more runs with other seeds, found one folder")
    if len({Path(folder).expanduser().resolve() for folder in folders}) < len(folders):
        raise InputError("one folder is named twice: pairs are made of different runs")
    settings = [_read_settings(folder) for folder in folders]
    for folder, each in zip(folders[1:], settings[1:], strict=True):
        for name in _SAME:
            if each.get(name) != settings[0].get(name):
                raise InputError(f"{folder} is of another judge than {folders[0]}: {name} differs in run.json")
    runs = [_read_run(folder, each, labels, columns) for folder, each in zip(folders, settings, strict=True)]
    keys = list(dict.fromkeys(key for run in runs for key in run.samples))
    pairs: list[Pair] = []
    left_out: Counter[str] = Counter()
    for key in keys:
        for order in ("forward", "reversed"):
            found = list(_pair_up(key, order, runs))
            pairs += [each for each in found if isinstance(each, Pair)]
            left_out.update(each for each in found if isinstance(each, str))
    return Preferences.of("texts", folders, 2 * len(keys), pairs, left_out, runs[0].chat is not None)


def _read_settings(folder: PathLike) -> dict[str, Any]:
    """Of run.json. Raises InputError where the judge wrote no texts to learn from."""
    check_pairs(folder)
    path = Path(folder).expanduser() / "run.json"
    described = read_description(path)
    if described is None:
        raise InputError(f"{path}: no such file: it says how the judge was asked")
    settings = {**_DEFAULTS, **described.settings}
    for name, unless, what in (
        ("criteria", None, "by criteria, in several texts a sample"),
        ("prompt_template", None, "from a prompt template, of which the folder has no text"),
        ("reasoning", False, "with thoughts, which stand apart from the texts"),
    ):
        if settings[name] != unless:
            raise InputError(f"{path}: judged {what}: no pairs of texts can be made of it")
    if settings["scoring"] == "expected":
        raise InputError(f"{path}: judged with scoring expected, which writes no texts")
    return settings


def _read_run(folder: PathLike, settings: Mapping[str, Any], labels: PathLike | None, columns: Columns | None) -> _Run:
    place = Path(folder).expanduser()
    samples = {sample.key: sample for sample in read_folder(place, labels, columns=columns)}
    files = {order: place / f"{order}.jsonl" for order in ("forward", "reversed")}
    lines = {order: index_by_id(read_lines(path, finite=False)) for order, path in files.items()}
    by_server = settings.get("api") == "chat" if settings.get("engine") == "openai" else False
    chat = "server" if by_server else "template" if settings["prompt_format"] == "chat" else None
    return _Run(samples, lines, chat, settings["scores_only"])


def _pair_up(key: str, order: str, runs: Sequence[_Run]) -> Iterator[Pair | str]:
    """The pairs of one prompt, or why there are none."""
    there = [run for run in runs if key in run.samples]
    if all(run.samples[key].truth is None for run in there):
        yield "without a label"
        return
    read = [_read_text(run.lines[order][key], run.samples[key], order, run) for run in there]
    texts = [text for text in read if text is not None]
    found = False
    for prompt in dict.fromkeys(text.prompt for text in texts):
        right, wrong = (
            # the same text is one, in however many runs
            {text.text: text for text in texts if (text.prompt, text.state) == (prompt, state)}.values()
            for state in (_RIGHT, _WRONG)
        )
        for chosen, rejected in zip(right, wrong, strict=False):
            found = True
            yield _pair(key, order, chosen, rejected)
    if not texts:
        yield "shortened, with images or without a text"
    elif all(text.state != _RIGHT for text in texts):
        yield "without a whole text that is right and consistent"
    elif not found:
        yield "without a wrong text"


def _pair(key: str, order: str, chosen: _Text, rejected: _Text) -> Pair:
    margin = None
    if chosen.points is not None and rejected.points is not None:
        margin = chosen.points - rejected.points
    return Pair(key, chosen.prompt, chosen.text, rejected.text, margin, order)


def _read_text(line: Line, sample: JudgedSample, order: str, run: _Run) -> _Text | None:
    """None where the judge wrote nothing, or saw less than the prompt that is known."""
    record, truth = line.record, sample.truth
    if truth is None or record.get("pred_finish_reason") not in _WRITTEN or record.get("pred_shortened"):
        return None
    reading = sample.forward if order == "forward" else sample.reversed
    assert reading is not None, "both orders are there"
    right = reading.outcome is truth.outcome
    whole = run.scores_only or record["pred_finish_reason"] == "stop"
    state = _WRONG if not right else _RIGHT if sample.consistent and whole else _NEITHER
    prompt = _prompt(line, order, run.chat)
    if prompt is None:
        return None
    return _Text(prompt, str(record["pred_text"]), state, _points(reading, truth.outcome))


def _prompt(line: Line, order: str, chat: str | None) -> Turns | str | None:
    """As the judge was asked; None for one with images."""
    fields = unshow_fields(line.record, order, 2)
    reference = fields.get("reference")
    shows_all = fields.get("pred_thoughts") is None
    given = reference if isinstance(reference, str) else None
    sample = make_sample(line._replace(record=fields), "pair", reference=given, keep_thinking=shows_all).shown(order)
    if sample.images:
        return None
    form = PromptForm(chat == "template")
    prompt = form.render(sample, "pair")
    if chat is None:
        return prompt
    return (Turn(USER, form.message(prompt, "pair") if chat == "template" else prompt),)


def _points(reading: Reading, truth: Outcome) -> float | None:
    """How far the scores are on the side of the truth; beside a tie, how far they are from one, below zero."""
    if reading.scores is None:
        return None
    difference = reading.scores[0] - reading.scores[1]
    return -abs(difference) if truth is Outcome.TIE else difference * truth.sign
