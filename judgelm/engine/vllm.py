"""Generation with vLLM, for judges that fit its continuous batching; vLLM itself is loaded with the model."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from judgelm.engine.context import find_context_length, find_eos_ids
from judgelm.engine.interface import Generation, LineScores, LoadOptions, OnText, Request, Sampling, block_size
from judgelm.engine.score_line import line_tokens
from judgelm.engine.shared import SharedEngine
from judgelm.engine.vllm_rows import Queue, VLLMRows
from judgelm.errors import SettingError
from judgelm.models.devices import check_gpus, choose_dtype
from judgelm.models.folder import ModelFolder
from judgelm.models.loading import in_one_line, load_config, load_tokenizer, merged_folder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
    from vllm import LLMEngine

_SCORED_TOGETHER = 32
_HOTTEST = 2.0
_MOST_ROWS = 128
_PREFILL_CPU = 2048
_LEAST = math.log(1e-6)
"""beginnings of lines that are so much less likely than the likeliest one are not followed"""
_ENVIRONMENT = {
    # one process: what it does is the same each time, and nothing stays behind when it is killed
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # stdout is for results
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}


def load_vllm(folder: ModelFolder, options: LoadOptions) -> VLLMEngine:
    """Load a model into vLLM; an adapter is merged into its base first, in the user's cache.

    `batch_tokens` is what one step reads at most. Raises InputError where the device is not there, or where vLLM or the
    model cannot be loaded.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        from vllm import EngineArgs, LLMEngine
        from vllm.platforms import current_platform
    except ImportError as error:
        raise SettingError("engine", f"vllm: vLLM is here, but cannot be imported: {error}") from error
    device = current_platform.device_type
    dtype = _check(options, device)
    whole = merged_folder(folder, dtype)
    tokenizer = load_tokenizer(whole)
    context_length = find_context_length(load_config(whole))
    arguments = EngineArgs(model=str(whole.path), dtype=dtype, **_arguments(options, device, context_length))
    with in_one_line(f"model {folder.name}: vLLM cannot load it"):
        engine = LLMEngine.from_engine_args(arguments)
    return VLLMEngine(engine, tokenizer, context_length, _eos_ids(whole, tokenizer), dtype, device)


def _check(options: LoadOptions, device: str) -> str:
    """The data type, if this machine and vLLM have all the options."""
    if not device:
        raise SettingError("engine", "vllm: this vLLM finds no device that it is made for")
    if options.device is not None and options.device != device:
        raise SettingError("device", f"{options.device}: this vLLM is made for {device}")
    if options.compile == "on":
        raise SettingError("compile", "is for engine hf: vLLM compiles as it is told by its own settings")
    if options.quantization is not None:
        raise SettingError("quantization", "is for engine hf: vLLM takes models that are quantized already")
    if options.max_gpu_memory is not None:
        raise SettingError("max_gpu_memory", "is for engine hf: vLLM takes nine tenths of each GPU")
    check_gpus(options.num_gpus)
    return choose_dtype(options.dtype, device)


def _arguments(options: LoadOptions, device: str, context_length: int) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "tensor_parallel_size": options.num_gpus,
        "max_model_len": context_length,
        "enable_prefix_caching": True,
        # prompts come as tokens and leave as tokens, and nothing of the model's own changes the sampling
        "skip_tokenizer_init": True,
        "generation_config": "vllm",
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
    }
    tokens = options.batch_tokens
    if device == "cpu":
        # compiling takes a minute and more; a prompt that is continued is read again from its last whole block on, of
        # 128 tokens otherwise; vLLM 0.32 cannot draw with a seed after half a prompt, so each is read as a whole
        arguments |= {"enforce_eager": True, "block_size": 32, "enable_chunked_prefill": False}
        tokens = max(tokens or _PREFILL_CPU, context_length)
    if tokens is not None:
        arguments |= {"max_num_batched_tokens": tokens, "max_num_seqs": min(_MOST_ROWS, tokens)}
    return arguments


def _eos_ids(folder: ModelFolder, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """As transformers has them: from the generation settings, else from the model's."""
    from transformers import GenerationConfig

    if (folder.path / "generation_config.json").is_file():
        with in_one_line(f"model {folder.name}: generation_config.json cannot be used"):
            config = GenerationConfig.from_pretrained(folder.path)
    else:
        config = GenerationConfig.from_model_config(load_config(folder))
    return find_eos_ids(config, tokenizer)


def _following(lines: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], list[int]]:
    """What lines begin with, in tokens -> the tokens with which they go on from there."""
    steps = dict.fromkeys((line[:end], token) for line in lines for end, token in enumerate(line))
    found: dict[tuple[int, ...], list[int]] = {}
    for begin, token in steps:
        found.setdefault(begin, []).append(token)
    return found


class VLLMEngine(SharedEngine):
    """vLLM as a pool of rows.

    It computes a prompt's logits in whatever batch there is: below float32, and near a tie, judgements may differ from
    run to run.
    """

    most_served = _MOST_ROWS
    can_score = True

    def __init__(
        self,
        engine: LLMEngine,
        tokenizer: PreTrainedTokenizerBase,
        context_length: int,
        eos: Sequence[int],
        dtype: str,
        device: str,
    ) -> None:
        import vllm

        super().__init__(tokenizer, context_length, eos)
        self.engine = engine
        self.description: Mapping[str, str | int] = {
            "engine": "vllm",
            "vllm": vllm.__version__,
            "dtype": dtype,
            "device": device,
            "context_length": context_length,
            "prefix_caching": "on",
        }
        self.block = block_size(device)
        self._queue = Queue(engine)

    def check_sampling(self, sampling: Sampling) -> None:
        if sampling.temperature > _HOTTEST:
            raise SettingError("temperature", f"{sampling.temperature}: engine vllm takes at most {_HOTTEST}")

    def take_reused(self) -> int:
        return self._queue.take_reused()

    def open(self, most_rows: int) -> VLLMRows:
        return VLLMRows(self, self._queue, most_rows)

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, done: Collection[str] = (), on_text: OnText = None
    ) -> Iterator[Generation]:
        """See `Engine.generate`. Requests in `done` are not run again.

        Raises InputError for a temperature that vLLM refuses.
        """
        self.check_sampling(sampling)
        # prompts that begin alike are read one after the other, so that the cache still has what they share
        waiting = sorted((request for request in requests if request.key not in done), key=lambda r: r.input_ids)
        running = self.open(len(waiting))
        running.waiting.extend(self.start(request, sampling) for request in waiting)
        try:
            while running.waiting or running.rows:
                for row in running.advance(running.admit()):
                    if on_text is not None:
                        on_text(row.request.key, row.generation.text if row.generation else row.text)
                    if row.generation is not None:
                        yield row.generation
        finally:
            running.clear()

    def score(self, requests: Sequence[Request], lines: Sequence[str]) -> Iterator[LineScores]:
        """See `Engine.score`. A line gets -inf where a beginning of it is a million times less likely than another
        line's of as many tokens.
        """
        for start in range(0, len(requests), _SCORED_TOGETHER):
            yield from self._score(requests[start : start + _SCORED_TOGETHER], lines)

    def _score(self, requests: Sequence[Request], lines: Sequence[str]) -> Iterator[LineScores]:
        """Walk through the lines' tokens level by level: one token is computed after each beginning of a line."""
        tokens = {
            prefill: line_tokens(lines, prefill, self.tokenizer)
            for prefill in {request.prefill for request in requests}
        }
        following = {prefill: _following(written) for prefill, written in tokens.items()}
        found: list[dict[tuple[int, ...], float]] = [{(): 0.0} for _ in requests]
        level: list[tuple[int, tuple[int, ...]]] = [(index, ()) for index in range(len(requests))]
        while level:
            pending: dict[str, tuple[int, tuple[int, ...]]] = {}
            for index, begin in level:
                request = requests[index]
                wanted = {"temperature": 0.0, "max_tokens": 1, "logprob_token_ids": following[request.prefill][begin]}
                new = 0 if begin else len(request.input_ids)
                pending[self._queue.add([*request.input_ids, *begin], wanted, new)] = index, begin
            begun: list[dict[tuple[int, ...], float]] = [{} for _ in requests]
            for index, begin, log_probs in self._log_probs(pending):
                for token in following[requests[index].prefill][begin]:
                    begun[index][*begin, token] = found[index][begin] + log_probs[token].logprob
            level = []
            for index, (request, longer) in enumerate(zip(requests, begun, strict=True)):
                found[index] |= longer
                least = max(longer.values(), default=0.0) + _LEAST
                after = following[request.prefill]
                level += [(index, begin) for begin, p in longer.items() if begin in after and p >= least]
        for request, known in zip(requests, found, strict=True):
            given = tuple(known.get(line, -math.inf) for line in tokens[request.prefill])
            yield LineScores(request.key, given, len(request.input_ids))

    def _log_probs(
        self, pending: dict[str, tuple[int, tuple[int, ...]]]
    ) -> Iterator[tuple[int, tuple[int, ...], Mapping[int, Any]]]:
        """Each request with the log probabilities of its next token, before any temperature."""
        try:
            while pending:
                for output in self._queue.step(pending):
                    yield *pending.pop(output.request_id), output.outputs[0].logprobs[0]
        finally:
            self._queue.abort(pending)
