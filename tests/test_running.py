from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import build_model, make_samples, train_byte_tokenizer, train_sentencepiece_tokenizer
from test_engine import by_key, load_engine, requests

from judgelm.encoding import PromptTooLong, encode, encode_followup
from judgelm.engine.hf.batch import choose_tokens
from judgelm.engine.hf.engine import HFEngine
from judgelm.engine.interface import Request, Sampling
from judgelm.engine.row import Row
from judgelm.judge.settings import JudgeSettings
from judgelm.prompt import EOS, followup_parts, render_followup, render_prompt
from judgelm.serve.worker_requests import GenerateParams, JudgeSample


@pytest.fixture(scope="module")
def engine(model_folder: Path) -> HFEngine:
    return load_engine(model_folder)


def join_and_leave(engine: HFEngine, asked: list[Request], sampling: Sampling) -> dict[str, Row]:
    """Two rows begin, and one more joins at each third step."""
    batch = engine.open_batch(mixed=True)
    waiting = [engine.start(request, sampling) for request in asked]
    everybody = list(waiting)
    batch.join([waiting.pop(0), waiting.pop(0)])
    steps = 0
    while batch.rows or waiting:
        steps += 1
        if waiting and steps % 3 == 0:
            batch.join([waiting.pop(0)])
        if batch.rows:
            batch.step()
    return {row.request.key: row for row in everybody}


@pytest.mark.parametrize(
    "sampling", [Sampling(max_new_tokens=14), Sampling(1.0, 14, seed=5), Sampling(0.7, 14, top_p=0.5)]
)
def test_rows_that_join_a_running_batch_get_what_they_get_alone(engine: HFEngine, sampling: Sampling) -> None:
    asked = requests(engine, 8)
    expected = by_key(engine.generate(asked, sampling))
    found = join_and_leave(engine, asked, sampling)
    assert {key: row.generation for key, row in found.items()} == expected


def test_constrained_and_free_rows_share_a_batch(engine: HFEngine) -> None:
    asked = requests(engine, 6)
    free, bound = Sampling(max_new_tokens=12), Sampling(max_new_tokens=12, constrained=True)
    batch = engine.open_batch(mixed=True)
    rows = [engine.start(request, bound if index % 2 else free) for index, request in enumerate(asked)]
    batch.join(rows[:3])
    batch.step()
    batch.join(rows[3:])
    while batch.rows:
        batch.step()
    expected = [by_key(engine.generate(asked, sampling)) for sampling in (free, bound)]
    for index, row in enumerate(rows):
        assert row.generation == expected[index % 2][row.request.key]


@pytest.mark.parametrize("architecture", ["gpt2", "bloom", "mistral", "gemma2"])
def test_other_architectures_let_rows_join(architecture: str, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    llama = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "sliding_window": 64,
    }
    sizes: dict[str, dict[str, Any]] = {
        "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 2048},
        "bloom": {"hidden_size": 64, "n_layer": 2, "n_head": 4, "seq_length": 2048},
        "mistral": llama,
        "gemma2": llama | {"head_dim": 16},
    }
    tokenizer = train_byte_tokenizer(bos=False, pad=True)
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
    assert engine.can_mix
    asked = requests(engine, 5)
    sampling = Sampling(max_new_tokens=10)
    expected = by_key(engine.generate(asked, sampling))
    found = join_and_leave(engine, asked, sampling)
    assert {key: row.generation for key, row in found.items()} == expected


def test_a_row_that_leaves_changes_nothing_for_the_others(engine: HFEngine) -> None:
    asked = requests(engine, 4)
    sampling = Sampling(max_new_tokens=12)
    expected = by_key(engine.generate(asked, sampling))
    batch = engine.open_batch(mixed=True)
    rows = [engine.start(request, sampling) for request in asked]
    batch.join(rows)
    batch.step()
    batch.leave([rows[1]])
    while batch.rows:
        batch.step()
    assert rows[1].generation is not None
    assert rows[1].generation.finish_reason == "cancelled"
    assert [rows[k].generation for k in (0, 2, 3)] == [expected[str(k)] for k in (0, 2, 3)]


def test_a_row_started_again_goes_on_from_its_tokens(engine: HFEngine) -> None:
    request, sampling = requests(engine, 1)[0], Sampling(0.8, 16, seed=1)
    expected = next(engine.generate([request], sampling))
    row = engine.start(request, sampling)
    first = engine.open_batch(mixed=True)
    first.join([row])
    for _ in range(5):
        first.step()
    assert row.generation is None
    second = engine.open_batch(mixed=True)
    second.join([row])
    while second.rows:
        second.step()
    assert row.generation == expected


@pytest.mark.parametrize("kind", ["byte", "sentencepiece"])
def test_text_that_was_shown_is_never_taken_back(kind: str, model_folder: Path, sentencepiece_folder: Path) -> None:
    engine = load_engine(model_folder if kind == "byte" else sentencepiece_folder)
    asked = requests(engine, 6)
    plain = by_key(engine.generate(asked, Sampling(1.0, 60)))
    # stop strings of several characters, of which most rows write a part at least
    stops = tuple(g.text[20:24] for g in plain.values() if len(g.text) > 30 and "\ufffd" not in g.text[20:24])
    assert stops
    batch = engine.open_batch(mixed=True)
    rows = [engine.start(request, Sampling(1.0, 60, stops)) for request in asked]
    shown: dict[str, str] = {row.request.key: "" for row in rows}
    batch.join(rows)
    while True:
        for row in rows:
            key, text = row.request.key, row.show()
            assert text.startswith(shown[key]) or "\ufffd" in text
            shown[key] = text
        if not batch.rows:
            break
        batch.step()
    ended = 0
    for row in rows:
        assert row.generation is not None
        assert shown[row.request.key] == row.generation.text
        assert not any(stop in row.generation.text for stop in stops)
        assert plain[row.request.key].text.startswith(row.generation.text)
        ended += row.generation.text != plain[row.request.key].text
    assert ended


def test_nucleus_draws_from_the_likeliest_tokens_alone(engine: HFEngine) -> None:
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))
    request = requests(engine, 1)[0]
    drawn: dict[float, set[int]] = {}
    for top_p in (0.0, 0.4, 0.7, 0.9, 1.0):
        row = engine.start(request, Sampling(1.0, top_p=top_p))
        drawn[top_p] = {choose_tokens(logits.clone(), [row])[0] for _ in range(400)}
    assert drawn == {0.0: {0}, 0.4: {0}, 0.7: {0, 1}, 0.9: {0, 1, 2}, 1.0: {0, 1, 2, 3}}


def test_stop_tokens_end_a_row_and_are_no_text(engine: HFEngine) -> None:
    request = requests(engine, 1)[0]
    row = engine.start(request, Sampling(max_new_tokens=10))
    batch = engine.open_batch()
    batch.join([row])
    while batch.rows:
        batch.step()
    end = row.tokens[4]
    stopped = next(engine.generate([request], Sampling(max_new_tokens=10, stop_token_ids=(end,))))
    assert stopped.num_tokens == row.tokens.index(end) + 1
    assert stopped.finish_reason == "stop"


def written(engine: HFEngine, text: str, sampling: Sampling) -> Row:
    """A row to which a model gives the tokens of `text`, one after the other, until it has finished."""
    row = engine.start(requests(engine, 1)[0], sampling)
    for token in engine.tokenizer(text, add_special_tokens=False).input_ids:
        if row.generation is None:
            row.add(token, (), engine.tokenizer)
    return row


SCORES_ONLY = Sampling(max_new_tokens=12, stop=("\n",), most_thoughts=400)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("8 7\nwhy", "8 7"),
        (
            "<think>\nLet me see.\n\nMaybe 3 4?\n</think>\n\n8 7\nwhy",
            "<think>\nLet me see.\n\nMaybe 3 4?\n</think>\n\n8 7",
        ),
        ("<think></think>\n8 7\nwhy", "<think></think>\n8 7"),
    ],
)
def test_scores_only_ends_at_a_newline_that_is_not_in_thoughts(engine: HFEngine, text: str, kept: str) -> None:
    row = written(engine, text, SCORES_ONLY)
    assert row.generation is not None
    assert (row.generation.text, row.generation.finish_reason) == (kept, "stop")


def test_thoughts_have_room_of_their_own_and_the_score_line_has_its_own_too(engine: HFEngine) -> None:
    lasting = written(engine, "<think>" + "\nmaybe" * 1000, SCORES_ONLY).generation
    assert lasting is not None
    assert lasting.finish_reason == "length"
    assert lasting.num_tokens == min(412, engine.context_length - lasting.num_prompt_tokens)
    talkative = written(engine, "<think>\nhm\n</think>\n\n" + "so it is " * 100, SCORES_ONLY).generation
    thoughts = written(engine, "<think>\nhm\n</think>", SCORES_ONLY)
    assert talkative is not None
    assert (talkative.finish_reason, talkative.num_tokens) == ("length", len(thoughts.tokens) + 12)


def test_without_room_for_thoughts_they_are_text_like_any_other(engine: HFEngine) -> None:
    row = written(engine, "<think>\nhm\n</think>", Sampling(max_new_tokens=40, stop=("\n",)))
    assert row.generation is not None
    assert row.generation.text == "<think>"


def test_scores_only_leaves_room_for_thoughts_but_not_in_the_prompts_length() -> None:
    sampling = JudgeSettings(scores_only=True, max_new_tokens=500).sampling(2)
    assert (sampling.max_new_tokens, sampling.most_thoughts, sampling.stop) == (32, 500, ("\n",))
    assert JudgeSettings(max_new_tokens=500).sampling(2).most_thoughts == 0
    params = GenerateParams.of(JudgeSample.of(make_samples(1)[0], "pair"), sampling)
    assert GenerateParams.model_validate(params.model_dump(exclude_unset=True)).most_thoughts == 500


TURNS = [("Why?", "Because of </s> it."), ("And?", "No more.")]


@pytest.mark.parametrize("make", [train_byte_tokenizer, train_sentencepiece_tokenizer])
def test_a_followup_has_the_real_end_of_text_between_turns_only(make: Any) -> None:
    tokenizer = make()
    sample = make_samples(3)[2]
    judgement = "8 7\nAssistant 1 is better."
    found = encode_followup(sample, "pair", judgement, TURNS, "Sure?", tokenizer, 4000)
    assert found.text == render_followup(render_prompt(sample), judgement, TURNS, "Sure?")
    assert found.input_ids.count(tokenizer.eos_token_id) == len(TURNS)
    assert found.text.count(EOS) == len(TURNS) + 1
    first = followup_parts(render_prompt(sample), judgement, TURNS, "Sure?")[0]
    assert found.input_ids[: len(encode(first, tokenizer))] == encode(first, tokenizer)


def test_a_followup_shortens_the_answers_and_never_the_conversation(tmp_path: Path) -> None:
    tokenizer = train_byte_tokenizer()
    sample = make_samples(12, words=12)[11]
    whole = encode_followup(sample, "pair", "8 7\nGood.", TURNS, "Sure?", tokenizer, 4000)
    context = len(whole.input_ids) + 44
    engine = load_engine(build_model(tmp_path / "short", tokenizer, context=context))
    prompt = engine.fit_followup(sample, "pair", "8 7\nGood.", TURNS, "Sure?", 64)
    assert prompt.shortened
    assert len(prompt.input_ids) <= context - 64
    assert prompt.text.endswith("USER: Sure? ASSISTANT:")
    assert "Because of </s> it." in prompt.text
    with pytest.raises(PromptTooLong):
        engine.fit_followup(sample, "pair", "8 7\n" + "word " * 900, TURNS, "Sure?", 64)
