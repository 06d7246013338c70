from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import write_jsonl

from judgelm.errors import InputError
from judgelm.evaluation.results import read_files, read_folder
from judgelm.judgement import Outcome

FORWARD = {"question_id": 1, "question_body": "Why?", "answer1_body": "a", "answer2_body": "b", "pred_text": "9 4"}
NAMES = {"answer1_model_id": "m1", "answer2_model_id": "m2"}


def reversed_of(record: dict[str, Any], text: str) -> dict[str, Any]:
    exchanged = {"answer1_body": record["answer2_body"], "answer2_body": record["answer1_body"]}
    return record | exchanged | {"pred_text": text, "pred_order": "reversed"}


def test_a_reversed_judgement_is_read_as_of_the_answers_in_the_file(tmp_path: Path) -> None:
    forward = write_jsonl(tmp_path / "forward.jsonl", [FORWARD | NAMES | {"label": 1, "annotators": [1, 1, 0]}])
    write_jsonl(tmp_path / "reversed.jsonl", [reversed_of(FORWARD, "3 8\nSecond.")])
    (sample,) = read_folder(tmp_path)
    assert sample.reversed is not None
    assert sample.reversed.scores == (8, 3)
    assert sample.reversed.text == "3 8\nSecond.", "as it was written"
    assert sample.consistent is True
    assert sample.outcome_by("agree") is sample.outcome_by("scores") is Outcome.WIN
    assert sample.scores == (8.5, 3.5)
    assert sample.outcome_by("probabilities") is None
    assert sample.truth is not None
    assert sample.votes == (Outcome.WIN, Outcome.WIN, Outcome.TIE)
    forward.unlink()
    (alone,) = read_folder(tmp_path)
    assert alone.answers == ("a", "b")
    assert alone.outcome is Outcome.WIN


def test_contradicting_orders_are_a_tie_unless_scores_or_probabilities_decide(tmp_path: Path) -> None:
    def expected(win: float, tie: float, lose: float) -> dict[str, Any]:
        return {"pred_probabilities": {"win": win, "tie": tie, "lose": lose}, "pred_expected_scores": [5, 5]}

    forward = write_jsonl(tmp_path / "forward.jsonl", [FORWARD | expected(0.9, 0.0, 0.1)])
    back = write_jsonl(tmp_path / "back.jsonl", [reversed_of(FORWARD, "6 5") | expected(0.6, 0.1, 0.3)])
    (sample,) = read_files(forward, back)
    assert sample.outcome_by("agree") is Outcome.TIE
    assert sample.outcome_by("scores") is Outcome.TIE
    assert sample.outcome_by("probabilities") is Outcome.WIN
    assert sample.probabilities == pytest.approx({Outcome.WIN: 0.6, Outcome.TIE: 0.05, Outcome.LOSE: 0.35})


def test_probabilities_that_are_none_are_named(tmp_path: Path) -> None:
    """Half of them would be rated as a loss."""
    rows = [FORWARD | {"pred_probabilities": {"win": 0.3, "tie": 0.1, "lose": 0.1}}]
    with pytest.raises(InputError, match=r"forward\.jsonl:1: .* that sum to 1, found 0\.5"):
        read_files(write_jsonl(tmp_path / "forward.jsonl", rows))


MMVET = {
    "question_id": 3,
    "imagename": "v1_3.png",
    "question": "How many?",
    "answer": "4<OR>four",
    "capability": ["rec"],
}


@pytest.mark.parametrize("said", [{"pred_text": " 6\nNearly.", "pred_task": "mmvet"}, {"pred_text": "10 6\nNearly."}])
def test_an_answer_to_mmvet_stands_second_with_its_question_and_the_ground_truth_first(
    tmp_path: Path, said: dict[str, Any]
) -> None:
    """As the prompt shows them; also in a file that the original wrote, which does not name the task."""
    record = MMVET | {"answer1_body": "five", "answer1_model_id": "vlm"} | said
    (sample,) = read_files(write_jsonl(tmp_path / "forward.jsonl", [record]))
    assert sample.question == sample.cluster.capitalize() == "How many?"
    assert sample.answers == ("4<OR>four", "five")
    assert sample.models == (None, "vlm")
    assert sample.forward is not None
    assert sample.forward.scores == (10, 6)
    assert sample.known_answer


def test_a_single_answer_stands_second_beside_the_known_one_in_both_orders(tmp_path: Path) -> None:
    record = FORWARD | NAMES | {"pred_task": "single", "pred_text": " 4"}
    forward = write_jsonl(tmp_path / "forward.jsonl", [record])
    back = write_jsonl(tmp_path / "back.jsonl", [reversed_of(record, " 7")])
    (sample,) = read_files(forward, back)
    assert (sample.question, sample.answers, sample.models) == ("Why?", ("a", "b"), ("m1", "m2"))
    assert sample.known_answer
    assert sample.forward is not None
    assert sample.reversed is not None
    assert (sample.forward.scores, sample.reversed.scores) == ((10, 4), (7, 10))
    pair = read_files(write_jsonl(tmp_path / "pair.jsonl", [FORWARD]))
    assert not pair[0].known_answer


@pytest.mark.parametrize(
    ("given", "name"),
    [(7, "7"), (7.5, "7.5"), (True, "true"), ("7", "7"), ("", None), (None, None), ([], None), ("\x1b\u202e", None)],
)
def test_names_of_models_are_text_whatever_they_were(tmp_path: Path, given: Any, name: str | None) -> None:
    forward = write_jsonl(tmp_path / "forward.jsonl", [FORWARD | {"answer1_model_id": given}])
    assert read_files(forward)[0].models == (name, None)


def test_an_unread_order_leaves_no_outcome(tmp_path: Path) -> None:
    forward = write_jsonl(tmp_path / "forward.jsonl", [FORWARD])
    back = write_jsonl(tmp_path / "back.jsonl", [reversed_of(FORWARD, "none of them")])
    (sample,) = read_files(forward, back)
    assert (sample.outcome, sample.scores, sample.consistent) == (None, None, None)


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ({"question_id": 1, "label": 3}, r"teacher\.jsonl:1: expected label 1, 2 or 0 \(tie\), found 3"),
        (
            {"question_id": 1, "label": "tie"},
            r"teacher\.jsonl:1: expected label 1, 2 or 0 \(tie\), found 'tie'; --columns label=label of its file reads",
        ),
        ({"question_id": 1, "label": 1, "annotators": [1, "2"]}, r"teacher\.jsonl:1: expected label 1, 2 or 0"),
        ({"question_id": 1, "label": 1, "annotators": 2}, r"field 'annotators' must be list, found int"),
        ({"question_id": 2, "label": 1}, "has no teacher judgement for question_id 1"),
        ({"question_id": 1, "winner": "A"}, r"field 'text' or 'label' is missing \(found: question_id, winner\)"),
    ],
)
def test_a_wrong_truth_names_its_place(tmp_path: Path, teacher: dict[str, Any], message: str) -> None:
    forward = write_jsonl(tmp_path / "forward.jsonl", [FORWARD])
    with pytest.raises(InputError, match=message):
        read_files(forward, None, write_jsonl(tmp_path / "teacher.jsonl", [teacher]))


def test_a_file_in_place_of_a_folder_is_said_to_be_one(tmp_path: Path) -> None:
    forward = write_jsonl(tmp_path / "forward.jsonl", [FORWARD])
    with pytest.raises(InputError, match=r"forward\.jsonl is a file, expected a folder"):
        read_folder(forward)
