"""Answer files -> judge samples, joined on question_id, as the published preprocess scripts write them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from judgelm.jsonl import InputError, Line, Record, index_by_id, read_json, read_lines, require, write_lines
from judgelm.sample import MAX_ANSWERS

PathLike = str | os.PathLike[str]
JUDGELM_OUTPUT = "judgelm-val-5k-judge-samples.jsonl"
MMVET_OUTPUT = "mm-vet-judge-samples.jsonl"


def combine_answers(answer_files: Sequence[PathLike]) -> list[Record]:
    """One judge sample a question from two or more answer files; Assistant k's answer comes from the k-th file.

    The questions and their order are those of the first file. Raises InputError where a file lacks a question, has one
    more, or asks it in other words.
    """
    if not 2 <= len(answer_files) <= MAX_ANSWERS:
        raise InputError(f"expected 2 to {MAX_ANSWERS} answer files, found {len(answer_files)}")
    indexes = index_answers(answer_files)
    return [combine_lines([index[key] for index in indexes]) for key in indexes[0]]


def index_answers(answer_files: Sequence[PathLike]) -> list[dict[str, Line]]:
    """Each file's answers by id; raises InputError where a file lacks a question, or has one more than the first."""
    indexes = [index_by_id(read_lines(path)) for path in answer_files]
    first = indexes[0]
    for path, index in zip(answer_files[1:], indexes[1:], strict=True):
        for key in first.keys() - index.keys():
            raise InputError(f"{path} has no answer for question_id {key} (needed by {first[key].where})")
        for key in index.keys() - first.keys():
            raise InputError(f"{answer_files[0]} has no answer for question_id {key} (needed by {index[key].where})")
    return indexes


def combine_lines(lines: Sequence[Line]) -> Record:
    """One judge sample of a question's answers; raises InputError where they answer different questions."""
    first = lines[0]
    question = require(first, "question_body", str)
    for line in lines[1:]:
        if require(line, "question_body", str) != question:
            raise InputError(f"{line.where}: question_body differs from that of {first.where}")
    record: Record = {
        "question_id": first.record["question_id"],
        "score": [line.record.get("scores") for line in lines],
        "question_body": question,
    }
    numbered = list(enumerate(lines, start=1))
    record |= {f"answer{k}_body": require(line, "text", str) for k, line in numbered}
    record |= {f"answer{k}_model_id": line.record.get("model") for k, line in numbered}
    record |= {f"answer{k}_metadata": {"decoding_method": line.record.get("decoding_method")} for k, line in numbered}
    return record


def combine_mmvet(truth_file: PathLike, prediction_file: PathLike) -> list[Record]:
    """MM-Vet ground truth and a model's predictions, joined on the image question's name; ids are running numbers."""
    truth, predictions = read_json(truth_file), read_json(prediction_file)
    if not truth:
        raise InputError(f"{truth_file}: the file holds no question")
    records = []
    for number, (name, entry) in enumerate(truth.items()):
        if not isinstance(entry, dict):
            raise InputError(f"{truth_file}: {name} must be an object, found {type(entry).__name__}")
        for field in ("question", "answer"):
            if not isinstance(entry.get(field), str):
                raise InputError(f"{truth_file}: {name} has no text {field!r}")
        if not isinstance(predictions.get(name), str):
            raise InputError(f"{prediction_file} has no text for {name} (needed by {truth_file})")
        records.append({**entry, "answer1_body": predictions[name], "question_id": number})
    return records


def write_judgelm_samples(answer_files: Sequence[PathLike]) -> Path:
    """Write the samples to the published place, the folder above the first file's folder."""
    output = Path(answer_files[0]).expanduser().absolute().parent.parent / JUDGELM_OUTPUT
    write_lines(output, combine_answers(answer_files))
    return output


def write_mmvet_samples(truth_file: PathLike, prediction_file: PathLike) -> Path:
    """Write the samples to the published place, beside the ground truth."""
    output = Path(truth_file).expanduser().absolute().parent / MMVET_OUTPUT
    write_lines(output, combine_mmvet(truth_file, prediction_file))
    return output
