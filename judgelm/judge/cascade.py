"""A cheap judge first, and a stronger one where it is unsure: two runs in one folder, and what they say together."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from judgelm.errors import InputError, SettingError, one_line
from judgelm.files import locked, write_text
from judgelm.jsonl import LineFile, id_key
from judgelm.judge.choice import AnyJudge, JudgeChoice, prepare
from judgelm.judge.folder import describe_files, judge_folder
from judgelm.judge.settings import ORDERS, JudgeSettings, Order
from judgelm.sample import Sample
from judgelm.samples import PathLike, Samples

if TYPE_CHECKING:
    from judgelm.evaluation.cascade import Cascade
    from judgelm.evaluation.results import JudgedSample, Truth
    from judgelm.judge.description import RunDescription
    from judgelm.judge.log import OrderFile

CASCADE_FILE = "cascade.json"
_FIRST, _SECOND = "first", "second"
"""folders of the two runs"""


@dataclass(frozen=True, slots=True)
class Then:
    """The second judge, and when it is asked."""

    judge: AnyJudge
    settings: JudgeSettings
    sure: float | None = None
    """samples of which the first judge is less sure go to it; None: chosen by labels, for which it is asked about all
    samples that have one"""
    labels: PathLike | None = None
    """the truth of some samples, rows of `question_id` and `label` or `text`; None: the samples' own"""


@dataclass(frozen=True, slots=True)
class CascadeRun:
    """What both judges said together."""

    found: Mapping[Order, OrderFile]
    first: Mapping[Order, OrderFile]
    second: Mapping[Order, OrderFile]
    """all that each of them has judged"""
    cascade: Cascade


def judge_cascade(
    samples: Sequence[Sample],
    folder: PathLike,
    judge: AnyJudge,
    settings: JudgeSettings,
    then: Then,
    *,
    model_id: str | None = None,
    keep_judged: bool = False,
) -> CascadeRun:
    """Judge what is not judged yet: all by the first judge in both orders, then by the second what the first is unsure
    of, contradicts itself on or has no scores for.

    Args:
        samples: of task pair.
        folder: gets forward.jsonl, reversed.jsonl, run.json and cascade.json, and in the folders first and second what
            each judge was asked. A run that was ended goes on; with another threshold nothing is judged twice.
        settings: of the first judge, scoring expected.
        model_id: name of the first judge in the records (default: the model's).
        keep_judged: go on though samples were removed, changed or added.

    Raises InputError as `judge_folder` does, for two judges that are one, and where a threshold cannot be chosen.
    """
    from judgelm.evaluation.cascade import check_sure

    place, first, second = Path(folder).expanduser(), prepare(judge), prepare(then.judge)
    names = (model_id or first.model_id, second.model_id)
    _check(first, second, settings, then, names)
    truths: list[Truth | None] = [None] * len(samples)
    if then.sure is None:
        truths = _truths(samples, then.labels)
    else:
        check_sure(then.sure)
    began = time.time()
    with locked(place / "run.json"):
        run, before = _begin(place, samples, names, then.sure), _count_judged(place)
        by_first = judge_folder(
            samples, place / _FIRST, first, settings, orders="both", model_id=model_id, keep_judged=keep_judged
        )
        ask = _Ask(samples, place / _SECOND, second, then.settings, keep_judged)
        cascade, sent = _decide(place, samples, truths, ask, then.sure, names)
        found = _put_together(place, run, {sample.key for sample in samples}, sent)
        run.sessions[-1].seconds = round(time.time() - began, 3)
        run.sessions[-1].judged = _count_judged(place) - before
        cascade.write(place / CASCADE_FILE, indent=2)
        run.write(place / "run.json", indent=2)
    return CascadeRun(found, by_first, ask.found, cascade)


def _check(
    first: JudgeChoice, second: JudgeChoice, settings: JudgeSettings, then: Then, names: tuple[str, str]
) -> None:
    """Raises InputError for what is no cascade."""
    for each in (settings, then.settings):
        if each.task != "pair":
            raise SettingError("task", f"{each.task}: a second judge is for task pair, whose swap tells who is unsure")
    if settings.scoring != "expected":
        raise SettingError("scoring", f"{settings.scoring}: how sure the first of two judges is, expected alone tells")
    if _identity(first) == _identity(second):
        raise InputError(f"the second judge, {one_line(second.name)}, is the first one")
    if names[0] == names[1]:
        raise InputError(f"both judges would be {one_line(names[0])} in the records: --model-id names the first")


def _identity(judge: JudgeChoice) -> tuple[object, ...]:
    """What makes two judges the same, wherever their files lie."""
    fingerprint = judge.described.get("model_fingerprint")
    return (fingerprint,) if fingerprint else (judge.name, judge.described.get("base_url"))


def _truths(samples: Sequence[Sample], labels: PathLike | None) -> list[Truth | None]:
    """Of each sample. Raises InputError where a threshold cannot be chosen by them."""
    from judgelm.evaluation.labels import need_labels, read_truths

    source = samples.files.question_file if isinstance(samples, Samples) else Path("samples")
    truths = read_truths({sample.key: sample.to_record() for sample in samples}, source, labels)
    need_labels("sure auto", truths)
    questions = {sample.asked for sample, truth in zip(samples, truths, strict=True) if truth}
    if len(questions) < 2:
        raise InputError(f"sure auto needs labels of two questions or more, found {len(questions)}")
    return truths


def _begin(place: Path, samples: Sequence[Sample], names: tuple[str, str], sure: float | None) -> RunDescription:
    """What run.json will say; of a new run it says before anything is judged that this is a cascade. Raises InputError
    where judgements of another run are.
    """
    from judgelm.judge.description import RunDescription, Session, read_run_of, versions

    earlier = read_run_of(place, "cascade", "judgements of one judge alone: name another place for those of two")
    settings = {
        "model_id": ", then ".join(names),
        "task": "pair",
        **describe_files(samples),
        "cascade": {"first": names[0], "second": names[1], "sure": "auto" if sure is None else sure},
    }
    session = Session(started=time.time(), judged=0, versions=versions())
    run = RunDescription.begun(settings, [*(earlier.sessions if earlier else ()), session])
    if earlier is None:
        run.write(place / "run.json", indent=2)
    return run


def _count_judged(place: Path) -> int:
    """Judgements that both runs have made so far."""
    from judgelm.judge.description import read_description

    runs = [read_description(place / name / "run.json") for name in (_FIRST, _SECOND)]
    return sum(session.judged for run in runs if run for session in run.sessions)


@dataclass(slots=True)
class _Ask:
    """The second judge, who is asked about some of the samples, and about more of them later."""

    samples: Sequence[Sample]
    folder: Path
    judge: JudgeChoice
    settings: JudgeSettings
    keep_judged: bool
    found: Mapping[Order, OrderFile] = field(default_factory=dict)
    """all that it has judged"""

    def __call__(self, keys: Set[str]) -> dict[str, JudgedSample]:
        """Its judgements of the samples with these keys; those that are there are not judged again."""
        from judgelm.evaluation.results import read_folder

        if not keys:
            return {}
        samples, known = self.samples, keys
        if self.keep_judged:
            # what was judged of other samples stays, though it is not asked for now
            samples = samples.whole() if isinstance(samples, Samples) else samples
            known = keys | self._kept(samples)
        chosen = [sample for sample in samples if sample.key in known]
        self.found = judge_folder(
            chosen, self.folder, self.judge, self.settings, orders="both", keep_judged=self.keep_judged
        )
        return {sample.key: sample for sample in read_folder(self.folder, only=keys, with_truth=False)}

    def _kept(self, samples: Sequence[Sample]) -> set[str]:
        """Keys of the samples whose judgements still hold."""
        from judgelm.judge.kept import Stored

        files = {order: self.folder / f"{order}.jsonl" for order in ORDERS["both"]}
        matches = Stored(files, samples, self.settings, self.judge.model_id, None).matches()
        return {key for (_, key), holds in matches.items() if holds}


def _decide(
    place: Path,
    samples: Sequence[Sample],
    truths: Sequence[Truth | None],
    ask: _Ask,
    sure: float | None,
    names: tuple[str, str],
) -> tuple[Cascade, set[str]]:
    """The threshold, and the keys of the samples that are the second judge's, who has judged them by then."""
    from judgelm.evaluation.cascade import Pairs, measure_cascade
    from judgelm.evaluation.labels import outcomes_of
    from judgelm.evaluation.results import read_folder

    keys = [sample.key for sample in samples]
    judged = {sample.key: sample for sample in read_folder(place / _FIRST, only=set(keys), with_truth=False)}
    labelled = {key for key, truth in zip(keys, truths, strict=True) if truth}
    other = ask(labelled)
    pairs = Pairs.of([judged[key] for key in keys], [other.get(key) for key in keys], outcomes_of(truths))
    cascade = measure_cascade(pairs, names, sure)
    sent = {key for key, is_sent in zip(keys, pairs.sent(cascade.sure).tolist(), strict=True) if is_sent}
    if sent - labelled:
        ask(sent | labelled)
    return cascade, sent


def _put_together(place: Path, run: RunDescription, keys: Set[str], sent: Set[str]) -> dict[Order, OrderFile]:
    """Until here what an earlier run put together stands as it was, with the run.json that says so."""
    run.write(place / "run.json", indent=2)
    found = {order: _merge(place, order, keys, sent) for order in ORDERS["both"]}
    run.counts = {order: dict(each.counts) for order, each in found.items()}
    run.finished = True
    return found


def _merge(place: Path, order: Order, keys: Set[str], sent: Set[str]) -> OrderFile:
    """An order's judgements of the samples with these keys, line by line as their judges' files have them."""
    from judgelm.judge.log import OrderFile, count_records

    counts = count_records(())

    def lines() -> Iterator[str]:
        first = LineFile(place / _FIRST / f"{order}.jsonl", finite=False, ours=True)
        second = LineFile(place / _SECOND / f"{order}.jsonl", finite=False, ours=True) if sent else None
        rows = {id_key(line.record["question_id"]): row for row, line in enumerate(second or ())}
        for row, raw in first.select_raw(range(len(first))):
            record = first.parse(row, raw).record
            key = id_key(record["question_id"])
            if key not in keys:
                continue
            if second is not None and key in sent:
                ((row, raw),) = second.select_raw([rows[key]])
                record = second.parse(row, raw).record
            count_records([record], counts)
            yield raw.decode().strip() + "\n"

    path = place / f"{order}.jsonl"
    write_text(path, lines())
    return OrderFile(LineFile(path, finite=False, ours=True), counts)
