"""A jury's verdicts, in a folder like that of any judge."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from judgelm.errors import InputError
from judgelm.evaluation.labels import need_labels, outcomes_of
from judgelm.jsonl import Record, id_key, id_order
from judgelm.judge.judged import LETTER_SCORES, stamp, told_record
from judgelm.judge.settings import ORDERS, Order
from judgelm.judgement import Outcome
from judgelm.jury.members import TASK, Members, exchanged, read_members
from judgelm.samples import PathLike

if TYPE_CHECKING:
    from judgelm.evaluation.jury import Jury, Panel
    from judgelm.evaluation.metrics.intervals import Floats

JURY_FILE = "jury.json"
METHODS = {
    "majority": "the outcome with most verdicts, a tie where two have as many",
    "mean": "the likeliest outcome by the mean of all probabilities, which judge --scoring expected gives",
    "weighted": "verdicts count by how often their judge is right on the labels of other questions",
    "dawid-skene": "verdicts count by what their judge mistakes for what, which is found without labels",
}
"""how several verdicts become one"""
_LETTERS = {Outcome.WIN: "[[A]]", Outcome.LOSE: "[[B]]", Outcome.TIE: "[[C]]"}
_WORDS = {Outcome.WIN: "answer 1", Outcome.TIE: "tie", Outcome.LOSE: "answer 2", None: "abstains"}


def run_jury(
    places: Sequence[PathLike],
    output_dir: PathLike,
    method: str = "majority",
    labels: PathLike | None = None,
    question_file: PathLike | None = None,
    vocabulary: str | None = None,
) -> Jury:
    """What several judges say together, and what each of them is worth to the others.

    Args:
        places, labels, question_file, vocabulary: see `read_members`.
        output_dir: gets forward.jsonl, reversed.jsonl if all judges judged both orders, run.json and jury.json.
        method: one of `METHODS`.

    Raises InputError as `read_members` does, where a method lacks labels or probabilities, and where the folder is one
    of the judges' or of another run.
    """
    from judgelm.evaluation.jury import Panel, measure_jury

    folder = Path(output_dir).expanduser()
    if any(folder.resolve() == Path(place).expanduser().resolve() for place in places):
        raise InputError(f"{output_dir}: expected a folder of the jury's own, found that of one of its judges")
    if method not in METHODS:
        raise InputError(f"unknown method {method!r}, expected one of {', '.join(METHODS)}")
    members = read_members(places, labels, question_file, vocabulary)
    if method == "weighted":
        need_labels("method weighted", members.truths)
    for judge in members.judges if method == "mean" else ():
        judge.check_probabilities()
    panel = Panel.of([judge.samples for judge in members.judges], outcomes_of(members.truths))
    names = [judge.name for judge in members.judges]
    jury = measure_jury(panel, method, names, [judge.place for judge in members.judges])
    _write(folder, members, panel, jury)
    return jury


def _write(folder: Path, members: Members, panel: Panel, jury: Jury) -> None:
    """Whatever a jury wrote there before is replaced."""
    from judgelm.evaluation.jury import decide
    from judgelm.judge.told import write_told

    orders = ORDERS["both" if all(judge.has_both for judge in members.judges) else "forward"]
    name = f"{jury.method} of {len(members.judges)} judges"
    settings = {
        "model_id": name,
        "task": TASK,
        "jury": jury.method,
        "judges": [{"name": judge.name, "place": judge.place} for judge in members.judges],
    }

    def records(place: int, order: Order) -> Iterator[Record]:
        # probabilities are those of the order, verdicts are those of both
        shares = decide(panel.in_order(place) if len(orders) > 1 else panel, jury.method)
        return _records(members, panel, shares, order, name)

    others = "judgements of a judge: name another place for those of a jury"
    by_order = {order: records(place, order) for place, order in enumerate(orders)}
    write_told(folder, "jury", settings, by_order, others, {JURY_FILE: jury})


def _records(members: Members, panel: Panel, shares: Floats, order: Order, name: str) -> Iterator[Record]:
    """By id, as a judge's are."""
    from judgelm.evaluation.jury import verdicts
    from judgelm.evaluation.metrics.agreement import MISSING, OUTCOMES

    found, shown = verdicts(shares).tolist(), _shown(order)
    places = sorted(range(len(members.rows)), key=lambda place: id_order(id_key(members.rows[place]["question_id"])))
    for place in places:
        row = members.rows[place]
        outcome = None if found[place] == MISSING else shown(OUTCOMES[found[place]])
        said: dict[str, Outcome | None] = {
            judge.name: None if vote == MISSING else shown(OUTCOMES[vote])
            for judge, vote in zip(members.judges, panel.votes[place].tolist(), strict=True)
        }
        record = {**(row if order == "forward" else exchanged(row)), **_judgement(outcome, said, order)}
        if outcome is not None:
            by_outcome = dict(zip(map(shown, OUTCOMES), shares[place].tolist(), strict=True))
            first = by_outcome[Outcome.WIN] + by_outcome[Outcome.TIE] / 2
            record["pred_expected_scores"] = [first, 1 - first]
            record["pred_probabilities"] = {each.value: by_outcome[each] for each in Outcome}
        yield {**record, **stamp(name)}


def _shown(order: Order) -> Callable[[Outcome], Outcome]:
    return Outcome.swapped if order == "reversed" else lambda outcome: outcome


def _judgement(outcome: Outcome | None, said: dict[str, Outcome | None], order: Order) -> Record:
    """As a judge that is asked for a letter."""
    letter, scores = ("no verdict", None) if outcome is None else (_LETTERS[outcome], LETTER_SCORES[outcome])
    text = "\n".join([letter, "", *(f"{name}: {_WORDS[each]}" for name, each in said.items())])
    votes = [{"judge": name, "outcome": None if each is None else each.value} for name, each in said.items()]
    return {**told_record(text, TASK, order, outcome, scores, "letter"), "pred_jury": votes}
