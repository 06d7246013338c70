from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judgelm.jsonl import Line
from judgelm.sample import Sample
from judgelm.train import TrainingSample

texts = st.text(st.characters(codec="utf-8"), max_size=30)
ROW: dict[str, Any] = {
    "question_id": 7,
    "review_id": "r7",
    "question_body": "Q?",
    "answer1_body": "first",
    "answer2_body": "second",
    "answer1_id": "a",
    "answer2_id": "b",
    "answer1_model_id": "m1",
    "answer2_model_id": "m2",
    "answer1_metadata": {"decoding_method": "greedy"},
    "answer2_metadata": {"decoding_method": "top_p"},
    "score": [8.0, 7.0],
    "text": "8 7\nAssistant 1 is better.",
    "reference": {"text": "R", "model": "gpt", "decoding_method": "none"},
    "score_w_reference": [6.0, 9.0],
    "text_w_reference": "6 9\nAssistant 2 is better.",
}


def line(record: dict[str, Any]) -> Line:
    return Line(record, Path("rows.jsonl"), 1)


@given(st.lists(texts, min_size=2, max_size=10))
def test_swapping_a_sample_twice_is_identity(answers: list[str]) -> None:
    sample = Sample(1, "Q", answers)
    assert sample.swapped().answers == (answers[1], answers[0], *answers[2:])
    assert sample.swapped().swapped() == sample
    read = Sample.from_record(sample.to_record(), len(answers))
    assert Sample.from_record(read.to_record(), len(answers)) == read


# D14 of docs/differences.md
def test_swap_exchanges_all_that_a_record_says_of_the_two_answers() -> None:
    sample = Sample.from_record({name: value for name, value in ROW.items() if "text" not in name})
    swapped = sample.swapped().to_record()
    assert (swapped["answer1_body"], swapped["answer1_model_id"], swapped["answer1_id"]) == ("second", "m2", "b")
    assert swapped["answer2_metadata"] == {"decoding_method": "greedy"}
    assert swapped["score"] == [7.0, 8.0]
    assert swapped["question_body"] == "Q?"
    assert list(swapped) == list(sample.record)
    assert sample.swapped().swapped() == sample


def test_a_teacher_judgement_in_the_record_stays_as_it_was_given() -> None:
    swapped = Sample.from_record(ROW).swapped().to_record()
    assert (swapped["text"], swapped["score"]) == (ROW["text"], ROW["score"])


def test_a_field_only_one_answer_has_moves_with_it() -> None:
    record = {"question_id": 1, "question_body": "Q", "answer1_body": "a", "answer2_body": "b", "answer1_note": "x"}
    assert Sample.from_record(record).swapped().to_record()["answer2_note"] == "x"
    assert Sample.from_record(record).swapped().swapped().to_record() == record


def test_training_row_swaps_answers_scores_and_reasons_together() -> None:
    row = TrainingSample.from_line(line(ROW))
    swapped = row.swapped()
    assert swapped.sample.answers == ("second", "first")
    assert swapped.judgement.text == "7 8\nAssistant 2 is better."
    assert swapped.judgement_with_reference is not None
    assert swapped.judgement_with_reference.text == "9 6\nAssistant 1 is better."
    assert swapped.swapped() == row
    assert row.to_record() == ROW
    assert TrainingSample.from_line(line(swapped.to_record())).to_record() == swapped.to_record()


def test_judgement_shown_belongs_to_the_prompt_shown() -> None:
    row = TrainingSample.from_line(line(ROW))
    sample, text, _ = row.shown(with_reference=True)
    assert (sample.reference, text) == ("R", ROW["text_w_reference"])
    sample, text, _ = row.shown(with_reference=False)
    assert (sample.reference, text) == (None, ROW["text"])


def test_training_row_without_reference_fields_is_valid() -> None:
    bare = {name: value for name, value in ROW.items() if "reference" not in name}
    row = TrainingSample.from_line(line(bare))
    assert row.shown(with_reference=True)[0].reference is None
    assert row.to_record() == bare


# D19 of docs/differences.md
def test_mmvet_alternative_is_picked_by_id_and_parts_are_joined() -> None:
    record = {"question_id": 3, "question": "Q", "answer": "x<OR>y<OR>z", "answer1_body": "model", "imagename": "i.png"}
    picks = {Sample.from_mmvet_line(line({**record, "question_id": k})).answers[0] for k in range(40)}
    assert picks == {"x", "y", "z"}
    assert len({Sample.from_mmvet_line(line(record)).answers[0] for _ in range(20)}) == 1
    assert len({Sample.from_mmvet_line(line(record), seed).answers[0] for seed in range(20)}) > 1
    nested = Sample.from_mmvet_line(line({**record, "answer": "a<AND>b<OR>a<AND>b"}))
    assert nested.answers[0] == "a and b"
    both = Sample.from_mmvet_line(line({**record, "answer": "x<AND>y"}))
    assert (both.answers, both.reference) == (("x and y", "model"), "x<AND>y")


def test_impossible_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="1 to 10 answers"):
        Sample(1, "Q", [])
    with pytest.raises(ValueError, match="answer 2 must be str"):
        Sample(1, "Q", ["a", 2])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="surrogate"):
        Sample(1, "Q", ["a", "\ud800"])
    with pytest.raises(ValueError, match="answers must be a list of texts, found str"):
        Sample(1, "Q", "ab")
