from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import write_jsonl
from hypothesis import given, settings
from hypothesis import strategies as st
from judged_texts import measured

from judgelm.errors import InputError
from judgelm.evaluation.evaluation import measure_files
from judgelm.llm_judge import common

PUBLISHED = [
    "accuracy",
    "precision",
    "recall",
    "f1",
    "consistency",
    "perfer_before_rate",
    "perfer_after_rate",
    "delta_bias",
    "total_bias",
    "total_num",
]
scores = st.tuples(st.integers(1, 10), st.integers(1, 10)).map(lambda s: f"{s[0]} {s[1]}\nwhy")
odd = st.sampled_from(["", "8", "8, 9", "8,9", "7 7 ", "error", "nan nan", "-1 -1", "8.5 7", "9/10 8/10", "12 11"])
texts = scores | scores | odd


def published_reading(text: str) -> list[float]:
    """FORMATS: text before the first newline, commas become spaces, split on single spaces, exactly two floats."""
    try:
        first, second = text.split("\n")[0].replace(",", " ").split(" ")
        return [float(first), float(second)]
    except ValueError:
        return [-1.0, -1.0]


def published_metrics(rows: list[tuple[str, str, str]]) -> dict[str, float]:
    """FORMATS' definition, counted by hand, class by class."""
    rows_read = [tuple(published_reading(text) for text in row) for row in rows]
    kept = [row for row in rows_read if row[0][0] != -1 and row[0][1] != -1]
    outcomes = [tuple(0 if not (s[0] > s[1] or s[0] < s[1]) else (1 if s[0] > s[1] else -1) for s in r) for r in kept]
    total = len(outcomes)
    per_class = []
    for label in sorted({o[0] for o in outcomes} | {o[1] for o in outcomes}):
        hit = sum(t == label == f for t, f, _ in outcomes)
        said = sum(f == label for _, f, _ in outcomes)
        true = sum(t == label for t, _, _ in outcomes)
        precision, recall = hit / said if said else 0.0, hit / true if true else 0.0
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        per_class.append((precision, recall, f1))
    before = sum(-f < r for _, f, r in outcomes)
    after = sum(-f > r for _, f, r in outcomes)
    macro = [sum(column) / len(per_class) for column in zip(*per_class, strict=True)]
    return {
        "accuracy": sum(t == f for t, f, _ in outcomes) / total,
        "precision": macro[0],
        "recall": macro[1],
        "f1": macro[2],
        "consistency": sum(-f == r for _, f, r in outcomes) / total,
        "perfer_before_rate": before / total,
        "perfer_after_rate": after / total,
        "delta_bias": abs(before - after) / total,
        "total_bias": (before + after) / total,
        "total_num": total,
    }


@settings(max_examples=60)
@given(st.lists(st.tuples(texts, texts, texts), max_size=30))
def test_published_keys_have_the_published_values(rows: list[tuple[str, str, str]]) -> None:
    rows = [*rows, ("8 7", "8 7", "7 8")]
    found = measured(*((forward, reversed_, teacher) for teacher, forward, reversed_ in rows))
    expected = published_metrics(rows)
    assert list(expected) == PUBLISHED
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-12), name


# D3 of docs/differences.md
def test_unparsed_judgement_is_counted_and_reported() -> None:
    found = measured(
        ("8 7", "7 8", "9 2"),
        ("garbage", "7 8", "5 5"),
        ("8, 7", "8 7", "9 2"),
        ("8 7", "", "no idea"),
        ("2 3", "2 3", "4 5"),
    )
    assert found["total"] == found["total_num"] == 4
    assert (found["dropped_teacher"], found["unparsed_forward"], found["repaired_forward"]) == (1, 1, 1)
    assert (found["unparsed_reversed"], found["repaired_reversed"]) == (0, 0)
    # the published rule calls garbage and "8, 7" ties; ours reads the second and lets the first agree with nothing
    assert (found["accuracy"], found["agreement"]) == (0.75, 0.75)
    assert (found["bias_first"], found["bias_second"]) == (0.25, 0.25)


def test_without_a_teacher_only_consistency_and_bias_are_given() -> None:
    found = measured(("8 7", "7 8", None), ("8 7", "8 7", None))
    assert found["consistency"] == 0.5
    assert found["bias_first"] == 0.5
    assert not {"accuracy", "agreement", "f1"} & set(found)
    assert "consistency" not in measured(("8 7", None, None))


def test_nothing_to_evaluate_is_said() -> None:
    with pytest.raises(ValueError, match="no row has a teacher"):
        measured(("8 7", None, "no idea"))


def rows(field: str, texts: dict[Any, str]) -> list[dict[str, Any]]:
    return [{"question_id": key, field: text} for key, text in texts.items()]


def test_files_are_joined_by_id_whatever_their_order(tmp_path: Path) -> None:
    teacher = write_jsonl(tmp_path / "t.jsonl", rows("text", {1: "8 7", 2: "3 9", 3: "5 5", 4: "1 2"}))
    forward = write_jsonl(tmp_path / "f.jsonl", rows("pred_text", {"3": "4 4", 1: "9 1", 2: "2 3"}))
    reversed_ = write_jsonl(tmp_path / "r.jsonl", rows("pred_text", {2: "3 2", 3: "4 4", 1: "1 9"}))
    found = measure_files(forward, reversed_, teacher)
    assert (found["agreement"], found["consistency"], found["total"], found["not_judged"]) == (1.0, 1.0, 3, 1)


@pytest.mark.parametrize(
    ("teacher", "forward", "reversed_", "message"),
    [
        ({1: "8 7"}, {1: "8 7", 2: "8 7"}, {1: "1 1", 2: "1 1"}, r"t.jsonl has no teacher judgement for question_id 2"),
        (
            {1: "8 7", 2: "8 7"},
            {1: "8 7", 2: "8 7"},
            {1: "1 1"},
            r"r.jsonl has no reversed judgement for question_id 2",
        ),
        ({1: "8 7"}, {1: "8 7"}, {1: "1 1", 2: "1 1"}, r"f.jsonl has no forward judgement for question_id 2"),
    ],
)
def test_a_missing_id_is_named(tmp_path: Path, teacher: Any, forward: Any, reversed_: Any, message: str) -> None:
    t = write_jsonl(tmp_path / "t.jsonl", rows("text", teacher))
    f = write_jsonl(tmp_path / "f.jsonl", rows("pred_text", forward))
    r = write_jsonl(tmp_path / "r.jsonl", rows("pred_text", reversed_))
    with pytest.raises(InputError, match=message):
        measure_files(f, r, t)


def test_double_ids_and_exchanged_files_are_named(tmp_path: Path) -> None:
    twice = write_jsonl(tmp_path / "f.jsonl", rows("pred_text", {1: "8 7"}) * 2)
    with pytest.raises(InputError, match=r"f.jsonl:2: question_id 1 stands already in line 1"):
        measure_files(twice)
    turned = write_jsonl(tmp_path / "r.jsonl", [{"question_id": 1, "pred_text": "8 7", "pred_order": "reversed"}])
    with pytest.raises(InputError, match="expected a forward judgement"):
        measure_files(turned)
    multi = write_jsonl(tmp_path / "m.jsonl", [{"question_id": 1, "pred_text": "8 7", "pred_task": "multi"}])
    with pytest.raises(InputError, match="compares two answers"):
        measure_files(multi)


def test_prefill_belongs_to_the_judgement(tmp_path: Path) -> None:
    records = [{"question_id": 1, "pred_text": " 7", "pred_task": "single"}]
    forward = write_jsonl(tmp_path / "f.jsonl", records)
    assert measure_files(forward)["win_forward"] == 1


def test_published_eval_script_ends_with_one_json_object(run: Any, tmp_path: Path) -> None:
    teacher = write_jsonl(tmp_path / "t.jsonl", rows("text", {1: "8 7\nx", 2: "3 9", 3: "?"}))
    forward = write_jsonl(tmp_path / "f.jsonl", rows("pred_text", {1: "9 1", 2: "4 3", 3: "1 1"}))
    reversed_ = write_jsonl(tmp_path / "r.jsonl", rows("pred_text", {1: "1 9", 2: "4 3", 3: "1 1"}))
    script = run(
        "judgelm/llm_judge/eval_model_judgement.py",
        *("--gt-answer-file-path", teacher),
        *("--sequential-pred-answer-file-path", forward),
        *("--reversed-pred-answer-file-path", reversed_),
    )
    assert script.returncode == 0, script.stderr
    metrics = json.loads(script.stdout.splitlines()[-1])
    assert {name: metrics[name] for name in PUBLISHED} == pytest.approx(
        published_metrics([("8 7\nx", "9 1", "1 9"), ("3 9", "4 3", "4 3"), ("?", "1 1", "1 1")]), abs=1e-12
    )
    assert "agreement with the truth" in script.stdout
    assert "accuracy (published rule: unparsed = tie)" in script.stdout
    ours = run("-m", "judgelm", "evaluate", "--teacher", teacher, "--forward", forward, "--reversed", reversed_)
    assert ours.stdout == script.stdout


def test_names_of_the_original_still_work(tmp_path: Path) -> None:
    assert common.parse_score("8 7\nx") == [8.0, 7.0]
    assert common.translate_score_to_win_list([[8, 7], [7, 7.5], [1, 1]], T=0.5) == [1, 0, 0]
    questions = write_jsonl(tmp_path / "q.jsonl", rows("text", {1: "a", 2: "b", 3: "c"}))
    assert [r["question_id"] for r in common.load_questions(str(questions), 1, None)] == [2, 3]
