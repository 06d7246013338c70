"""Choose the rows that `scripts/train_tiny.sh` trains on, and development rows on other questions.

python scripts/tiny_data.py JUDGED.jsonl OUTPUT_FOLDER

JUDGED.jsonl holds training rows with `license` and `source`. Only MIT and Apache-2.0 rows are taken. Questions are
split by a hash of their text; each question gives at most so many rows, drawn by a seed. So that a CPU can train on
thousands of rows in an hour, long rows are left out of training, and of the teacher's reasons one sentence is kept.
"""

from __future__ import annotations

import hashlib
import random
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

from judgelm.jsonl import Record, read_lines, require, write_lines

LICENSES = ("MIT", "Apache-2.0")
MAX_CHARACTERS = 2500
"""of a training row's question and answers"""
MAX_REASON = 240
ROWS_PER_QUESTION = {"train": 40, "dev": 14}
DEV_SHARE = 5
"""one question in so many"""
WATCHED = 48
"""short development rows whose loss is measured while training"""


def main(source: Path, output: Path) -> None:
    """Write train.jsonl, dev.jsonl and watch.jsonl."""
    by_question: dict[str, list[Record]] = defaultdict(list)
    left_out: Counter[str] = Counter()
    for line in read_lines(source):
        license_, _ = require(line, "license", str), require(line, "source", str)
        if license_ not in LICENSES:
            left_out[license_] += 1
            continue
        by_question[require(line, "question_body", str)].append(line.record)
    chosen: dict[str, list[Record]] = {"train": [], "dev": []}
    for question, rows in sorted(by_question.items()):
        digest = hashlib.sha256(question.encode()).digest()
        split = "dev" if digest[0] % DEV_SHARE == 0 else "train"
        drawn = random.Random(digest).sample(rows, len(rows))
        if split == "train":
            drawn = [_one_sentence(row) for row in drawn if _size(row) <= MAX_CHARACTERS]
        chosen[split] += drawn[: ROWS_PER_QUESTION[split]]
    short = [_one_sentence(row) for row in chosen["dev"] if _size(row) <= MAX_CHARACTERS]
    chosen["watch"] = random.Random(0).sample(short, WATCHED)
    for split, rows in chosen.items():
        write_lines(output / f"{split}.jsonl", rows)
        print(f"{output / split}.jsonl: {len(rows)} rows, {len({row['question_body'] for row in rows})} questions")
    if left_out:
        print(f"left out for their licence: {dict(left_out)}")


def _one_sentence(record: Record) -> Record:
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


def _size(row: Record) -> int:
    return sum(len(row[name]) for name in ("question_body", "answer1_body", "answer2_body"))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
