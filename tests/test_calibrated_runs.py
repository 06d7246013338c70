"""Judging with a calibration map: the records, going on, caches, an arena, and the API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import make_samples, write_jsonl
from judging import lasting, run_command
from serving import Address, asked, local_stack
from test_serve_expected import GOOD, Scripted, judged_by

from judgelm.errors import InputError
from judgelm.evaluation import evaluate
from judgelm.evaluation.calibrate import calibrate
from judgelm.evaluation.calibration_map import CalibrationFile, TemperatureMap, read_calibration
from judgelm.judge import JudgeSettings, ModelChoice, cached, judge_folder, prepare
from judgelm.judgement import Outcome
from judgelm.models.folder import find_model
from judgelm.serve import launch, model_worker
from judgelm.serve.judgement_requests import Result
from judgelm.serve.page.result import statement
from judgelm.serve.settings import ServeSettings
from judgelm.serve.worker_answers import Details

COUNT = 52
NAMES = ["Answer 1", "Answer 2"]


def judge(model: Path, questions: Path, output: Path, *more: str) -> int:
    fixed = ["--model", model, "--question-file", questions, "--output-dir", output, "--dtype", "float32"]
    return run_command(["judge", *map(str, fixed), "--device", "cpu", "--scoring", "expected", *more])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Path:
    """Questions with labels, a folder D of a judge of two layers, and a map of it."""
    folder = tmp_path_factory.mktemp("calibrated")
    rows = [{**each.to_record(), "label": each.question_id % 3} for each in make_samples(COUNT, 3)]
    questions = write_jsonl(folder / "q.jsonl", rows)
    assert judge(model_folder, questions, folder / "D") == 0
    calibrate(folder / "D").write(folder / "map.json")
    return folder


@pytest.fixture(scope="module")
def there(place: Path, model_folder: Path) -> Path:
    """The same judged with the map."""
    assert judge(model_folder, place / "q.jsonl", place / "E", "--calibration", str(place / "map.json")) == 0
    return place / "E"


def other_map(place: Path, **changes: Any) -> Path:
    """Another map, of the same judgements unless said otherwise."""
    found = CalibrationFile.read(place / "map.json")
    changed = found.model_copy(update={"map": TemperatureMap(temperature=4.0, tie=1.0), **changes})
    changed.write(place / "other.json")
    return place / "other.json"


def test_calibrated_probabilities_stand_beside_the_judges_own(place: Path, there: Path) -> None:
    calibration = read_calibration(place / "map.json")
    for order in ("forward", "reversed"):
        records, own = lasting(there / f"{order}.jsonl"), lasting(place / "D" / f"{order}.jsonl")
        for record in records:
            given = {Outcome(name): p for name, p in record["pred_probabilities"].items()}
            assert record.pop("pred_calibrated") == calibration.apply(given).to_record()
        assert records == own
    assert json.loads((there / "run.json").read_text())["settings"]["calibration"] == calibration.name
    assert json.loads((there / "run.json").read_text())["references"] is False
    assert evaluate(there).to_record() == evaluate(place / "D", calibration=calibration).to_record()
    assert evaluate(there).summary.calibration == calibration.name


def test_a_run_goes_on_with_its_own_map_alone(
    place: Path, there: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "E"
    output.mkdir()
    lines = (there / "reversed.jsonl").read_text().splitlines(keepends=True)
    (output / "forward.jsonl").write_text((there / "forward.jsonl").read_text())
    (output / "reversed.jsonl.partial").write_text("".join(lines[:20]) + lines[20][:50])
    run = json.loads((there / "run.json").read_text())
    (output / "run.json").write_text(json.dumps({**run, "finished": False}))
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    name = read_calibration(place / "map.json").name
    other = read_calibration(other_map(place)).name
    for flags, now in (
        (["--calibration", str(place / "other.json")], f"'{other}'"),
        (["--calibration", str(place / "other.json"), "--keep-judged"], f"'{other}'"),
        ([], "None"),
    ):
        assert judge(model_folder, place / "q.jsonl", output, *flags) == 2
        said = capsys.readouterr().err
        assert f"is of a run with other settings: calibration was '{name}', now {now} (" in said
        assert "judgelm evaluate --calibration and rank --calibration need no judging" in said
    assert {path.name: path.read_bytes() for path in output.iterdir() if path.name in before} == before
    assert judge(model_folder, place / "q.jsonl", output, "--calibration", str(place / "map.json")) == 0
    for order in ("forward", "reversed"):
        assert lasting(output / f"{order}.jsonl") == lasting(there / f"{order}.jsonl")
    # what was judged without a map gets none in its records either
    assert judge(model_folder, place / "q.jsonl", place / "D", "--calibration", str(place / "map.json")) == 2
    assert f"calibration was None, now '{name}'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--orders", "forward"], "orders: expected forward and reversed, found forward"),
        (
            ["--scoring", "greedy"],
            "--calibration needs task pair and scoring expected, which gives probabilities: found task pair, scoring g",
        ),
        (
            ["--task", "multi"],
            "--calibration needs task pair and scoring expected, which gives probabilities: found task multi",
        ),
        (["--reference-file", "r.jsonl"], "references: expected False, found True"),
        (["--criteria", "c.yaml"], "criteria: expected none, found exam ("),
    ],
)
def test_a_map_of_other_judgements_is_refused_before_anything_is_judged(
    flags: list[str], message: str, place: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jsonl(tmp_path / "r.jsonl", [{"question_id": k, "reference": {"text": "It is."}} for k in range(COUNT)])
    (tmp_path / "c.yaml").write_text("name: exam\nscale: [1, 5]\naspects:\n  - {name: Truth, text: It is true.}\n")
    flags = [str(tmp_path / each) if each in ("r.jsonl", "c.yaml") else each for each in flags]
    flags = ["--calibration", str(place / "map.json"), *flags]
    assert judge(model_folder, place / "q.jsonl", tmp_path / "F", *flags) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("F/*.jsonl*"))


def test_a_map_of_another_model_is_refused(place: Path, sentencepiece_folder: Path, tmp_path: Path) -> None:
    settings = JudgeSettings(scoring="expected", calibration=read_calibration(place / "map.json"))
    with pytest.raises(InputError, match=r"map\.json belongs to other judgements than this run's: model: expected "):
        judge_folder(make_samples(2), tmp_path, ModelChoice(sentencepiece_folder, device="cpu"), settings)


def test_a_cache_keeps_the_judges_own_and_serves_any_map(place: Path, model_folder: Path, tmp_path: Path) -> None:
    calibration = read_calibration(place / "map.json")
    chosen = cached(prepare(ModelChoice(model_folder, dtype="float32", device="cpu")), tmp_path / "cache")
    samples = make_samples(4)
    found: dict[str, list[dict[str, Any]]] = {}
    for name, used in (("own", None), ("mapped", calibration), ("again", None)):
        judge_folder(samples, tmp_path / name, chosen, JudgeSettings(scoring="expected", calibration=used))
        found[name] = lasting(tmp_path / name / "reversed.jsonl")
    session = json.loads((tmp_path / "mapped" / "run.json").read_text())["sessions"][0]
    assert session["engine"]["cached_judgements"] == 8
    assert found["own"] == found["again"]
    assert [record.pop("pred_calibrated")["map"] for record in found["mapped"]] == [calibration.name] * 4
    assert found["mapped"] == found["own"]


def test_an_arena_ranks_calibrated_verdicts(
    place: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = []
    for name in ("one", "two"):
        rows = [{"question_id": k, "question_body": f"What is {k}?", "text": f"{name} says {k}"} for k in range(4)]
        files.append(str(write_jsonl(tmp_path / f"{name}.jsonl", rows)))
    ties = other_map(place, tie_threshold=0.0)
    arguments = ["arena", "--answers", *files, "--output-dir", str(tmp_path / "A"), "--model", str(model_folder)]
    arguments += ["--dtype", "float32", "--device", "cpu", "--scoring", "expected", "--calibration", str(ties)]
    assert run_command(arguments) == 0
    name = read_calibration(ties).name
    assert f"verdicts are of calibrated probabilities, by the map {name}" in capsys.readouterr().out
    ranking = json.loads((tmp_path / "A" / "ranking.json").read_text())
    assert [(pair["wins"], pair["ties"], pair["losses"]) for pair in ranking["pairs"]] == [(0, 4, 0)]


# over HTTP


@pytest.fixture(scope="module")
def api(place: Path, model_folder: Path) -> Iterator[Address]:
    with local_stack(model_folder, calibration=CalibrationFile.read(place / "map.json")) as (_, _, started):
        yield started


def test_results_of_the_api_have_both(api: Address, place: Path, model_folder: Path) -> None:
    calibration = read_calibration(place / "map.json")
    samples = make_samples(5)
    body = {"samples": asked(samples), "scoring": "expected"}
    own = api.post("/v1/judgements", {**body, "calibrated": False}).json()["data"]
    data = api.post("/v1/judgements", body).json()["data"]
    wanted = api.post("/v1/judgements", {**body, "calibrated": True}).json()["data"]
    assert [result["calibrated"]["map"] for result in wanted] == [calibration.name] * 5
    assert "calibrated" not in json.dumps(own)
    for result, before in zip(data, own, strict=True):
        calibrated = result.pop("calibrated")
        orders = []
        for judgement in result["judgements"]:
            given = {Outcome(name): p for name, p in judgement["probabilities"].items()}
            orders.append(judgement.pop("calibrated"))
            assert orders[-1] == calibration.apply(given).to_record()
        win = (orders[0]["probabilities"]["win"] + orders[1]["probabilities"]["lose"]) / 2
        assert calibrated["probabilities"]["win"] == pytest.approx(win)
        assert (calibrated["map"], calibrated["tie_threshold"]) == (calibration.name, calibration.tie_threshold)
        win, tie, lose = (calibrated["probabilities"][name] for name in ("win", "tie", "lose"))
        tied = tie >= calibration.tie_threshold * max(win, lose)
        assert result.pop("outcome") == ("tie" if tied else "win" if win > lose else "lose")
        del before["outcome"]
        assert result.keys() == before.keys()
        # batches of another size round otherwise
        assert result["probabilities"] == pytest.approx(before["probabilities"], abs=1e-4)
        assert result["scores"] == pytest.approx(before["scores"], abs=1e-3)
    events = api.post("/v1/judgements", {**body, "stream": True}).text.splitlines()
    assert "calibrated" in json.loads(events[0])["result"]
    card = api.get(f"/v1/models/{model_folder.name}").json()
    assert card["judge"] == {"calibration": calibration.name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"orders": "forward"}, "orders: expected forward and reversed, found forward"),
        ({"scoring": "greedy", "max_new_tokens": 4}, "scoring: expected 'expected', found 'greedy'"),
        ({"task": "multi", "orders": "all"}, "task: expected 'pair', found 'multi'"),
        ({"criteria": {"name": "c", "aspects": [{"name": "A", "text": "B"}]}}, "criteria: expected none, found c ("),
        ({"reference": "It is."}, "references: expected False, found True"),
    ],
)
def test_requests_that_the_map_is_not_for_stay_as_they_are_or_are_refused(
    change: dict[str, Any], message: str, api: Address
) -> None:
    samples = asked(make_samples(1))
    if reference := change.pop("reference", None):
        samples[0]["reference"] = reference
    body = {"samples": samples, "scoring": "expected", **change}
    answered = api.post("/v1/judgements", body)
    assert answered.status_code == 200
    assert "calibrated" not in answered.text
    refused = api.post("/v1/judgements", {**body, "calibrated": True})
    assert refused.status_code == 400
    said = refused.json()["error"]["message"]
    assert said.startswith("the judge's calibration map belongs to other judgements than this request's: ")
    assert message in said


OURS = {"judgelm": "9", "criteria": True, "expected": True}
CHUNK = {"text": "8 3", "error_code": 0, "finish_reason": "stop", "likely": GOOD}


def details(place: Path, **changes: Any) -> dict[str, Any]:
    found = CalibrationFile.read(place / "map.json").to_record()
    return {**OURS, "calibration": {**found, "settings": {**found["settings"], "orders": ["forward"]}, **changes}}


def test_the_page_says_that_a_probability_is_calibrated(place: Path) -> None:
    (plain,) = judged_by(Scripted(OURS, CHUNK))
    assert isinstance(plain, Result)
    assert statement(plain, NAMES) == "Answer 1 is better, with a probability of 70%."
    sharper = {"method": "temperature", "temperature": 0.5, "tie": 0.0}
    (found,) = judged_by(Scripted(details(place, map=sharper, tie_threshold=1.0), CHUNK))
    # 0.49 of 0.49 + 0.01 + 0.04
    assert statement(found, NAMES) == "Answer 1 is better, with a calibrated probability of 91%."
    (tied,) = judged_by(Scripted(details(place, map=sharper, tie_threshold=0.01), CHUNK))
    assert statement(tied, NAMES).endswith("with a calibrated probability of 2%.")


def test_a_worker_without_a_map_has_nothing_to_calibrate_by(model_folder: Path) -> None:
    with local_stack(model_folder) as (_, _, api):
        body = {"samples": asked(make_samples(1)), "scoring": "expected", "calibrated": True}
        refused = api.post("/v1/judgements", body)
    assert refused.status_code == 400
    said = f"calibrated: {model_folder.name} is served without a calibration map"
    assert refused.json()["error"]["message"] == said


def test_a_map_that_a_worker_sends_is_checked(place: Path) -> None:
    from judgelm.serve.protocol import WorkerError
    from judgelm.serve.worker_answers import read_answer

    for change in ({"format": 9}, {"map": {"method": "temperature", "temperature": float("nan")}}, {"settings": 7}):
        with pytest.raises(WorkerError, match="the worker's answer cannot be read"):
            read_answer(Details, details(place, **change))


def test_a_served_model_takes_its_own_map_alone(
    place: Path, model_folder: Path, sentencepiece_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def find(model: Path, *more: str) -> CalibrationFile | None:
        flags = ["--model-path", str(model), "--calibration", str(place / "map.json"), *more]
        args = model_worker.build_parser().parse_args(flags)
        folder = find_model(str(model))
        return model_worker._find_calibration(args, folder, model_worker._find_form(args, folder))

    assert find(model_folder) == CalibrationFile.read(place / "map.json")
    with pytest.raises(InputError, match=r"belongs to other judgements than this worker's: model: expected "):
        find(sentencepiece_folder)
    (tmp_path / "p.j2").write_text("{{ question }} {{ answer_a }} {{ answer_b }}")
    with pytest.raises(InputError, match="prompt_template: expected none, found "):
        find(model_folder, "--prompt-file", str(tmp_path / "p.j2"))
    (tmp_path / "broken.json").write_text("{")
    for flags, message in (
        (["--calibration", str(tmp_path / "broken.json")], "broken.json"),
        (["--model", "tiny", "tiny-base", "--calibration", "m.json"], "belongs to one model, found 2: tiny, tiny-base"),
    ):
        assert run_command(["serve", "--log-dir", str(tmp_path / "logs"), *flags]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
    assert not (tmp_path / "logs").exists()


def test_serve_hands_the_map_to_its_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[str, ...]] = []

    class Noted:
        def start(self, name: str, module: str, *flags: str, **_: Any) -> None:
            started.append(flags)

    monkeypatch.setattr(launch, "_gpus", list)
    launch._start_workers(Noted(), ServeSettings(calibration="m.json"), "http://127.0.0.1:1")  # type: ignore[arg-type]
    (flags,) = started
    assert flags[flags.index("--calibration") + 1] == "m.json"
