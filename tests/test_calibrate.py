"""A map from a judge's probabilities to what labels bear out: its numbers, its file, and the commands that use it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calibrating import CODE, Floats, judge_that_errs, shares
from judging import run_command

from judgelm.calibration import Calibrated, Calibration, Temperature, belonging, decide
from judgelm.errors import InputError
from judgelm.evaluation import evaluate
from judgelm.evaluation.calibrate import (
    calibrate,
)
from judgelm.evaluation.calibration_map import CalibrationFile, read_calibration
from judgelm.evaluation.metrics.agreement import OUTCOMES
from judgelm.jsonl import write_lines
from judgelm.judgement import Outcome

SETTINGS = {
    "model": "m",
    "model_fingerprint": "f" * 64,
    "task": "pair",
    "scoring": "expected",
    "prompt_format": "plain",
    "prompt_fingerprint": "p" * 64,
    "quantization": None,
}


PLAIN = {"method": "temperature", "temperature": 1.0}


# folders


def write_folder(
    folder: Path,
    count: int = 120,
    *,
    orders: tuple[str, ...] = ("forward", "reversed"),
    settings: Mapping[str, Any] = SETTINGS,
    truth: Any = None,
    **changes: Any,
) -> tuple[Path, Floats, Any]:
    """What a judge that is too sure wrote, three models' answers among it, and the true labels."""
    given, drawn = judge_that_errs(count, 3.0, orders=len(orders), seed=7)
    labels = drawn if truth is None else truth
    for place, order in enumerate(orders):
        rows = []
        for row, (sample, label) in enumerate(zip(given, labels, strict=True)):
            win, tie, lose = sample[place].tolist() if order == "forward" else sample[place].tolist()[::-1]
            first, second = (8, 3) if win > lose else (3, 8)
            rows.append(
                {"question_id": row, "question_body": f"Question {row}?", "answer1_body": "a", "answer2_body": "b"}
                | {"answer1_model_id": f"m{row % 3}", "answer2_model_id": f"m{(row + 1) % 3}"}
                | {"label": (1, 0, 2)[label], "pred_text": f"{first} {second}", "pred_scores": [first, second]}
                | {"pred_outcome": "win" if win > lose else "lose", "pred_parse": "ok", "pred_task": "pair"}
                | {"pred_order": order, "pred_expected_scores": [float(first), float(second)]}
                | {"pred_probabilities": {"win": win, "tie": tie, "lose": lose}, "pred_score_line_mass": 1.0}
                | changes
            )
        write_lines(folder / f"{order}.jsonl", rows)
    run = {"format": 1, "settings": dict(settings), "finished": True, "references": False}
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    return folder, given, labels


def changed(path: Path, change: Mapping[str, Any], to: Path | None = None) -> Path:
    """A JSON file with other fields."""
    to = to or path
    to.write_text(json.dumps(json.loads(path.read_text()) | change), encoding="utf-8")
    return to


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "D").mkdir()
    return write_folder(tmp_path / "D")[0]


@pytest.fixture
def fitted(folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert run_command(["calibrate", str(folder), "--output", str(folder.parent / "map.json")]) == 0
    capsys.readouterr()
    return folder.parent / "map.json"


def test_the_command_says_what_it_found_and_writes_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "map.json"
    assert run_command(["calibrate", str(folder), "--output", str(output)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("120 labels of 120 questions: ")
    assert "method temperature (isotonic from 1,000 labelled questions on): temperature " in said
    assert f"written to {output}" in said
    found = CalibrationFile.read(output)
    assert found == calibrate(folder)
    assert found.settings["model"] == {"name": "m", "fingerprint": "f" * 64}
    assert (found.settings["orders"], found.settings["references"]) == (["forward", "reversed"], False)
    assert (found.labels, found.parts, sum(found.outcomes.values())) == (120, 5, 120)
    # before are the numbers of judgelm evaluate
    rates = evaluate(folder).summary.rates
    assert found.checked["brier"].before == rates["brier"]
    assert found.checked["calibration_error"].before == rates["calibration_error"]
    assert found.checked["agreement"].before == rates["agreement_probabilities"]
    assert run_command(["calibrate", str(folder), "--output", str(output), "--method", "isotonic"]) == 0
    assert "method isotonic: " in capsys.readouterr().out
    assert CalibrationFile.read(output).map.method == "isotonic"


def test_a_judge_that_knows_nothing_is_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "D").mkdir()
    # the labels are the opposite of what the judge is sure of
    given, _ = judge_that_errs(120, 3.0, seed=7)
    write_folder(tmp_path / "D", truth=2 - given[:, 0].argmax(axis=1))
    assert run_command(["calibrate", str(tmp_path / "D"), "--output", str(tmp_path / "map.json")]) == 0
    assert "its probabilities say nothing of who is better by these labels" in capsys.readouterr().err
    assert CalibrationFile.read(tmp_path / "map.json").map.temperature == pytest.approx(20)  # type: ignore[union-attr]


def test_labels_of_a_part_of_the_rows_are_enough(folder: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (folder / "forward.jsonl").read_text().splitlines()][10:90]
    other = [{"id": row["question_id"], "winner": row["label"]} for row in rows] + [{"id": 999, "winner": 1}]
    write_lines(tmp_path / "L.jsonl", other)
    flags = ["--labels", str(tmp_path / "L.jsonl"), "--columns", "question_id=id,label=winner"]
    assert run_command(["calibrate", str(folder), *flags, "--output", str(tmp_path / "map.json")]) == 0
    assert CalibrationFile.read(tmp_path / "map.json").labels == 80


def test_evaluate_calibrates_without_judging_again(
    folder: Path, fitted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calibration = read_calibration(fitted)
    before = evaluate(folder)
    found = evaluate(folder, calibration=calibration)
    assert found.summary.calibration == calibration.name
    assert before.summary.calibration is None
    given, truth = judge_that_errs(120, 3.0, seed=7)
    rows = [[calibration.apply(shares(*order)).probabilities for order in sample] for sample in given.tolist()]
    mean = np.array([[[order[outcome] for outcome in OUTCOMES] for order in sample] for sample in rows]).mean(axis=1)
    rates = found.summary.rates
    assert rates["brier"].value == pytest.approx(((mean - np.eye(3)[truth]) ** 2).sum(axis=1).mean())
    verdicts = [CODE[decide(dict(zip(OUTCOMES, row, strict=True)), calibration.tie_threshold)] for row in mean.tolist()]
    assert rates["agreement_calibrated"].value == pytest.approx((np.array(verdicts) == truth).mean())
    assert "agreement_calibrated" not in before.summary.rates
    for name in ("agreement", "consistency", "mean_first"):
        assert rates.get(name) == before.summary.rates.get(name)
    summary = folder.parent / "summary.json"
    arguments = ["evaluate", str(folder), "--calibration", str(fitted), "--output", str(summary)]
    assert run_command(arguments) == 0
    said = capsys.readouterr().out
    assert f"probabilities are calibrated, by the map {calibration.name}" in said
    assert json.loads(summary.read_text())["rates"]["brier"]["value"] == rates["brier"].value
    assert json.loads(said.splitlines()[-1])["brier"] == pytest.approx(rates["brier"].value)


def calibrated_records(folder: Path, calibration: Calibration, to: Path) -> Path:
    """As judgelm judge --calibration writes them."""
    to.mkdir()
    for order in ("forward", "reversed"):
        rows = [json.loads(line) for line in (folder / f"{order}.jsonl").read_text().splitlines()]
        for row in rows:
            given = {Outcome(name): p for name, p in row["pred_probabilities"].items()}
            row["pred_calibrated"] = calibration.apply(given).to_record()
        write_lines(to / f"{order}.jsonl", rows)
    (to / "run.json").write_text((folder / "run.json").read_text(), encoding="utf-8")
    return to


def test_what_is_calibrated_is_not_calibrated_twice(
    folder: Path, fitted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calibration = read_calibration(fitted)
    there = calibrated_records(folder, calibration, folder.parent / "E")
    once = evaluate(folder, calibration=calibration).to_record()
    assert evaluate(there).to_record() == once
    assert evaluate(there, calibration=calibration).to_record() == once
    assert capsys.readouterr().err == ""
    # the map is of the judge's own probabilities, so it is the same
    assert calibrate(there) == calibrate(folder)
    other = replace(calibration, map=Temperature(9.0), source="other.json")
    assert evaluate(there, calibration=other).to_record() == evaluate(folder, calibration=other).to_record() != once
    assert capsys.readouterr().err == (
        f"judgelm: {there} was calibrated by another map ({calibration.name}): its own probabilities are used, by"
        " other.json\n"
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"probabilities": {"win": 0.5, "tie": 0.5, "lose": 0.5}}, "that sum to 1, found 1.5"),
        ({"probabilities": None}, "field 'pred_calibrated' must have probabilities and a map"),
        ({"map": 7}, "field 'pred_calibrated' must have probabilities and a map"),
        ({"tie_threshold": -1}, "'pred_calibrated.tie_threshold' must hold numbers from 0 to"),
        ({"tie_threshold": float("nan")}, "'pred_calibrated.tie_threshold' must hold numbers from 0 to"),
    ],
)
def test_damaged_calibrated_records_are_told_of(
    damage: dict[str, Any], message: str, folder: Path, fitted: Path
) -> None:
    there = calibrated_records(folder, read_calibration(fitted), folder.parent / "E")
    rows = [json.loads(line) for line in (there / "forward.jsonl").read_text().splitlines()]
    rows[3]["pred_calibrated"] |= damage
    (there / "forward.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError) as raised:
        evaluate(there)
    assert message in str(raised.value)
    assert "forward.jsonl" in str(raised.value)


def test_the_report_says_that_probabilities_are_calibrated(folder: Path, fitted: Path) -> None:
    calibration = read_calibration(fitted)
    there = calibrated_records(folder, calibration, folder.parent / "E")
    for place, expected in ((there, True), (folder, False)):
        assert run_command(["report", str(place)]) == 0
        for name in ("report.html", "report.md"):
            assert (calibration.name in (place / name).read_text()) is expected


def test_rank_counts_calibrated_verdicts(folder: Path, fitted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed(fitted, {"tie_threshold": 0.0})
    flags = ["rank", "--judgements", str(folder), "--output-dir", str(folder.parent / "R")]
    assert run_command([*flags, "--calibration", str(fitted)]) == 0
    name = read_calibration(fitted).name
    assert f"verdicts are of calibrated probabilities, by the map {name}" in capsys.readouterr().out
    ranking = json.loads((folder.parent / "R" / "ranking.json").read_text())
    # with a threshold of 0 all are ties
    assert {pair["ties"] for pair in ranking["pairs"]} == {40}
    assert run_command([*flags, "--outcomes", "soft", "--calibration", str(fitted)]) == 0
    soft = json.loads((folder.parent / "R" / "ranking.json").read_text())
    assert run_command([*flags, "--outcomes", "soft"]) == 0
    own = json.loads((folder.parent / "R" / "ranking.json").read_text())
    assert own["notes"] != soft["notes"]
    # a judge that is too sure makes too large differences
    assert max(abs(pair["win_rate"]["value"] - 0.5) for pair in soft["pairs"]) < max(
        abs(pair["win_rate"]["value"] - 0.5) for pair in own["pairs"]
    )


def test_labels_correct_calibrated_verdicts(folder: Path, fitted: Path) -> None:
    """With a threshold of 0 all are ties, for the ranking and for the rates that labels correct alike."""
    changed(fitted, {"tie_threshold": 0.0})
    write_lines(folder.parent / "L.jsonl", [{"question_id": row, "label": row % 2} for row in range(40)])
    found = evaluate(folder, human=folder.parent / "L.jsonl", calibration=read_calibration(fitted)).corrected
    assert found is not None
    assert {pair.judge.value for pair in found.pairs if pair.judge} == {0.5}


# whose map it is


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_fingerprint": "0" * 64, "model": "other"}, "model: expected m (ffffffff), found other (00000000)"),
        ({"model_fingerprint": None}, "model: expected m (ffffffff), found m"),
        ({"prompt_format": "chat", "chat_template_sha256": "c"}, "prompt_format: expected 'plain', found 'chat'"),
        ({"prompt_template": "1" * 64}, "prompt_template: expected none, found "),
        ({"quantization": "int8"}, "quantization: expected none, found 'int8'"),
        ({"prompt_fingerprint": "x"}, "prompt_fingerprint: expected "),
        ({"criteria": {"name": "exam", "aspects": []}}, "criteria: expected none, found exam ("),
    ],
)
def test_a_map_is_refused_for_other_judgements(
    change: dict[str, Any], message: str, folder: Path, fitted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed(folder / "run.json", {"settings": {**SETTINGS, **change}})
    for command in (["evaluate", str(folder)], ["rank", "--judgements", str(folder)]):
        assert run_command([*command, "--calibration", str(fitted)]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"judgelm: error: {fitted} belongs to other judgements than those in {folder}: ")
        assert message in said
        assert said.count("\n") == 1


def test_orders_and_references_belong_to_a_map_and_places_do_not(folder: Path, fitted: Path, tmp_path: Path) -> None:
    calibration = read_calibration(fitted)
    changed(folder / "run.json", {"settings": {**SETTINGS, "model": "moved/m", "seed": 5, "batch_tokens": 3}})
    evaluate(folder, calibration=calibration)
    changed(folder / "run.json", {"references": True})
    with pytest.raises(InputError, match="references: expected False, found True"):
        evaluate(folder, calibration=calibration)
    # earlier versions said it by the file alone
    run = json.loads((folder / "run.json").read_text())
    del run["references"]
    run["settings"]["reference_file_sha256"] = "r"
    (folder / "run.json").write_text(json.dumps(run))
    with pytest.raises(InputError, match="references: expected False, found True"):
        evaluate(folder, calibration=calibration)
    (tmp_path / "one").mkdir()
    alone, _, _ = write_folder(tmp_path / "one", orders=("forward",))
    with pytest.raises(InputError, match=r"orders: expected forward and reversed, found forward$"):
        evaluate(alone, calibration=calibration)
    found = calibrate(alone)
    assert found.settings["orders"] == ["forward"]
    rates = evaluate(alone, calibration=found.calibration("map")).summary.rates
    assert "agreement_calibrated" in rates
    assert "agreement_probabilities" not in rates


def test_a_server_is_known_by_its_name_and_how_it_is_asked() -> None:
    server = {"model": "judge", "engine": "openai", "base_url": "http://one", "api": "completions"}
    whole = belonging({**server, "scoring": "expected"}, ("forward",), False)
    calibration = Calibration(Temperature(1.0), 1.0, json.loads(json.dumps(whole)))
    calibration.check(belonging({**server, "scoring": "expected", "base_url": "http://two"}, ("forward",), False), "x")
    with pytest.raises(InputError, match="api: expected 'completions', found 'chat'"):
        calibration.check(belonging({**server, "scoring": "expected", "api": "chat"}, ("forward",), False), "x")


@pytest.mark.parametrize(
    "found", [7, "x" * 999, {"fingerprint": "f"}, {"name": [1]}, {"name": "n" * 999}, [1], [["a"]]]
)
def test_settings_of_any_kind_in_a_map_are_told_of_in_a_short_line(found: Any, folder: Path, fitted: Path) -> None:
    changed(fitted, {"settings": {"model": found, "task": found, "orders": found}})
    with pytest.raises(InputError) as raised:
        evaluate(folder, calibration=read_calibration(fitted))
    assert "model: expected " in str(raised.value)
    assert len(str(raised.value)) < 1500


def test_probabilities_that_were_rounded_make_a_map(tmp_path: Path) -> None:
    (tmp_path / "D").mkdir()
    folder, _, _ = write_folder(tmp_path / "D")
    lines = (folder / "forward.jsonl").read_text().splitlines(keepends=True)
    sure = {**json.loads(lines[0]), "pred_probabilities": {"win": 1.0000000001, "tie": 0.0, "lose": 0.0}}
    (folder / "forward.jsonl").write_text(json.dumps(sure) + "\n" + "".join(lines[1:]))
    found = calibrate(folder, method="isotonic")
    found.write(tmp_path / "map.json")
    assert CalibrationFile.read(tmp_path / "map.json") == found


def test_names_tell_maps_apart_and_not_their_files() -> None:
    one = Calibration(Temperature(2.0), 1.0, {"a": 1}, "one")
    assert one.name == replace(one, source="two").name
    assert len({one.name, replace(one, tie_threshold=0.9).name, replace(one, settings={}).name}) == 3
    assert len(one.name) == 16
    both = Calibrated.mean([one.apply(shares(0.7, 0.1, 0.2)), one.apply(shares(0.5, 0.1, 0.4))])
    assert both.map == one.name
    assert sum(both.probabilities.values()) == pytest.approx(1)


# what cannot be


def test_too_few_labels_and_labels_of_one_kind_are_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "D").mkdir()
    write_folder(tmp_path / "D", 49)
    arguments = ["calibrate", str(tmp_path / "D"), "--output", str(tmp_path / "map.json")]
    assert run_command(arguments) == 2
    assert capsys.readouterr().err == (
        f"judgelm: error: {tmp_path / 'D'}: a calibration needs labels of 50 judged questions or more, found 49\n"
    )
    write_folder(tmp_path / "D", 60, truth=np.zeros(60, dtype=int))
    assert run_command(arguments) == 2
    assert capsys.readouterr().err == (
        f"judgelm: error: {tmp_path / 'D'}: a calibration needs labels of two outcomes or more, all 60 say win\n"
    )
    write_lines(tmp_path / "L.jsonl", [{"question_id": "elsewhere", "label": 1}])
    assert run_command([*arguments, "--labels", str(tmp_path / "L.jsonl")]) == 2
    assert "none of its 1 rows is of a question_id judged in" in capsys.readouterr().err
    assert not (tmp_path / "map.json").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pred_probabilities": None}, "no judgement has probabilities, which judgelm judge --scoring expected gives"),
        ({"pred_task": "grade"}, "a calibration is of P(win), P(tie) and P(lose), task pair, found task grade"),
        ({"pred_task": "multi"}, "a calibration is of P(win), P(tie) and P(lose), task pair, found task multi"),
        (
            {"pred_probabilities": {"win": float("nan"), "tie": 0, "lose": 1}},
            "must hold numbers from 0 to 1, found None",
        ),
        ({"label": 7}, "expected label 1, 2 or 0 (tie), found 7"),
    ],
)
def test_folders_that_cannot_be_calibrated_are_refused_in_one_line(
    changes: dict[str, Any], message: str, folder: Path, fitted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(folder, 60, **changes)
    if "found None" in message:
        for path in folder.glob("*.jsonl"):
            # what is written here is strict JSON, what others wrote need not be
            path.write_text(re.sub('"win": ?null', '"win": NaN', path.read_text()))
    for command in (
        ["calibrate", str(folder), "--output", str(folder / "new.json")],
        ["evaluate", str(folder), "--calibration", str(fitted)],
        ["rank", "--judgements", str(folder), "--calibration", str(fitted)],
    ):
        assert run_command(command) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
    assert not (folder / "new.json").exists()


def test_a_folder_without_run_json_and_files_alone_are_nobodys(
    folder: Path, fitted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["calibrate", str(folder), "--output", str(folder / "map.json")]
    changed(folder / "run.json", {"settings": {"jury": "majority", "task": "pair"}})
    assert run_command(arguments) == 2
    assert f"{folder / 'run.json'}: names no model, and a map belongs to" in capsys.readouterr().err
    (folder / "run.json").unlink()
    forward = str(folder / "forward.jsonl")
    for command, message in (
        (["evaluate", str(folder)], f"{folder}: no run.json there, which says whose judgements these are"),
        (["evaluate", "--forward", forward], "--calibration goes with a folder, whose run.json says whose"),
        (["rank", "--judgements", forward], f"{forward} is a file, expected a folder that judgelm judge wrote"),
    ):
        assert run_command([*command, "--calibration", str(fitted)]) == 2
        assert message in capsys.readouterr().err
    assert run_command(arguments) == 2
    assert "no run.json there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "JSON object"),
        ({"format": 2}, "not a calibration map (format: Input should be 1, found 2)"),
        ({"map": {"method": "platt"}}, "not a calibration map (map: Input tag 'platt' found using 'method'"),
        ({"map": {"method": "temperature", "temperature": 0}}, "map.temperature.temperature: Input should be greater"),
        (
            {"map": {"method": "temperature", "temperature": float("nan")}},
            "map.temperature.temperature: Input should be",
        ),
        ({"tie_threshold": float("nan")}, "tie_threshold: Input should be"),
        ({"tie_threshold": None}, "tie_threshold: Input should be a valid number, found None"),
        (
            {
                "map": {
                    "method": "isotonic",
                    "decided": {"x": [0.5, 0.1], "y": [0, 1]},
                    "tie": {"x": [0], "y": [0]},
                    "mean": PLAIN,
                }
            },
            "map.isotonic.decided: expected x that ascend",
        ),
        (
            {
                "map": {
                    "method": "isotonic",
                    "decided": {"x": [0.1, 0.5], "y": [1, 0]},
                    "tie": {"x": [0], "y": [0]},
                    "mean": PLAIN,
                }
            },
            "map.isotonic.decided: expected y that never go down",
        ),
        (
            {
                "map": {
                    "method": "isotonic",
                    "decided": {"x": [0.1], "y": [1, 0]},
                    "tie": {"x": [0], "y": [0]},
                    "mean": PLAIN,
                }
            },
            "map.isotonic.decided: expected as many y as x, found 2 and 1",
        ),
        (
            {
                "map": {
                    "method": "isotonic",
                    "decided": {"x": [0.1], "y": [7]},
                    "tie": {"x": [0], "y": [0]},
                    "mean": PLAIN,
                }
            },
            "map.isotonic.decided.y.0: Input should be less than or equal to 1, found 7",
        ),
    ],
)
def test_damaged_maps_are_told_of_in_one_line(
    damage: str | dict[str, Any], message: str, folder: Path, fitted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if isinstance(damage, str):
        fitted.write_text(damage)
    else:
        changed(fitted, damage)
    assert run_command(["evaluate", str(folder), "--calibration", str(fitted)]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert str(fitted) in said
    assert said.count("\n") == 1
