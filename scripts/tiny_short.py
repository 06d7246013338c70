"""Choose what the last trainings of `scripts/train_tiny.sh` learn from: short answers, judged by `tiny` itself.

python -m scripts.tiny_short questions SEEDS.jsonl JUDGED.jsonl OUTPUT_FOLDER [MEASURED.jsonl ..]
python -m scripts.tiny_short rows JUDGED.jsonl REFERENCES.jsonl TAUGHT_FOLDER OUTPUT.jsonl
python -m scripts.tiny_short last JUDGED.jsonl ROWS.jsonl OUTPUT.jsonl

SEEDS.jsonl is self-instruct's seed_tasks.jsonl (Apache-2.0): short tasks and what people answered. `questions` writes
these and the questions of JUDGED.jsonl that are trained on as questions.jsonl, and people's answers as people.jsonl;
a task that a file MEASURED.jsonl (question_body) asks too is left out. `judgelm collect` has models answer the
questions, and `judgelm teach --scoring expected` has `tiny` compare all answers in both orders.

`rows` takes the pairs on which both orders agree, as plain verdicts: what the judge only says over both orders it
shall say in each. What it prefers to the answer of a person is left out. Real pairs, constructed ones, and pairs with a
reference of REFERENCES.jsonl (the third training's rows) stand among them, so that they are not unlearnt.

`last` takes real pairs of long answers, and some of those rows of short answers and of references again.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from judgelm.evaluation.results import JudgedSample, read_folder
from judgelm.jsonl import Record, read_lines, require, write_lines
from judgelm.judgement import Judgement, Outcome
from scripts.tiny_data import ENDINGS, KINDS, LICENSES, REFUSALS, Real, construct, fits, length, one_sentence, split_of

PEOPLE = "people"
MOST_CHARACTERS = 900
"""of a question, and of a person's answer"""
LEAST_LEAD = 0.15
"""of P(win) over P(lose) or the other way round, by the mean of both orders"""
PLAIN_LEAD = 0.6
PLAIN, CLOSE = (9, 3), (8, 5)
"""scores of the better answer and of the other, with a lead above PLAIN_LEAD and below"""
REAL = Real(300, 8, 2300, 1)
CONSTRUCTED, CHARACTERS = 60, (60, 500)
ENDING_ROWS = (50, 40, 60)
"""of each length of ENDINGS"""
WHOLE, TIES = 150, 30
"""whole solutions with a reference, and without one, of which none is better"""
SAID = "answers the question better."
"""the reason of short answers"""
LONG, LEAST_CHARACTERS = Real(170, 4, 4800, 1), 1200
AGAIN, REFERRED_AGAIN, LAST = 140, 50, 240
"""rows of short answers and of references in the last training, and rows of which it takes so many"""
WITH_REFERENCE = ("score", "reference", "text_w_reference", "score_w_reference")


def write_questions(seeds: Path, judged: Path, output: Path, measured: Sequence[Path]) -> None:
    """Write questions.jsonl and people.jsonl."""
    known = {
        part.strip()
        for path in measured
        for question in (require(line, "question_body", str) for line in read_lines(path))
        for part in (question, question.partition("\n")[0])
    }
    questions: list[Record] = []
    people: list[Record] = []
    for line in read_lines(seeds):
        asked, (instance, *_) = require(line, "instruction", str), require(line, "instances", list)
        question = "\n".join(part for part in (asked.strip(), instance["input"].strip()) if part)
        if asked.strip() in known or max(len(question), len(instance["output"])) > MOST_CHARACTERS:
            continue
        row = {"question_id": len(questions) + 1, "question_body": question}
        questions.append(row | {"license": "Apache-2.0", "source": "yizhongw/self-instruct"})
        people.append(row | {"text": instance["output"].strip(), "model": PEOPLE})
    first = {row["question_body"]: row for row in sorted(_open_rows(judged), key=_order)[::-1]}
    for question, row in sorted(first.items()):
        if len(question) <= MOST_CHARACTERS:
            about = {"license": row["license"], "source": row["source"]}
            questions.append({"question_id": len(questions) + 1, "question_body": question, **about})
    write_lines(output / "questions.jsonl", questions)
    write_lines(output / "people.jsonl", people)
    print(f"{output}: {len(questions)} questions, {len(people)} of them answered by people")


def write_rows(judged: Path, references: Path, taught: Path, output: Path) -> None:
    """Write the rows of the training, in random order."""
    rng = random.Random(4)
    short = [row for sample in read_folder(taught / "judged" / "without_reference") if (row := _short(sample))]
    trained = _open_rows(judged)
    real = _real(rng, trained, REAL)
    constructed = [construct(rng, trained, rng.randint(*CHARACTERS), REFUSALS, KINDS) for _ in range(CONSTRUCTED)]
    known = [line.record for line in read_lines(references)]
    rows = [*short, *real, *constructed, *_with_references(rng, known)]
    rng.shuffle(rows)
    write_lines(output, [row | {"question_id": number} for number, row in enumerate(rows, 1)])
    print(f"{output}: {len(rows)} rows, {len(short)} of short answers, {len(real)} real ones")


def write_last(judged: Path, rows: Path, output: Path) -> None:
    """Write the rows of the training after it."""
    rng = random.Random(5)
    before = [line.record for line in read_lines(rows)]
    short = [row for row in before if row["text"].endswith(SAID)]
    referred = [row for row in before if "reference" in row]
    chosen = _real(rng, [row for row in _open_rows(judged) if length(row) > LEAST_CHARACTERS], LONG)
    for known, wanted in ((short, AGAIN), (referred, REFERRED_AGAIN)):
        chosen += rng.sample(known, min(wanted, len(known)))
    rng.shuffle(chosen)
    write_lines(output, [row | {"question_id": number} for number, row in enumerate(chosen[:LAST], 1)])
    print(f"{output}: {len(chosen[:LAST])} rows")


def _real(rng: random.Random, rows: Iterable[Record], wanted: Real) -> list[Record]:
    """Real pairs that are no ties, with a sentence of reasons each."""
    by_question: dict[str, list[Record]] = {}
    for row in rows:
        if fits(row, wanted) and Judgement.parse(row["text"]).outcome is not Outcome.TIE:
            by_question.setdefault(row["question_body"], []).append(row)
    most = wanted.per_question
    found = [row for _, each in sorted(by_question.items()) for row in rng.sample(each, min(most, len(each)))]
    return [one_sentence(row) for row in rng.sample(found, min(wanted.rows, len(found)))]


def _open_rows(judged: Path) -> list[Record]:
    """Rows that may be trained on."""
    records = (line.record for line in read_lines(judged))
    return [row for row in records if row["license"] in LICENSES and split_of(row["question_body"]) == "train"]


def _order(row: Record) -> tuple[str, str, str]:
    return row["question_body"], row["license"], row["source"]


def _short(sample: JudgedSample) -> Record | None:
    """A pair of which both orders say the same."""
    probabilities = sample.probabilities
    assert probabilities is not None, "judged with --scoring expected"
    lead = probabilities[Outcome.WIN] - probabilities[Outcome.LOSE]
    better = 0 if lead > 0 else 1
    if not sample.consistent or abs(lead) < LEAST_LEAD or sample.models[1 - better] == PEOPLE:
        return None
    scores = (PLAIN if abs(lead) > PLAIN_LEAD else CLOSE)[:: 1 - 2 * better]
    return {
        "question_body": sample.question,
        "answer1_body": sample.answers[0],
        "answer2_body": sample.answers[1],
        "text": f"{scores[0]} {scores[1]}\nAssistant {better + 1} {SAID}",
    }


def _with_references(rng: random.Random, rows: Sequence[Record]) -> Iterable[Record]:
    """Endings, whole solutions with the reference, and few without."""
    begin = 0
    for (_, count), wanted in zip(ENDINGS, ENDING_ROWS, strict=True):
        stage = rows[begin : begin + count]
        yield from rng.sample(stage, min(wanted, len(stage)))
        begin += count
    whole = [row for row in rows[begin:] if "text_w_reference" in row]
    chosen = rng.sample(whole, min(WHOLE + TIES, len(whole)))
    yield from chosen[:WHOLE]
    for row in chosen[WHOLE:]:
        yield {name: value for name, value in row.items() if name not in WITH_REFERENCE}


def main(arguments: Sequence[str]) -> None:
    """Do what the first argument says."""
    match arguments:
        case ["questions", seeds, judged, output, *measured]:
            write_questions(Path(seeds), Path(judged), Path(output), [Path(each) for each in measured])
        case ["rows", judged, references, taught, output]:
            write_rows(Path(judged), Path(references), Path(taught), Path(output))
        case ["last", judged, rows, output]:
            write_last(Path(judged), Path(rows), Path(output))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
