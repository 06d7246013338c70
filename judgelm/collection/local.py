"""Questions to models in this process, one model after the other."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from judgelm.chat_template import find_chat_template
from judgelm.collection.models import AnswerModel
from judgelm.collection.questions import Question
from judgelm.collection.replies import Ask, Reply
from judgelm.dialogue import USER, Turn
from judgelm.encoding import encode_chat
from judgelm.engine.context import ContextEngine
from judgelm.engine.interface import Engine, Generation, LoadOptions, Request, Sampling
from judgelm.engine.loading import find_loader, free_memory
from judgelm.errors import InputError, SettingError, located, one_line
from judgelm.models.devices import choose_dtype
from judgelm.models.folder import ModelFolder, find_model
from judgelm.models.loading import load_tokenizer
from judgelm.thinking import opened_thoughts, split_thoughts


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model that was found, and can be asked in its own chat template."""

    model: AnswerModel
    folder: ModelFolder
    dtype: str


def find_local(model: AnswerModel) -> LocalModel:
    """Raises InputError where it is not there, has no chat template that takes its prompt of the system, or this
    machine cannot run it. No weights are loaded.
    """
    try:
        if model.engine == "vllm" and importlib.util.find_spec("vllm") is None:
            raise SettingError("engine", "vllm needs vLLM: pip install 'judgelm[vllm]'")
        dtype = choose_dtype(model.dtype, model.device)
    except SettingError as error:
        raise InputError(f"model {model.name}: {error}") from None
    folder = find_model(model.model)
    greeting = Question(0, (Turn(USER, "Hello"),)).messages(model.system)
    with located(f"model {model.name}: cannot be asked in chat"):
        find_chat_template(load_tokenizer(folder)).render(greeting, enable_thinking=model.max_thinking_tokens > 0)
    return LocalModel(model, folder, dtype)


def ask_local(found: LocalModel, asks: Sequence[Ask], seed: int, is_done: Callable[[Ask], bool]) -> Iterator[Reply]:
    """The replies to what is not done, as they come. What is done takes part in the blocks of what is not: these so
    meet the same batches as in an undisturbed run, and get the same bits. Where all is done no model is loaded.
    """
    if all(map(is_done, asks)):
        return
    model = found.model
    options = LoadOptions(
        found.dtype, model.device, model.batch_tokens, model.num_gpus, quantization=model.quantization
    )
    engine = find_loader(model.engine)(found.folder, options)
    sampling = Sampling(
        model.temperature,
        model.max_tokens,
        seed=seed,
        top_p=model.top_p,
        most_thoughts=model.max_thinking_tokens,
        reasoning=model.max_thinking_tokens > 0,
    )
    for start in range(0, len(asks), engine.block):
        block = asks[start : start + engine.block]
        done = {ask.key for ask in block if is_done(ask)}
        if len(done) < len(block):
            yield from _ask_block(engine, block, sampling, done)
    del engine
    free_memory()


def _ask_block(engine: Engine, block: Sequence[Ask], sampling: Sampling, done: Collection[str]) -> Iterator[Reply]:
    assert isinstance(engine, ContextEngine), "those that load a model are"
    asked: dict[str, Ask] = {}
    requests = []
    for ask in block:
        try:
            request = _request(engine, ask, sampling)
        except ValueError as error:
            if ask.key not in done:
                yield Reply.to(ask, "", "refused", (0, 0), reason=one_line(str(error)))
            continue
        asked[ask.key] = ask
        requests.append(request)
    for generation in engine.generate(requests, sampling, done=done):
        if generation.key not in done:
            yield _reply(asked[generation.key], generation, sampling.reasoning)


def _request(engine: ContextEngine, ask: Ask, sampling: Sampling) -> Request:
    """Raises ValueError where the model's template refuses the chat, and where no room is left for an answer."""
    messages = ask.question.messages(ask.model.system)
    text, ids = encode_chat(messages, "", engine.tokenizer, sampling.reasoning)
    if len(ids) >= engine.context_length:
        raise ValueError(f"the chat has {len(ids)} tokens, the context of the model {engine.context_length}")
    opened = opened_thoughts(text) if sampling.reasoning else ""
    return Request(ask.key, text, ids, reasoning=opened)


def _reply(ask: Ask, generation: Generation, reasons: bool) -> Reply:
    tokens = generation.num_prompt_tokens, generation.num_tokens
    if generation.finish_reason == "out_of_memory":
        return Reply.to(ask, "", "out_of_memory", tokens, reason="it does not fit the memory, not even alone")
    within, text = split_thoughts(generation.text, cut=generation.finish_reason == "length" and not reasons)
    thoughts = "\n\n".join(filter(None, (generation.reasoning, within)))
    return Reply.to(ask, text, generation.finish_reason, tokens, thoughts=thoughts or None)
