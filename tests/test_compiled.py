"""Parts of the layers are compiled where that is earned back: what the model says stays, and nobody waits in vain."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import test_engine
import test_packed
from conftest import make_samples, train_byte_tokenizer
from judging import FakeEngine, judge_args, run_command
from test_bases import KINDS, build
from test_engine import by_key, load_engine, requests
from test_int8 import load as load_in_8_bits
from torch._dynamo.utils import counters

from benchmarks import ways
from judgelm import Judge, Sample
from judgelm.distribution import line_text, score_lines
from judgelm.engine.hf import compiled
from judgelm.engine.hf.compiled import CompiledParts, seconds_per_token
from judgelm.engine.hf.engine import HFEngine
from judgelm.engine.interface import LoadOptions, Sampling
from judgelm.errors import InputError
from judgelm.judge.choice import ModelChoice, prepare
from judgelm.judge.judge import foresee
from judgelm.judge.settings import JudgeSettings, Order

LLAMA = "LlamaMLP, LlamaRMSNorm, apply_rotary_pos_emb"
GREEDY = Sampling(max_new_tokens=16)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder for what is compiled, as a user's cache is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
        patch.setenv("JUDGELM_CACHE", str(folder := tmp_path_factory.mktemp("cache")))
        yield folder / "compiled"
        os.environ.pop("TORCHINDUCTOR_CACHE_DIR", None)


@pytest.fixture(scope="module")
def engine(model_folder: Path, kernels: Path) -> HFEngine:
    made = load_engine(model_folder)
    made.parts.compile()
    assert made.description["compiled"] == LLAMA
    assert list(kernels.rglob("*.so"))
    return made


@pytest.fixture
def avx2(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor for which compiling pays."""
    monkeypatch.setattr("judgelm.engine.hf.compiled.only_avx2", lambda: True)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Attempts to compile, of which nothing comes."""
    attempts: list[int] = []
    monkeypatch.setattr(CompiledParts, "compile", lambda _: attempts.append(1))
    return attempts


@pytest.mark.parametrize(
    "test",
    [
        test_engine.test_a_batch_gives_what_one_by_one_and_transformers_generate_give,
        test_engine.test_sampling_depends_on_seed_and_id_not_on_batch_or_order,
        test_packed.test_logits_of_shared_and_packed_prompts_are_those_of_each_prompt_alone,
        test_packed.test_rows_that_end_make_place_and_the_others_keep_their_keys,
        test_packed.test_a_forced_token_is_not_computed,
    ],
)
def test_compiled_what_is_true_of_an_engine_stays_true(engine: HFEngine, test: Callable[[HFEngine], None]) -> None:
    test(engine)


def test_compiled_texts_and_probabilities_are_those_of_the_model_as_it_is(engine: HFEngine, model_folder: Path) -> None:
    before = counters["stats"]["unique_graphs"]
    plain = load_engine(model_folder)
    asked = requests(engine, 10)
    assert by_key(engine.generate(asked, GREEDY)) == by_key(plain.generate(asked, GREEDY))
    lines = [line_text(scores) for scores in score_lines()]
    expected: dict[str, Any] = by_key(plain.score(asked, lines))
    for one in engine.score(asked, lines):
        assert one.log_probs == pytest.approx(expected[one.key].log_probs, abs=1e-4)
    # one row or many, one token or many: nothing more was compiled for any of them
    assert counters["stats"]["unique_graphs"] == before > 0
    # the layers of an MLP, whose weights nobody can look into, do not break it apart
    assert not counters["graph_break"]
    assert plain.description["compiled"] == "nothing"


def test_compiled_padded_rows_are_those_of_the_model_as_it_is(kernels: Path) -> None:
    tokenizer = train_byte_tokenizer()
    plain, compiled = (HFEngine(build("mistral", tokenizer, **KINDS["mistral"][1]), tokenizer) for _ in "ab")
    assert not plain.packs
    compiled.parts.compile()
    assert "MistralMLP" in str(compiled.description["compiled"])
    asked = requests(plain, 6)
    assert by_key(compiled.generate(asked, GREEDY)) == by_key(plain.generate(asked, GREEDY))


def test_compiled_layers_in_8_bits_say_the_same_and_do_not_ask_who_is_beside(kernels: Path, model_folder: Path) -> None:
    plain, small = (load_in_8_bits(model_folder, compile=wanted) for wanted in ("off", "on"))
    assert small.description["compiled"] == f"Int8Linear, {LLAMA}"
    asked = requests(plain, 8)
    one, other = ({each.key: each.log_probs for each in made.score(asked, ["8 7\n"])} for made in (plain, small))
    for key in one:
        assert one[key] == pytest.approx(other[key], abs=1e-3)
    together = by_key(small.generate(asked, GREEDY))
    assert together == {request.key: each for request in asked for each in small.generate([request], GREEDY)}


def test_compiled_beside_its_work_a_served_model_says_the_same(kernels: Path, model_folder: Path, avx2: None) -> None:
    engine = load_engine(model_folder)
    asked = requests(engine, 6)
    schedule = engine.open(4)
    rows = [engine.start(request, GREEDY) for request in asked]
    schedule.waiting.extend(rows)
    enough = int(120 / seconds_per_token(engine.model)) + 1
    while schedule.waiting or schedule.rows:
        schedule.advance(schedule.admit())
        engine.expect(enough, waits=False)
    assert engine.parts.thread is not None
    engine.parts.thread.join()
    assert engine.description["compiled"] == LLAMA
    after = by_key(engine.generate(asked, GREEDY))
    assert {row.request.key: row.generation for row in rows} == after


def test_without_a_compiler_a_run_goes_on_with_one_line(
    run: Any, model_folder: Path, pairs_file: Path, tmp_path: Path
) -> None:
    settings = {**os.environ, "CXX": "/nonexistent", "JUDGELM_CACHE": str(tmp_path / "cache")}
    settings.pop("TORCHINDUCTOR_CACHE_DIR", None)
    arguments = judge_args(model_folder, pairs_file, tmp_path / "out", "--compile", "on", "--limit", "2")
    result = run("-m", "judgelm", *arguments, env=settings)
    assert result.returncode == 0, result.stderr
    (said,) = (line for line in result.stderr.splitlines() if "compile" in line.lower())
    assert said.startswith("judgelm: the model is not compiled, and goes on as it is: it cannot be (")
    (session,) = json.loads((tmp_path / "out" / "run.json").read_text())["sessions"]
    assert session["judged"] == 4
    assert session["engine"]["compiled"] == "nothing"


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """torch's compiler gives back what it gets."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compiled, "_compiled", lambda function: function)
    monkeypatch.setattr(compiled, "_with_rotary", compiled._with_rotary.__wrapped__)


def test_a_model_that_is_compiled_already_is_described_so(model_folder: Path, uncompiled: None) -> None:
    engine = load_engine(model_folder)
    for each in (engine, engine, HFEngine(engine.model, engine.tokenizer)):
        each.parts.compile()
        assert each.description["compiled"] == LLAMA


def test_a_cache_that_cannot_be_written_is_told_before_anything_is_compiled(
    model_folder: Path, uncompiled: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    (tmp_path / "file").touch()
    monkeypatch.setenv("JUDGELM_CACHE", str(tmp_path / "file"))
    engine = load_engine(model_folder)
    engine.parts.compile()
    said = "judgelm: the model is not compiled, and goes on as it is: it cannot be ("
    assert capsys.readouterr().err.startswith(said)
    assert engine.description["compiled"] == "nothing"
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ
    monkeypatch.setenv("JUDGELM_CACHE", str(tmp_path / "cache"))
    engine.parts.compile()
    assert engine.description["compiled"] == LLAMA
    assert (tmp_path / "cache" / "compiled").stat().st_mode & 0o777 == 0o700


def test_a_benchmark_has_what_a_long_run_has(model_folder: Path, tried: list[int], avx2: None) -> None:
    ways.ours(str(model_folder), "float32", "scores")
    assert tried == [1]


def test_a_model_without_known_parts_goes_on_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = train_byte_tokenizer()
    engine = HFEngine(build("opt", tokenizer, ffn_dim=64, word_embed_proj_dim=32), tokenizer, compile="on")
    assert capsys.readouterr().err == (
        "judgelm: the model is not compiled, and goes on as it is: no part of a OPTForCausalLM is known\n"
    )
    assert engine.description["compiled"] == "nothing"
    assert len(by_key(engine.generate(requests(engine, 2), GREEDY))) == 2


def test_with_avx512_and_in_16_bits_nothing_is_compiled_by_itself(
    model_folder: Path, tried: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for dtype, without in (("float32", False), ("bfloat16", True)):
        monkeypatch.setattr("judgelm.engine.hf.compiled.only_avx2", lambda known=without: known)
        load_engine(model_folder, dtype=dtype).expect(10**18)
    assert not tried


def test_layers_in_8_bits_are_compiled_where_it_is_long_enough(model_folder: Path, tried: list[int]) -> None:
    load_in_8_bits(model_folder, compile="auto").expect(10**18)
    assert tried == [1]


def test_what_is_long_enough_is_compiled_once(model_folder: Path, tried: list[int], avx2: None) -> None:
    engine = load_engine(model_folder)
    enough = int(120 / seconds_per_token(engine.model)) + 1
    engine.expect(enough // 2)
    engine.expect(0)
    assert not tried
    engine.expect(enough)
    engine.expect(enough)
    assert tried == [1]


def test_off_is_off_and_on_compiles_before_the_first_row(model_folder: Path, tried: list[int], avx2: None) -> None:
    Judge.load(model_folder, device="cpu", compile="off").engine.expect(10**18)  # type: ignore[attr-defined]
    assert not tried
    Judge.load(model_folder, device="cpu", compile="on")
    assert tried == [1]
    with pytest.raises(InputError, match="compile 'yes': expected one of auto, on, off"):
        LoadOptions(compile="yes")


def test_a_run_tells_the_engine_what_is_to_come_and_one_that_goes_on_the_same(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    monkeypatch.setattr(HFEngine, "expect", lambda _, tokens: told.append(tokens))
    judge = Judge.load(model_folder, device="cpu")
    samples, settings = make_samples(8), JudgeSettings(temperature=0, max_new_tokens=4, scores_only=True)
    judged: list[tuple[Order, str]] = [("forward", sample.key) for sample in samples[:6]]
    for done in ([], judged):
        list(judge.run(samples, ("forward",), settings, done))
    assert told == [foresee(samples, ("forward",), settings)[0]] * 2


def test_tokens_are_guessed_by_letters_orders_and_whether_there_are_reasons() -> None:
    samples = [Sample(k, "q" * 400, ("a" * 100, "b" * 100), reference="r" * 200) for k in range(100)]
    short = JudgeSettings(scores_only=True)

    def tokens(of: Any, settings: JudgeSettings, *orders: Any) -> int:
        expected, same = foresee(of, orders, settings)
        assert list(same) == ([] if of is nothing else samples)
        return expected

    nothing: list[Sample] = []
    assert tokens(samples, short, "forward") == 100 * (200 + 200)
    assert tokens(samples, short, "forward", "reversed") == 200 * (200 + 200)
    assert tokens(samples, JudgeSettings(), "forward") == 100 * (200 + 200 + 256)
    assert tokens(samples, JudgeSettings(max_new_tokens=9), "forward") == 100 * (200 + 200 + 9)
    assert tokens(iter(samples), short, "forward") == tokens(nothing, short, "forward") == 0
    # an engine that is not of this process need not know
    Judge(FakeEngine()).expect(10**18)


def test_a_run_goes_on_with_another_choice(model_folder: Path) -> None:
    described = [prepare(ModelChoice(model_folder, device="cpu", compile=each)).described for each in ("on", "off")]
    assert described[0] == described[1]


def test_a_server_compiles_nothing_for_us(pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["judge", "--question-file", str(pairs_file), "--output-dir", str(tmp_path / "out")]
    arguments += ["--engine", "openai", "--base-url", "http://127.0.0.1:1/v1", "--compile", "on"]
    assert run_command(arguments) == 2
    assert "--compile on is not for --engine openai" in capsys.readouterr().err
