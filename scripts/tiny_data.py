"""Choose the rows that `scripts/train_tiny.sh` trains on, and development rows on other questions.

python scripts/tiny_data.py JUDGED.jsonl OBJECTIVE.jsonl OUTPUT_FOLDER

JUDGED.jsonl holds training rows with `license` and `source`. Only MIT and Apache-2.0 rows are taken. OBJECTIVE.jsonl
holds questions with a true solution (`reference`) and `answers`, each `correct` or not (GSM8K's examples, MIT).
Questions are split by a hash of their text.

- train.jsonl is a curriculum, in this order: constructed pairs, an answer from JUDGED against one that is plainly worse
  (from them a model this small learns within a few hundred rows to compare two answers; from real pairs alone it did
  not); short real pairs that are far apart; real pairs of any length. A few constructed ones stay among the real ones.
- further.jsonl: the real pairs that train.jsonl left, for a second training of the adapter, with short constructed ones
  among them.
- references.jsonl: for a third training, in both orders and with references, a curriculum again: bare results, of which
  the one is right that stands in the reference; the last lines of solutions, two and then four; whole solutions, of
  which without a reference none is better, with real pairs among them.
- dev.jsonl: real pairs of the other questions, as they are.
- dev_objective.jsonl: a right and a wrong solution of the other questions of OBJECTIVE.jsonl.

Of the teacher's reasons one sentence is kept, so that a CPU can train on thousands of rows in an hour.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from judgelm.jsonl import Record, read_lines, require, write_lines
from judgelm.judgement import Judgement

LICENSES = ("MIT", "Apache-2.0")
DEV_SHARE = 5
"""one question in so many"""
DEV_ROWS = 14
"""most rows of a development question"""
MAX_REASON = 240
"""characters"""
REFUSALS = (
    "I don't know.",
    "Sorry, I cannot answer that.",
    "I am not sure.",
    "As an AI language model, I can't help with that.",
    "...",
    "Yes.",
)
KINDS = ("refusal", "refusal", "cut", "other")
"""of constructed pairs, as often as they are named"""


class Constructed(NamedTuple):
    """Constructed pairs at the beginning of the training file."""

    rows: int
    characters: int
    """of the good answer"""
    refusals: Sequence[str] = REFUSALS
    kinds: Sequence[str] = KINDS


class Real(NamedTuple):
    """Real pairs after them."""

    rows: int
    per_question: int
    characters: int
    """most of question and answers"""
    gap: float
    """least distance of the scores; ties are taken too"""


CONSTRUCTED = (Constructed(280, 150, REFUSALS[:1], ("refusal",)), Constructed(320, 200), Constructed(320, 600))
EASY = Real(600, 12, 1500, 2)
HARD = Real(2000, 32, 4500, 1)
FURTHER = Real(4000, 100, 3000, 1)
REFERENCED = Real(250, 40, 2000, 1)
ENDINGS = ((1, 240), (2, 200), (4, 240))
"""how many last lines of solutions, and of the true one, are shown in how many rows, before whole solutions"""
WHOLE = 450
"""rows of whole solutions after them"""
PAIRS = 4
"""most pairs of a right and a wrong solution of one question"""
ALIKE = 0.08
"""of pairs of which both are right or both wrong"""
RIGHT_FIRST = [9, 2]
"""scores of a right solution and of a wrong one, where the reference is shown"""
CONSTRUCTED_SHARE = 0.08
"""of constructed pairs that stay among the real ones"""
FURTHER_SHARE = 0.15
"""of the same in the second training: short ones, because the real answers are long"""


def main(source: Path, objective: Path, output: Path) -> None:
    """Write the three files of rows to train on, and the two to measure with."""
    splits: dict[str, dict[str, list[Record]]] = {"train": defaultdict(list), "dev": defaultdict(list)}
    left_out: Counter[str] = Counter()
    for line in read_lines(source):
        license_, _ = require(line, "license", str), require(line, "source", str)
        if license_ not in LICENSES:
            left_out[license_] += 1
            continue
        question = require(line, "question_body", str)
        splits[split_of(question)][question].append(line.record)
    rng = random.Random(0)
    for rows in (rows for split in splits.values() for _, rows in sorted(split.items())):
        rng.shuffle(rows)
    if len(splits["train"]) < 2:
        sys.exit(f"{source}: expected two training questions or more, found {len(splits['train'])}")
    good = [row for _, rows in sorted(splits["train"].items()) for row in rows]
    train = [
        construct(rng, good, stage.characters, stage.refusals, stage.kinds)
        for stage in CONSTRUCTED
        for _ in range(stage.rows)
    ]
    easy = _choose(rng, splits["train"], EASY, ())
    chosen = easy + _choose(rng, splits["train"], HARD, easy)
    train += _with_constructed(rng, chosen, good, CONSTRUCTED_SHARE, (150, 1200))
    left = _choose(rng, splits["train"], FURTHER, chosen)
    further = _with_constructed(rng, left, good, FURTHER_SHARE, (60, 600))
    dev = [row for _, rows in sorted(splits["dev"].items()) for row in rows[:DEV_ROWS]]
    solved = _solutions(rng, objective)
    referenced = _choose(rng, splits["train"], REFERENCED, ())
    whole = rng.sample(solved["train"], min(WHOLE, len(solved["train"])))
    references = [row for lines, wanted in ENDINGS for row in _endings(rng, solved["train"], lines, wanted)]
    mixed = [*map(one_sentence, referenced), *whole]
    references += rng.sample(mixed, len(mixed))
    # what is right is asked without the reference too
    dev_objective = [
        row | {"text": row["text_w_reference"], "score": row["score_w_reference"]}
        for row in solved["dev"]
        if row["score_w_reference"] in (RIGHT_FIRST, RIGHT_FIRST[::-1])
    ]
    files = {"train": train, "further": further, "references": references, "dev": dev, "dev_objective": dev_objective}
    for name, rows in files.items():
        write_lines(output / f"{name}.jsonl", [row | {"question_id": number} for number, row in enumerate(rows, 1)])
        print(f"{output / name}.jsonl: {len(rows)} rows, {len({row['question_body'] for row in rows})} questions")
    if left_out:
        print(f"left out for their licence: {dict(left_out)}")


def split_of(question: str) -> str:
    """Where a question's rows go: train, or dev."""
    return "dev" if hashlib.sha256(question.encode()).digest()[0] % DEV_SHARE == 0 else "train"


def _solutions(rng: random.Random, source: Path) -> dict[str, list[Record]]:
    """Pairs of a right and a wrong solution of each question, and few of one kind."""
    splits: dict[str, list[Record]] = {"train": [], "dev": []}
    for line in read_lines(source):
        question, answers = require(line, "question_body", str), list(require(line, "answers", list))
        reference = require(line, "reference", dict)["text"]
        rng.shuffle(answers)
        # an answer that was cut off says no result
        told = [each for each in answers if each["text"].strip().rpartition("\n")[2].startswith("A:")]
        right, wrong = ([each for each in told if each["correct"] == wanted] for wanted in (True, False))
        mixed = list(itertools.product(right, wrong))
        pairs = rng.sample(mixed, min(PAIRS, len(mixed)))
        pairs += [(alike[0], alike[1]) for alike in (right, wrong) if len(alike) > 1 and rng.random() < 2 * ALIKE]
        for pair in pairs:
            splits[split_of(question)].append(_solved(rng, question, reference, pair))
    return splits


def _endings(rng: random.Random, solved: Sequence[Record], lines: int, wanted: int) -> list[Record]:
    """Rows whose solutions, the true one too, are their last lines: of one line the bare result, "A: 20"."""
    rows = []
    for row in rng.sample(solved, min(wanted, len(solved))):
        texts = (row["answer1_body"], row["answer2_body"], row["reference"]["text"])
        first, second, true = ("\n".join(text.strip().split("\n")[-lines:]) for text in texts)
        rows.append(row | {"answer1_body": first, "answer2_body": second, "reference": {"text": true}})
    return rows


def _solved(rng: random.Random, question: str, reference: str, pair: Sequence[Record]) -> Record:
    """A training row with and without the reference."""
    shown = rng.sample(pair, 2)
    scores = [RIGHT_FIRST[0] if answer["correct"] else RIGHT_FIRST[1] for answer in shown]
    said = {
        (True, True): "Both solutions come to the reference's result.",
        (False, False): "Neither solution comes to the reference's result.",
        (True, False): "Assistant 1 comes to the reference's result, and Assistant 2 does not.",
        (False, True): "Assistant 2 comes to the reference's result, and Assistant 1 does not.",
    }[shown[0]["correct"], shown[1]["correct"]]
    return {
        "question_body": question,
        "answer1_body": shown[0]["text"],
        "answer2_body": shown[1]["text"],
        "text": "6 6\nBoth solutions go step by step to a result, and which one is right is not known.",
        "score": [6, 6],
        "reference": {"text": reference},
        "text_w_reference": f"{scores[0]} {scores[1]}\n{said}",
        "score_w_reference": scores,
        "license": "MIT",
        "source": "openai/grade-school-math, example solutions",
    }


def _with_constructed(
    rng: random.Random, rows: Sequence[Record], good: Sequence[Record], share: float, characters: tuple[int, int]
) -> list[Record]:
    """The rows with one sentence of reasons each, and a constructed row after some of them."""
    result = []
    for row in rows:
        result.append(one_sentence(row))
        if rng.random() < share:
            result.append(construct(rng, good, rng.randint(*characters), REFUSALS, KINDS))
    return result


def construct(
    rng: random.Random, rows: Sequence[Record], characters: int, refusals: Sequence[str], kinds: Sequence[str]
) -> Record:
    """A row whose better answer is plain: against a refusal, its own beginning, or the answer to another question."""
    row = rng.choice(rows)
    scores = Judgement.parse(row["text"]).scores or (0.0, 0.0)
    better = row["answer1_body" if scores[0] >= scores[1] else "answer2_body"][:characters]
    kind = kinds[0] if len(kinds) == 1 else rng.choice(kinds)
    if kind == "refusal":
        worse, score, reason = rng.choice(refusals), 1, "does not answer the question."
    elif kind == "cut":
        worse, score, reason = better[: int(len(better) * rng.uniform(0.1, 0.4))], 3, "breaks off early."
    else:
        drawn = [*rng.choices(rows, k=20), *rows]
        other = next(other for other in drawn if other["question_body"] != row["question_body"])
        end = rng.randint(characters // 3, characters)
        worse, score, reason = other["answer1_body"][:end], 2, "answers another question."
    # half of them in either order, so that a training without swap augmentation sees both
    pairs = [(better, 9), (worse, score)]
    rng.shuffle(pairs)
    place = 1 + (pairs[1][1] == score)
    (answer1, score1), (answer2, score2) = pairs
    return {
        "question_body": row["question_body"][: max(150, characters // 2)],
        "answer1_body": answer1,
        "answer2_body": answer2,
        "text": f"{score1} {score2}\nAssistant {place} {reason}",
        "license": row["license"],
        "source": f"constructed ({kind}) from {row['source']}",
    }


def _choose(
    rng: random.Random, by_question: dict[str, list[Record]], wanted: Real, taken: Sequence[Record]
) -> list[Record]:
    """Rows as wanted and not yet taken, in random order."""
    used = {id(row) for row in taken}
    chosen = []
    for _, rows in sorted(by_question.items()):
        fitting = [row for row in rows if id(row) not in used and fits(row, wanted)]
        chosen += fitting[: wanted.per_question]
    return rng.sample(chosen, min(len(chosen), wanted.rows))


def fits(row: Record, wanted: Real) -> bool:
    """Whether a row is short enough, and its scores are far enough apart, or a tie."""
    scores = Judgement.parse(row["text"]).scores
    if scores is None or length(row) > wanted.characters:
        return False
    gap = abs(scores[0] - scores[1])
    return gap == 0 or gap >= wanted.gap


def length(row: Record) -> int:
    """In characters, of question and answers."""
    return sum(len(row[name]) for name in ("question_body", "answer1_body", "answer2_body"))


def one_sentence(record: Record) -> Record:
    """The score line and the first sentence that speaks of an answer.

    h2o's reasons say "model_a", and begin with steps such as "I read the question".
    """
    scores, _, reasons = record["text"].strip().partition("\n")
    reasons = re.sub(r"\b[Mm]odel[_ ][aA]\b", "Assistant 1", reasons)
    reasons = re.sub(r"\b[Mm]odel[_ ][bB]\b", "Assistant 2", reasons)
    sentences = re.split(r"(?<=[.!?])\s+", reasons.strip())
    plain = [re.sub(r"^Step \d+:\s*", "", sentence) for sentence in sentences]
    spoken = [s for s in plain if "Assistant" in s and " I " not in f" {s}" and len(s) <= MAX_REASON]
    return record | {"text": f"{scores}\n{spoken[0]}" if spoken else f"{scores}\n"}


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*map(Path, sys.argv[1:]))
