from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import build_model, make_samples, train_byte_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from judgelm.encoding import decode_after, encode_prompt
from judgelm.engine.hf.engine import HFEngine
from judgelm.engine.hf.schedule import Room
from judgelm.engine.interface import Generation, Request, Sampling
from judgelm.engine.score_line import allowed_tokens, score_pieces
from judgelm.errors import InputError
from judgelm.judgement import Judgement, ParseState
from judgelm.models.folder import find_model
from judgelm.models.loading import load_model


def requests(engine: HFEngine, count: int, prefill: str = "") -> list[Request]:
    task = "single" if prefill else "pair"
    made = []
    for sample in make_samples(count):
        prompt = encode_prompt(sample, task, engine.tokenizer, engine.context_length)
        made.append(Request(sample.key, prompt.text, prompt.input_ids, prefill))
    return made


def load_engine(folder: Path, batch_tokens: int | None = None, dtype: str = "float32") -> HFEngine:
    model, tokenizer = load_model(find_model(str(folder)), dtype=dtype, device="cpu")
    return HFEngine(model, tokenizer, batch_tokens)


def by_key(generations: Any) -> dict[str, Generation]:
    found = {}
    for generation in generations:
        assert generation.key not in found
        found[generation.key] = generation
    return found


@pytest.fixture(scope="module")
def engine(model_folder: Path) -> HFEngine:
    return load_engine(model_folder)


def test_a_batch_gives_what_one_by_one_and_transformers_generate_give(engine: HFEngine) -> None:
    asked = requests(engine, 12)
    greedy = Sampling(max_new_tokens=24)
    together = by_key(engine.generate(asked, greedy))
    engine.batch_tokens = 1
    alone = by_key(engine.generate(asked, greedy))
    engine.batch_tokens = None
    assert together == alone
    assert len({len(request.input_ids) for request in asked}) > 4
    for request in asked:
        ids = torch.tensor([request.input_ids])
        output = engine.model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24, pad_token_id=0
        )[0, len(request.input_ids) :].tolist()
        text = decode_after(request.input_ids[-4:], output, engine.tokenizer)
        assert together[request.key].text == text
        assert together[request.key].num_tokens == len(output)
        assert together[request.key].num_prompt_tokens == len(request.input_ids)


def test_each_row_stops_for_itself(model_folder: Path) -> None:
    engine = load_engine(model_folder)
    asked = requests(engine, 8)
    plain = by_key(engine.generate(asked, Sampling(max_new_tokens=24)))
    letter = max("etaoin 19", key=lambda c: len({g.text.find(c) for g in plain.values()}))
    stopped = by_key(engine.generate(asked, Sampling(max_new_tokens=24, stop=(letter,))))
    assert len({g.num_tokens for g in stopped.values()}) > 1
    for key, generation in stopped.items():
        assert generation.text == plain[key].text.split(letter)[0]
        assert generation.finish_reason == ("stop" if letter in plain[key].text else plain[key].finish_reason)


def test_eos_ends_a_row_and_is_no_text(model_folder: Path) -> None:
    engine = load_engine(model_folder)
    asked = requests(engine, 6)
    tokens: dict[str, list[int]] = {}
    for request in asked:
        ids = torch.tensor([request.input_ids])
        output = engine.model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=10)
        tokens[request.key] = output[0, len(request.input_ids) :].tolist()
    end = tokens["3"][4]
    engine.model.generation_config.eos_token_id = [end]
    engine = HFEngine(engine.model, engine.tokenizer)
    for generation in engine.generate(asked, Sampling(max_new_tokens=10)):
        expected = tokens[generation.key]
        if end in expected:
            expected = expected[: expected.index(end) + 1]
            assert generation.finish_reason == "stop"
            text = expected[:-1]
        else:
            text = expected
        request = asked[int(generation.key)]
        assert generation.text == decode_after(request.input_ids[-4:], text, engine.tokenizer)
        assert generation.num_tokens == len(expected)


# D6 of docs/differences.md
def test_sampling_depends_on_seed_and_id_not_on_batch_or_order(engine: HFEngine) -> None:
    asked = requests(engine, 10)
    sampling = Sampling(temperature=1.0, max_new_tokens=16, seed=3)
    first = by_key(engine.generate(asked, sampling))
    engine.batch_tokens = 700
    assert by_key(engine.generate(asked[::-1], sampling)) == first
    engine.batch_tokens = None
    assert by_key(engine.generate(asked[4:6], sampling)) == {key: first[key] for key in ("4", "5")}
    other = by_key(engine.generate(asked, Sampling(temperature=1.0, max_new_tokens=16, seed=4)))
    assert all(other[key].text != first[key].text for key in first)


def test_sampling_follows_the_models_distribution(engine: HFEngine) -> None:
    request = requests(engine, 1)[0]
    many = [Request(str(k), request.prompt, request.input_ids) for k in range(2000)]
    drawn = [g.text for g in engine.generate(many, Sampling(temperature=2.0, max_new_tokens=1))]
    with torch.inference_mode():
        logits = engine.model(torch.tensor([request.input_ids])).logits[0, -1]
    probabilities = torch.softmax(logits / 2.0, -1)
    expected: dict[str, float] = {}
    for token, probability in enumerate(probabilities.tolist()):
        # EOS has no text, and half a character's bytes all read alike
        text = "" if token == 1 else decode_after(request.input_ids[-4:], [token], engine.tokenizer)
        expected[text] = expected.get(text, 0.0) + probability
    likeliest = sorted(expected, key=expected.__getitem__)[-5:]
    assert {text: drawn.count(text) / len(drawn) for text in likeliest} == pytest.approx(
        {text: expected[text] for text in likeliest}, abs=0.04
    )


def test_requests_done_are_not_given_again_and_change_nothing(engine: HFEngine) -> None:
    asked = requests(engine, 10)
    sampling = Sampling(max_new_tokens=8)
    everything = by_key(engine.generate(asked, sampling))
    rest = by_key(engine.generate(asked, sampling, done={"2", "5", "7"}))
    assert rest == {key: g for key, g in everything.items() if key not in {"2", "5", "7"}}


def test_text_streams_as_it_grows(engine: HFEngine) -> None:
    grown: dict[str, list[str]] = {}
    done = by_key(
        engine.generate(
            requests(engine, 3), Sampling(max_new_tokens=6), on_text=lambda k, t: grown.setdefault(k, []).append(t)
        )
    )
    for key, texts in grown.items():
        assert texts[-1] == done[key].text
        assert len(texts) == done[key].num_tokens
        assert [len(text) for text in texts] == sorted(len(text) for text in texts)


def test_rows_join_within_the_budget_and_fill_up_what_finishes(engine: HFEngine) -> None:
    rows = [engine.start(request, Sampling(max_new_tokens=10)) for request in requests(engine, 40)]
    schedule = engine.schedule(Room(rows=6, tokens=4000, prefill=900, refill=2))
    schedule.waiting.extend(rows)
    read, most = [], 0
    while schedule.waiting or schedule.batch.rows:
        joining = schedule.admit()
        if joining:
            read.append(sum(len(row.request.input_ids) for row in joining))
            assert not schedule.batch.rows or len(joining) >= 2 or not schedule.waiting
        schedule.advance(joining)
        running = schedule.batch.rows
        most = max(most, len(running))
        assert len(running) <= 6
        assert not running or len(running) * (max(len(row.request.input_ids) for row in running) + 10) <= 4000
    assert most > 3
    # what they share is not counted, so that a little more than 900 may have been read
    assert all(tokens <= 1300 for tokens in read)
    assert all(row.generation is not None for row in rows)


def families(count: int, size: int = 2) -> list[Request]:
    """Prompts of 140 tokens, of which those of a family have the first 100 in common."""
    ids = [[*[10 + family] * 100, *[50 + member] * 40] for family in range(count) for member in range(size)]
    return [Request(str(number), "", each) for number, each in enumerate(ids)]


def test_what_begins_alike_is_not_split_where_a_prefill_ends(engine: HFEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two families of two are 360 tokens, and of a third one there would be room for the first."""
    schedule = engine.schedule(Room(rows=32, tokens=32000, prefill=520))
    schedule.waiting.extend(engine.start(request, Sampling(max_new_tokens=2)) for request in families(5))
    joined = []
    while schedule.waiting:
        joined.append(len(schedule.admit()))
    assert joined == [4, 4, 2]
    # one family alone is read in as many parts as it takes
    schedule.waiting.extend(engine.start(request, Sampling(max_new_tokens=2)) for request in families(1, 30))
    assert len(schedule.admit()) == 10
    read: list[int] = []

    def score(model: Any, rope: Any, chunk: list[Request], tree: Any) -> list[Any]:
        read.append(len(chunk))
        return []

    monkeypatch.setattr("judgelm.engine.hf.engine.score_prompts", score)
    monkeypatch.setattr(HFEngine, "room", lambda _: Room(rows=32, tokens=32000, prefill=520))
    assert list(engine.score(families(5), ["8 7\n"])) == []
    assert read == [4, 4, 2]


class OutOfMemory:
    """A model that holds at most `most` prompts at once."""

    def __init__(self, model: Any, most: int) -> None:
        self.model, self.most, self.failed = model, most, 0
        self.forward = model.forward
        model.forward = self

    def __call__(self, input_ids: torch.Tensor, **settings: Any) -> Any:
        if len(settings["logits_to_keep"]) > self.most:
            self.failed += 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.forward(input_ids=input_ids, **settings)


def test_out_of_memory_halves_the_batch_and_goes_on_with_a_warning(model_folder: Path) -> None:
    engine = load_engine(model_folder)
    asked = requests(engine, 9)
    engine.batch_tokens = 8000
    expected = by_key(engine.generate(asked, Sampling(max_new_tokens=8)))
    limited = OutOfMemory(engine.model, 2)
    with pytest.warns(UserWarning, match="out of memory with . prompts at once") as warned:
        found = by_key(engine.generate(asked, Sampling(max_new_tokens=8)))
    assert str(warned[0].message) == "out of memory with 7 prompts at once, going on with half"
    assert found == expected
    assert 1 <= limited.failed <= 4
    # the next block begins with what was learnt
    assert engine.batch_tokens is not None
    assert engine.batch_tokens < 8000


# D22 of docs/differences.md
def test_one_prompt_that_does_not_fit_the_memory_is_given_up_and_the_others_go_on(model_folder: Path) -> None:
    engine = load_engine(model_folder)
    asked = requests(engine, 5)
    longest = max(len(request.input_ids) for request in asked)
    forward = engine.model.forward

    def limited(input_ids: torch.Tensor, position_ids: torch.Tensor, **settings: Any) -> Any:
        if position_ids.max() == longest - 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return forward(input_ids=input_ids, position_ids=position_ids, **settings)

    engine.model.forward = limited
    with pytest.warns(UserWarning, match="out of memory with") as warned:
        found = by_key(engine.generate(asked, Sampling(max_new_tokens=8)))
    assert "alone" in str(warned[-1].message)
    reasons = {len(r.input_ids) == longest: found[r.key].finish_reason for r in asked}
    assert set(found) == {request.key for request in asked}
    assert reasons[True] == "out_of_memory"
    assert reasons[False] in ("stop", "length")


@pytest.mark.parametrize("kind", ["byte", "sentencepiece"])
@pytest.mark.parametrize("prefill", ["", "10"])
@pytest.mark.parametrize("temperature", [0.0, 5.0])
def test_constrained_decoding_never_fails_to_parse(
    kind: str, prefill: str, temperature: float, model_folder: Path, sentencepiece_folder: Path
) -> None:
    engine = load_engine(model_folder if kind == "byte" else sentencepiece_folder)
    sampling = Sampling(temperature, 64, ("\n",), constrained=True)
    texts = [prefill + g.text for g in engine.generate(requests(engine, 16, prefill), sampling)]
    judgements = [Judgement.parse(text) for text in texts]
    assert {j.state for j in judgements} == {ParseState.OK}
    assert all(1 <= score <= 10 and score == int(score) for j in judgements for score in j.scores or ())
    if temperature:
        assert len(set(texts)) > 4


def test_constraint_frees_what_follows_the_line_and_works_in_transformers_generate(engine: HFEngine) -> None:
    asked = requests(engine, 3)
    pieces, everything = score_pieces(engine.tokenizer), list(range(len(engine.tokenizer)))
    ours = by_key(engine.generate(asked, Sampling(max_new_tokens=20, constrained=True)))
    for request in asked:
        ids, num = torch.tensor([request.input_ids]), len(request.input_ids)

        def allowed(_: int, written: torch.Tensor, num: int = num) -> list[int]:
            return allowed_tokens(written[num:].tolist(), pieces, "", 2) or everything

        output = engine.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=20,
            pad_token_id=0,
            prefix_allowed_tokens_fn=allowed,
        )
        text = decode_after(request.input_ids[-4:], output[0, num:].tolist(), engine.tokenizer)
        assert ours[request.key].text == text
        line, newline, rest = text.partition("\n")
        assert Judgement.parse(line).state is ParseState.OK
        assert newline
        assert not set(rest) <= set("0123456789 \n")


def test_many_answers_get_as_many_scores(engine: HFEngine) -> None:
    request = requests(engine, 1)[0]
    asked = [Request(str(n), request.prompt, request.input_ids, "", n) for n in range(2, 11)]
    for generation in engine.generate(asked, Sampling(max_new_tokens=100, stop=("\n",), constrained=True)):
        assert len(Judgement.parse(generation.text, int(generation.key)).scores or ()) == int(generation.key)


@pytest.mark.parametrize("architecture", ["gpt2", "opt", "bloom", "mistral"])
def test_other_architectures_generate_what_transformers_generates(architecture: str, tmp_path: Path) -> None:
    from transformers import AutoConfig

    tokenizer = train_byte_tokenizer(bos=False, pad=True)
    sizes = {
        "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 2048},
        "opt": {
            "hidden_size": 64,
            "ffn_dim": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "word_embed_proj_dim": 64,
            "max_position_embeddings": 2048,
        },
        "bloom": {"hidden_size": 64, "n_layer": 2, "n_head": 4, "seq_length": 2048},
        "mistral": {
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "sliding_window": 64,
            "max_position_embeddings": 2048,
        },
    }
    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    config = AutoConfig.for_model(architecture, vocab_size=len(tokenizer), **sizes[architecture], **ids)
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    engine = load_engine(tmp_path)
    asked = requests(engine, 5)
    found = by_key(engine.generate(asked, Sampling(max_new_tokens=12)))
    for request in asked:
        ids_ = torch.tensor([request.input_ids])
        output = engine.model.generate(ids_, attention_mask=torch.ones_like(ids_), do_sample=False, max_new_tokens=12)
        text = decode_after(request.input_ids[-4:], output[0, ids_.shape[1] :].tolist(), engine.tokenizer)
        assert found[request.key].text == text


def test_adapter_folder_loads_over_its_base(model_folder: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    model = AutoModelForCausalLM.from_pretrained(model_folder)
    torch.manual_seed(0)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "adapter")
    engine = load_engine(tmp_path / "adapter")
    ids = torch.tensor([requests(engine, 1)[0].input_ids])
    with torch.inference_mode():
        expected = adapted(ids).logits
        found = engine.model(ids).logits
        base = AutoModelForCausalLM.from_pretrained(model_folder)(ids).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(found, base, atol=1e-2)
    assert find_model(str(tmp_path / "adapter")).fingerprint() != find_model(str(model_folder)).fingerprint()


def test_hub_id_in_the_local_cache_loads_offline(model_folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    from huggingface_hub import constants

    repository = tmp_path / "models--org--judge"
    snapshot = repository / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(model_folder)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(snapshot.name)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert find_model("org/judge").path == snapshot
    with pytest.raises(InputError, match="org/nothing: no such folder, and the hub did not give it"):
        find_model("org/nothing")
    with pytest.raises(InputError, match=r"tinny: no such folder, .*; the judge that is here already is tiny$"):
        find_model("tinny")


def test_folders_that_are_no_models_are_refused(tmp_path: Path, model_folder: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        find_model(str(tmp_path / "missing"))
    with pytest.raises(InputError, match="holds no weights"):
        find_model(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"holds no config\.json"):
        find_model(str(tmp_path))
    (tmp_path / "config.json").write_text((model_folder / "config.json").read_text())
    with pytest.raises(InputError, match="cannot be loaded"):
        load_model(find_model(str(tmp_path)), device="cpu")
    AutoTokenizer.from_pretrained(model_folder).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="cannot be loaded"):
        load_model(find_model(str(tmp_path)), device="cpu")
    (tmp_path / "adapter_config.json").write_text("{broken")
    with pytest.raises(InputError, match=r"adapter_config\.json:1: not JSON"):
        find_model(str(tmp_path))
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": None}))
    with pytest.raises(InputError, match="does not name its base"):
        find_model(str(tmp_path))


def test_weights_that_do_not_cover_the_model_are_refused(tmp_path: Path, model_folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(model_folder, tmp_path / "model")
    weights = load_file(model_folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"the weights lack model\.layers\.1\.mlp\.up_proj\.weight"):
        load_model(find_model(str(tmp_path / "model")), device="cpu")


def test_code_that_comes_with_a_model_is_never_run(tmp_path: Path, model_folder: Path) -> None:
    shutil.copytree(model_folder, tmp_path / "model")
    config = json.loads((model_folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    (tmp_path / "model" / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    with pytest.raises(InputError, match="cannot be loaded"):
        load_model(find_model(str(tmp_path / "model")), device="cpu")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("device", ["cuda:7", "toaster", "mps:3", "cpu:9"])
def test_devices_that_are_not_there_are_refused(device: str, model_folder: Path) -> None:
    with pytest.raises(InputError, match=f"device {device}: this machine has no such device"):
        load_model(find_model(str(model_folder)), device=device)


def test_automatic_dtype_is_one_the_processor_computes_in(model_folder: Path) -> None:
    model, _ = load_model(find_model(str(model_folder)), device="cpu")
    native = torch.cpu.get_capabilities().get("avx512_bf16") or torch.cpu.get_capabilities().get("amx_bf16")
    assert model.dtype == (torch.bfloat16 if native else torch.float32)
    assert AutoTokenizer.from_pretrained(model_folder).eos_token == "</s>"


def test_context_is_never_overrun(tmp_path: Path) -> None:
    tokenizer = train_byte_tokenizer()
    engine = load_engine(build_model(tmp_path / "short", tokenizer, context=700))
    asked = requests(engine, 4)
    for generation in engine.generate(asked, Sampling(max_new_tokens=2000)):
        total = generation.num_prompt_tokens + generation.num_tokens
        assert total <= 700
        assert generation.finish_reason == "stop" or total == 700


def test_weights_in_8_bits_take_less_memory_and_write_much_the_same(model_folder: Path) -> None:
    pytest.importorskip("torchao", reason="torchao is not installed here")
    plain = load_engine(model_folder)
    small = HFEngine(*load_model(find_model(str(model_folder)), dtype="float32", device="cpu", quantization="int8"))
    asked = requests(plain, 12)
    sampling = Sampling(max_new_tokens=8, stop=("\n",), constrained=True)
    whole, quantized = (by_key(engine.generate(asked, sampling)) for engine in (plain, small))
    assert {Judgement.parse(generation.text).state for generation in quantized.values()} == {ParseState.OK}
    lines = ["8 7\n", "7 8\n"]
    one, other = ({s.key: s.log_probs for s in engine.score(asked, lines)} for engine in (plain, small))
    for key in whole:
        assert one[key] == pytest.approx(other[key], abs=0.3)
    with pytest.raises(InputError, match="quantization 'int3': expected one of int8, int8_dynamic"):
        load_model(find_model(str(model_folder)), device="cpu", quantization="int3")
