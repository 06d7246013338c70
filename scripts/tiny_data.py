"""Choose the rows that `scripts/train_tiny.sh` trains on, and development rows on other questions.

python scripts/tiny_data.py JUDGED.jsonl OUTPUT_FOLDER

JUDGED.jsonl holds training rows with `license` and `source`. Only MIT and Apache-2.0 rows are taken. Questions are
split by a hash of their text; each question gives at most so many rows, drawn by a seed; very long ones are left out.
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
MAX_CHARACTERS = 5000
"""of question, answers and judgement: what a CPU can train on in an hour or two"""
ROWS_PER_QUESTION = {"train": 26, "train_long": 22, "dev": 14}
DEV_SHARE = 5
"""one question in so many"""


def main(source: Path, output: Path) -> None:
    """Write train.jsonl and dev.jsonl."""
    by_question: dict[str, list[Record]] = defaultdict(list)
    left_out: Counter[str] = Counter()
    for line in read_lines(source):
        license_, _ = require(line, "license", str), require(line, "source", str)
        if license_ not in LICENSES:
            left_out[license_] += 1
            continue
        by_question[require(line, "question_body", str)].append(_named(line.record))
    chosen: dict[str, list[Record]] = {"train": [], "dev": []}
    for question, rows in sorted(by_question.items()):
        digest = hashlib.sha256(question.encode()).digest()
        split = "dev" if digest[0] % DEV_SHARE == 0 else "train"
        drawn = random.Random(digest).sample(rows, len(rows))
        if split == "train":
            short = [row for row in drawn if _size(row) <= MAX_CHARACTERS]
            is_long = "h2o" in rows[0]["source"]
            chosen[split] += short[: ROWS_PER_QUESTION["train_long" if is_long else "train"]]
        else:
            chosen[split] += drawn[: ROWS_PER_QUESTION["dev"]]
    for split, rows in chosen.items():
        write_lines(output / f"{split}.jsonl", rows)
        print(f"{output / split}.jsonl: {len(rows)} rows, {len({row['question_body'] for row in rows})} questions")
    if left_out:
        print(f"left out for their licence: {dict(left_out)}")


def _named(record: Record) -> Record:
    """The answers under the names that the prompt gives them: h2o's reasons say model_a and model_b."""
    text = re.sub(r"\b[Mm]odel[_ ][aA]\b", "Assistant 1", record["text"])
    return record | {"text": re.sub(r"\b[Mm]odel[_ ][bB]\b", "Assistant 2", text)}


def _size(row: Record) -> int:
    return sum(len(row[name]) for name in ("question_body", "answer1_body", "answer2_body", "text"))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
