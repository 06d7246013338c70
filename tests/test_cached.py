"""A cache across runs: what was judged once is not judged again, and comes out the same."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import make_samples, write_jsonl
from judging import FakeEngine, lasting, run_command

from judgelm import Judge, Sample
from judgelm.criteria import Aspect, Criteria
from judgelm.engine.interface import Generation
from judgelm.errors import InputError
from judgelm.images import Image
from judgelm.judge import JudgeChoice, JudgeSettings, cached, judge_folder
from judgelm.judge.settings import Order
from judgelm.prompt import show_prompt
from judgelm.prompt_template import PromptTemplate

TWO = Criteria("two", (Aspect("Truth", "It is true.", 3.0), Aspect("Brevity", "It is short.")))


class Counting(FakeEngine):
    """Scores by the length of the prompt, counts what it is asked, and ends some prompts otherwise."""

    def __init__(self, reason: Any = "stop") -> None:
        self.reason = reason
        self.asked: list[str] = []

    def generate(self, requests: Any, sampling: Any, *, done: Any = (), on_text: Any = None) -> Any:
        for request in requests:
            if request.key not in done:
                self.asked.append(request.key)
                text = f"{len(request.prompt) % 10} {sampling.seed % 10}\nreasons"
                yield Generation(request.key, text if self.reason == "stop" else "", 50, 9, self.reason)


def choice(engine: Counting, cache: Path, **described: Any) -> JudgeChoice:
    what = {"engine": "told", "model_fingerprint": "f", **described}
    judge = JudgeChoice("told", lambda: Judge(engine), what, takes_images=True)
    return cached(judge, cache)


def judged_files(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {path.name: lasting(path) for path in sorted(folder.glob("*.jsonl"))}


def session(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text())["sessions"][-1]
    return found


@pytest.mark.parametrize("settings", [JudgeSettings(), JudgeSettings(criteria=TWO)])
def test_a_second_folder_judges_nothing_and_says_the_same(settings: JudgeSettings, tmp_path: Path) -> None:
    samples, cache = make_samples(40), tmp_path / "cache"
    judge_folder(samples, tmp_path / "a", choice(Counting(), cache), settings, orders="both")

    def load() -> Judge:
        raise AssertionError("nothing is left to be judged")

    again = cached(JudgeChoice("told", load, {"engine": "told", "model_fingerprint": "f"}), cache)
    judge_folder(samples, tmp_path / "b", again, settings, orders="both")
    assert judged_files(tmp_path / "a") == judged_files(tmp_path / "b")
    assert list(judged_files(tmp_path / "b")) == ["forward.jsonl", "reversed.jsonl"]
    assert session(tmp_path / "a")["engine"]["cached_judgements"] == 0
    assert session(tmp_path / "b")["engine"] == {"cache": str(cache / "judgements.sqlite"), "cached_judgements": 80}
    assert session(tmp_path / "b")["judged"] == 80


def test_only_what_is_missing_is_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples, cache = make_samples(6), tmp_path / "cache"
    judge_folder(samples[:4], tmp_path / "a", choice(Counting(), cache), JudgeSettings(), orders="forward")
    engine = Counting()
    judge_folder(samples, tmp_path / "b", choice(engine, cache), JudgeSettings(), orders="both")
    assert sorted(engine.asked) == ["forward 4", "forward 5", *(f"reversed {k}" for k in range(6))]
    assert f"4 of 12 judgements are in {cache / 'judgements.sqlite'}" in capsys.readouterr().err
    plain = JudgeChoice("told", lambda: Judge(Counting()), {"engine": "told", "model_fingerprint": "f"})
    judge_folder(samples, tmp_path / "c", plain, JudgeSettings(), orders="both")
    assert judged_files(tmp_path / "b") == judged_files(tmp_path / "c")


def asks(cache: Path, folder: Path, samples: list[Sample], settings: JudgeSettings, order: Order, **more: Any) -> int:
    engine = Counting()
    judge_folder(samples, folder, choice(engine, cache, **more), settings, orders=order)
    return len(engine.asked)


def test_what_a_judgement_comes_from_is_what_it_is_found_by(tmp_path: Path) -> None:
    cache, samples, number = tmp_path / "cache", make_samples(3), iter(range(100))
    plain, greedy = JudgeSettings(), JudgeSettings(scoring="greedy")

    def fresh(settings: JudgeSettings = plain, order: Order = "forward", given: Any = None, **more: Any) -> int:
        return asks(cache, tmp_path / str(next(number)), given or samples, settings, order, **more)

    assert fresh() == 3
    assert fresh() == 0
    # the other order of exchanged answers is the same prompt
    assert fresh(order="reversed", given=[sample.swapped() for sample in samples]) == 0
    assert fresh(order="reversed") == 3
    assert fresh(JudgeSettings(seed=1)) == 3
    assert fresh(JudgeSettings(temperature=0.3)) == 3
    assert fresh(JudgeSettings(scores_only=True)) == 3
    assert fresh(model_fingerprint="g") == 3
    assert fresh(dtype="float32") == 3
    # the files are the same, wherever they lie
    assert fresh(model="elsewhere/told") == 0
    assert fresh(model="elsewhere/told", model_fingerprint=None) == 3
    referenced = [sample.with_reference("Right.") for sample in samples]
    assert fresh(given=referenced) == 3
    # random numbers come from seed and id, where there are any
    renamed = [Sample(f"x{sample.key}", sample.question, sample.answers) for sample in samples]
    assert fresh(given=renamed) == 3
    assert fresh(greedy) == 3
    assert fresh(greedy, given=renamed) == 0
    assert fresh(JudgeSettings(scoring="greedy", seed=5)) == 0


def test_what_is_one_prompt_as_published_may_be_two_in_a_template(tmp_path: Path) -> None:
    end = "\n\n[The End of Assistant 1's Answer]\n\n[The Start of Assistant 2's Answer]\n"
    image = (Image("https://image.example/1"),)
    twins = [
        (Sample(1, "Q", ["x", f"y{end}z"]), Sample(1, "Q", [f"x{end}y", "z"])),
        (Sample(1, "Q\ufdd0", ["\ufdd0", "b"], images=image), Sample(1, "Q\ufdd0", ["[image 1]", "b"], images=image)),
    ]
    settings = JudgeSettings(prompt_template=PromptTemplate("{{ answer_a }} == {{ answer_b }} == {{ question }}"))
    for number, (one, other) in enumerate(twins):
        assert show_prompt(one, "pair") == show_prompt(other, "pair")
        for name, sample, asked in (("a", one, 1), ("b", other, 1), ("c", one, 0)):
            engine = Counting()
            judge = choice(engine, tmp_path / "cache")
            judge_folder([sample], tmp_path / f"{number}{name}", judge, settings, orders="forward")
            assert len(engine.asked) == asked


@pytest.mark.parametrize("reason", ["out_of_memory", "refused", "cancelled"])
def test_what_another_attempt_may_change_is_not_kept(reason: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        engine = Counting(reason)
        judge_folder(make_samples(2), tmp_path / name, choice(engine, tmp_path / "cache"), JudgeSettings())
        assert len(engine.asked) == 4


def _no_model(*_: Any, **__: Any) -> Judge:
    raise AssertionError("a model is loaded")


def test_the_command_loads_no_model_the_second_time(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = [sample.to_record() for sample in make_samples(5)]
    samples[4]["answer1_body"] = "word " * 5000
    samples.append({**samples[0], "question_id": 9, "question_body": "Why? " * 3000})
    questions = write_jsonl(tmp_path / "q.jsonl", samples)
    monkeypatch.setenv("JUDGELM_CACHE", str(tmp_path / "home"))
    argv = ["judge", "--model", model_folder, "--question-file", questions, "--dtype", "float32", "--cache"]
    for name, more in (("expected", ["--scoring", "expected"]), ("sampled", ["--scores-only", "--constrained"])):
        assert run_command([str(word) for word in [*argv, *more, "--output-dir", tmp_path / f"{name}-a"]]) == 0
        with monkeypatch.context() as without:
            without.setattr(Judge, "load", _no_model)
            assert run_command([str(word) for word in [*argv, *more, "--output-dir", tmp_path / f"{name}-b"]]) == 0
        assert judged_files(tmp_path / f"{name}-a") == judged_files(tmp_path / f"{name}-b")
        assert "12 of 12 judgements are in" in capsys.readouterr().err
    record = judged_files(tmp_path / "expected-b")["forward.jsonl"]
    assert {each["pred_finish_reason"] for each in record} == {"stop", "prompt_too_long"}
    assert record[4]["pred_shortened"][0] > 0
    assert (tmp_path / "home" / "judgements" / "judgements.sqlite").exists()


def damage(path: Path) -> None:
    path.write_bytes(b"no database at all" * 100)


def of_tomorrow(path: Path) -> None:
    with sqlite3.connect(path) as file:
        file.execute("PRAGMA user_version = 7")
    file.close()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (damage, "judgements.sqlite: damaged (file is not a database): remove it, or name another --cache"),
        (of_tomorrow, "judgements.sqlite: of another version of judgelm (7): remove it, or name another --cache"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_of_before_a_model_is_loaded(
    spoil: Callable[[Path], None], said: str, tmp_path: Path
) -> None:
    (tmp_path / "cache").mkdir()
    spoil(tmp_path / "cache" / "judgements.sqlite")
    engine = Counting()
    with pytest.raises(InputError) as ended:
        judge_folder(make_samples(1), tmp_path / "out", choice(engine, tmp_path / "cache"), JudgeSettings())
    assert str(ended.value).endswith(said)
    assert not engine.asked


def test_a_folder_that_is_a_file_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(InputError, match="cache: cannot be written"):
        judge_folder(make_samples(1), tmp_path / "out", choice(Counting(), tmp_path / "cache"), JudgeSettings())


@pytest.mark.parametrize("value", ["", "[]", "{}", "[7]", '[{"generation": {"text": 7}}]', "[null, null]"])
def test_a_value_that_is_none_is_judged_anew(value: str, tmp_path: Path) -> None:
    samples, cache = make_samples(1), tmp_path / "cache"
    judge_folder(samples, tmp_path / "a", choice(Counting(), cache), JudgeSettings(), orders="forward")
    with sqlite3.connect(cache / "judgements.sqlite") as file:
        file.execute("UPDATE judgements SET value = ?", (value,))
    file.close()
    assert asks(cache, tmp_path / "b", samples, JudgeSettings(), "forward") == 1
    assert asks(cache, tmp_path / "c", samples, JudgeSettings(), "forward") == 0
    assert judged_files(tmp_path / "a") == judged_files(tmp_path / "c")


def test_a_file_that_cannot_be_written_does_not_keep_a_judge_from_judging(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import judgelm.judge.cache as module

    cache = tmp_path / "cache"
    assert asks(cache, tmp_path / "a", make_samples(1), JudgeSettings(), "forward") == 1
    monkeypatch.setattr(module, "_WAIT_S", 0.01)
    holder = sqlite3.connect(cache / "judgements.sqlite")
    holder.execute("BEGIN IMMEDIATE")
    assert asks(cache, tmp_path / "b", make_samples(3), JudgeSettings(), "forward") == 2
    holder.close()
    assert "warning: " in (said := capsys.readouterr().err)
    assert "judgements are not kept there (database is locked)" in said
    assert len(lasting(tmp_path / "b" / "forward.jsonl")) == 3
    assert asks(cache, tmp_path / "c", make_samples(3), JudgeSettings(), "forward") == 2


def test_several_runs_share_a_file_at_the_same_time(tmp_path: Path) -> None:
    cache, samples = tmp_path / "cache", make_samples(400)

    def one(number: int) -> int:
        own = samples[100 * number : 100 * (number + 1)]
        return asks(cache, tmp_path / str(number), own, JudgeSettings(), "forward")

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(one, range(4))) == [100] * 4
    assert asks(cache, tmp_path / "all", samples, JudgeSettings(), "forward") == 0
