"""The rows that `scripts/train_tiny.sh` trains on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import write_jsonl
from jurors import write_judge

from judgelm.judgement import Judgement, Outcome
from scripts.tiny_data import split_of
from scripts.tiny_short import main


def test_the_training_rows_of_tiny_are_chosen_by_licence_and_split_by_question(run: Any, tmp_path: Path) -> None:
    """What `scripts/train_tiny.sh` does first, on rows made here."""
    records = [
        {
            "question_id": number,
            "question_body": f"Question {number % 120}: why?",
            "answer1_body": f"Because {number}. " * 30,
            "answer2_body": f"No idea {number}. " * 10,
            "text": "9 5\nStep 1: I read the question.\nmodel_a explains it. model_b does not.",
            "license": "MIT" if number % 3 else "CC BY-NC 4.0",
            "source": "here",
        }
        for number in range(4800)
    ]
    judged = write_jsonl(tmp_path / "judged.jsonl", records)
    objective = write_jsonl(tmp_path / "objective.jsonl", [_solved(number) for number in range(200)])
    result = run("scripts/tiny_data.py", judged, objective, tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert "left out for their licence: {'CC BY-NC 4.0': 1600}" in result.stdout
    train, further, dev = (
        [json.loads(line) for line in (tmp_path / "out" / f"{name}.jsonl").read_text().splitlines()]
        for name in ("train", "further", "dev")
    )
    constructed = [row["source"].startswith("constructed") for row in train]
    assert all(constructed[:920])
    real = [row for row, made in zip(train, constructed, strict=True) if not made]
    assert {row["text"] for row in real} == {"9 5\nAssistant 1 explains it."}
    assert {row["license"] for row in [*train, *dev]} == {"MIT"}
    assert dev
    assert not {row["question_body"] for row in train} & {row["question_body"] for row in dev}
    answers = [{row["answer1_body"] for row in rows if row["source"] == "here"} for rows in (train, further)]
    assert all(answers)
    assert not answers[0] & answers[1]
    assert not {row["question_body"] for row in further} & {row["question_body"] for row in dev}
    first = [Judgement.parse(row["text"]).outcome for row in train[:920]]
    assert 0.4 < first.count(Outcome.WIN) / 920 < 0.6
    _check_solutions(tmp_path / "out")
    again = run("scripts/tiny_data.py", judged, objective, tmp_path / "again")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "again" / "train.jsonl").read_bytes() == (tmp_path / "out" / "train.jsonl").read_bytes()


def _solved(number: int) -> dict[str, Any]:
    """A question of which the first `number` modulo 5 of four solutions are right."""
    answers = [
        {
            "text": f"By way {place}\nstep by step\nand at last\nto the result:\n"
            f"A: {number if place < number % 5 else -1}",
            "correct": place < number % 5,
        }
        for place in range(4)
    ]
    answers.append({"text": "It breaks off before", "correct": False})
    return {"question_body": f"Sum {number}?", "reference": {"text": f"So\nit\nis\n\nA: {number}"}, "answers": answers}


def _check_solutions(folder: Path) -> None:
    references, dev = (
        [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
        for name in ("references", "dev_objective")
    )
    solved = [row for row in references if "text_w_reference" in row]
    assert 0 < len(solved) < len(references)
    assert not {row["question_body"] for row in solved} & {row["question_body"] for row in dev}
    lines = [len(row["answer1_body"].splitlines()) for row in references if "text_w_reference" in row]
    # bare results first, then more and more of the solutions
    assert lines == sorted(lines)
    assert set(lines) == {1, 2, 4, 5}
    for row in solved:
        right = row["reference"]["text"].rpartition("A: ")[2]
        scores = [9 if row[f"answer{place}_body"].endswith(f"A: {right}") else 2 for place in (1, 2)]
        assert row["score_w_reference"] == scores
        assert row["text_w_reference"].startswith(f"{scores[0]} {scores[1]}\n")
        assert row["score"] == [6, 6]
    assert {tuple(row["score_w_reference"]) for row in solved} == {(9, 9), (2, 2), (9, 2), (2, 9)}
    # of the others a right and a wrong one only, and the truth is asked for with and without the reference
    assert {tuple(row["score"]) for row in dev} == {(9, 2), (2, 9)}
    assert all(row["text"] == row["text_w_reference"] for row in dev)


def test_short_tasks_are_asked_unless_they_are_measured_with(tmp_path: Path) -> None:
    tasks = [
        ("Add", "1 and 1", "2"),
        ("Name a town", "", "Rome"),
        ("Say it all", "", "long " * 200),
        ("Sing", "", "La"),
    ]
    seeds = write_jsonl(
        tmp_path / "seeds.jsonl",
        [{"instruction": asked, "instances": [{"input": given, "output": said}]} for asked, given, said in tasks],
    )
    judged = write_jsonl(tmp_path / "judged.jsonl", [_judged(number) for number in range(40)])
    measured = write_jsonl(tmp_path / "measured.jsonl", [{"question_body": "Sing\nin tune"}])
    main(["questions", str(seeds), str(judged), str(tmp_path / "out"), str(measured)])
    questions, people = (_read(tmp_path / "out" / f"{name}.jsonl") for name in ("questions", "people"))
    assert [(row["question_body"], row["text"]) for row in people] == [("Add\n1 and 1", "2"), ("Name a town", "Rome")]
    assert [row["question_id"] for row in questions] == list(range(1, len(questions) + 1))
    assert [row["question_body"] for row in questions[:2]] == ["Add\n1 and 1", "Name a town"]
    trained = {f"Why {number}?" for number in range(0, 40, 2) if split_of(f"Why {number}?") == "train"}
    assert {row["question_body"] for row in questions[2:]} == trained
    assert {row["license"] for row in questions} == {"MIT", "Apache-2.0"}


def test_the_judge_learns_what_it_says_in_both_orders_of_short_answers(tmp_path: Path) -> None:
    plain, close, even = (0.9, 0, 0.1), (0.3, 0.1, 0.6), (0.5, 0.1, 0.4)
    said = ["ww", "ll", "wl", "ww", "ww", "ll"]
    folder = write_judge(
        tmp_path / "taught" / "judged" / "without_reference",
        said,
        probabilities=[plain, close, even, even, plain, plain[::-1]],
    )
    # the last two are of a person's answer, which stands second
    for order, names in (("forward", ("small", "people")), ("reversed", ("people", "small"))):
        rows = _read(folder / f"{order}.jsonl")
        for row in rows[4:]:
            row["answer1_model_id"], row["answer2_model_id"] = names
        write_jsonl(folder / f"{order}.jsonl", rows)
    judged = write_jsonl(tmp_path / "judged.jsonl", [_judged(number) for number in range(40)])
    references = write_jsonl(tmp_path / "references.jsonl", [_referred(number) for number in range(900)])
    out = tmp_path / "rows.jsonl"
    main(["rows", str(judged), str(references), str(tmp_path / "taught"), str(out)])
    rows = _read(out)
    short = {row["question_body"]: row["text"].split("\n")[0] for row in rows if row["question_body"][:8] == "Question"}
    assert short == {"Question 0?": "9 3", "Question 1?": "5 8", "Question 5?": "3 9"}
    solved = [row for row in rows if row["question_body"][:3] == "Sum"]
    with_reference = [row for row in solved if "reference" in row]
    assert len(solved) - len(with_reference) == 30
    assert all("text_w_reference" not in row and row["text"] == "6 6" for row in solved if "reference" not in row)
    numbers = [int(row["question_body"][4:-1]) for row in with_reference]
    stages = [sum(begin <= number < end for number in numbers) for begin, end in ((0, 240), (240, 440), (440, 680))]
    assert stages == [50, 40, 60]
    assert len(numbers) == sum(stages) + 150
    real = [row for row in rows if row["question_body"][:3] == "Why" and not row.get("source", "").startswith("constr")]
    assert real
    assert {split_of(row["question_body"]) for row in real} == {"train"}
    last = tmp_path / "last.jsonl"
    longer = write_jsonl(
        tmp_path / "longer.jsonl", [_judged(k) | {"answer1_body": "Because. " * 10 * k} for k in range(40)]
    )
    main(["last", str(longer), str(out), str(last)])
    lengths = [len(row["answer1_body"]) for row in _read(last) if row["question_body"][:3] == "Why"]
    assert lengths
    assert min(lengths) > 1100
    assert sum(row["question_body"][:8] == "Question" for row in _read(last)) == 3
    assert sum("reference" in row for row in _read(last)) == 50
    first = out.read_bytes()
    main(["rows", str(judged), str(references), str(tmp_path / "taught"), str(out)])
    assert out.read_bytes() == first


def test_what_is_written_is_said_where_arguments_are_missing() -> None:
    with pytest.raises(SystemExit, match="tiny_short rows JUDGED"):
        main(["rows", "judged.jsonl"])


def _judged(number: int) -> dict[str, Any]:
    """Every other one is of a licence that may be trained on."""
    return {
        "question_id": number,
        "question_body": f"Why {number}?",
        "answer1_body": f"Because {number}. " * 5,
        "answer2_body": f"No idea {number}.",
        "text": "9 5\nAssistant 1 explains it.",
        "license": "CC BY-NC 4.0" if number % 2 else "MIT",
        "source": "here",
    }


def _referred(number: int) -> dict[str, Any]:
    return {
        "question_id": number,
        "question_body": f"Sum {number}?",
        "answer1_body": "A: 1",
        "answer2_body": "A: 2",
        "text": "6 6",
        "score": [6, 6],
        "reference": {"text": "A: 1"},
        "text_w_reference": "9 2",
        "score_w_reference": [9, 2],
    }


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
