"""Prompts in, generations out as they finish: the small interface behind which every engine stands."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from judgelm.criteria import READABLE, Aspect, Scale
from judgelm.encoding import EncodedPrompt
from judgelm.errors import SettingError
from judgelm.images import Placed
from judgelm.models.devices import COMPILE, DTYPES
from judgelm.models.weights import QUANTIZATIONS
from judgelm.prompt import Turns
from judgelm.prompt_form import PUBLISHED_FORM, PromptForm
from judgelm.sample import Sample

FinishReason = Literal["stop", "length", "out_of_memory", "refused", "cancelled"]
"""stop: EOS or a stop string; length: no room for more tokens; out_of_memory: not even alone, the text is empty;
refused: a server did not want the prompt, the text is empty; cancelled: nobody waited for it any more"""
TYPICAL_NEW_TOKENS = 256
"""what a judgement with reasons takes; planning with the limit of 2048 would leave batches almost empty"""
_SIZE = re.compile(r"\d+(\.\d+)?[KMG]i?B", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How an engine loads a model; None chooses."""

    dtype: str = "auto"
    device: str | None = None
    batch_tokens: int | None = None
    num_gpus: int = 1
    max_gpu_memory: str | None = None
    quantization: str | None = None
    compile: str = "auto"
    """auto, on or off: parts of the layers are compiled on a CPU, by engine hf"""

    def __post_init__(self) -> None:
        """Raises SettingError for what no machine has; whether this one has it is seen when the model is loaded."""
        if self.dtype not in DTYPES:
            raise SettingError("dtype", f"{self.dtype!r}: expected one of {', '.join(DTYPES)}")
        if self.compile not in COMPILE:
            raise SettingError("compile", f"{self.compile!r}: expected one of {', '.join(COMPILE)}")
        if self.quantization is not None and self.quantization not in QUANTIZATIONS:
            raise SettingError("quantization", f"{self.quantization!r}: expected one of {', '.join(QUANTIZATIONS)}")
        if self.device is not None and not isinstance(self.device, str):
            raise SettingError("device", f"{self.device!r}: expected its name, such as cuda:1 or cpu")
        if self.max_gpu_memory is not None and not _SIZE.fullmatch(str(self.max_gpu_memory)):
            raise SettingError("max_gpu_memory", f"{self.max_gpu_memory!r}: expected a size such as 37GiB")
        for name in ("batch_tokens", "num_gpus"):
            value = getattr(self, name)
            if (type(value) is not int or value < 1) and (name, value) != ("batch_tokens", None):
                raise SettingError(name, f"{value!r}: expected a whole number from 1 on")


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt. `key` names it in the results."""

    key: str
    prompt: str
    input_ids: list[int]
    """[T], the encoded prompt, for engines that take tokens"""
    prefill: str = ""
    """the part of the judgement at the end of the prompt"""
    num_answers: int = 2
    scale: Scale | None = None
    """of the scores, where another was asked for than the published one"""
    question_id: str | None = None
    """of the sample, for messages; it seeds the sampling, together with the run's seed (None: `key` does both)"""
    reasoning: str = ""
    """the tag at the end of the prompt, where the model is to think before its text"""
    images: tuple[Placed, ...] = ()
    """in the prompt, for an engine that shows them"""

    @property
    def readable(self) -> Scale:
        """The scores that are read."""
        return self.scale or READABLE

    @property
    def seed_key(self) -> str:
        return self.key if self.question_id is None else self.question_id


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to generate."""

    temperature: float = 0.0
    """0 is greedy"""
    max_new_tokens: int = 2048
    stop: tuple[str, ...] = ()
    """texts at which a generation ends, themselves left out; EOS always ends one"""
    constrained: bool = False
    """allow nothing but scores, single spaces and a newline in the first line"""
    seed: int = 0
    top_p: float = 1.0
    """draw from the likeliest tokens that together have this probability"""
    stop_token_ids: tuple[int, ...] = ()
    """end a generation as EOS does"""
    logprobs: int | None = None
    """keep how likely each token was, and so many of the likeliest at its place, by the model itself"""
    most_thoughts: int = 0
    """more tokens for thoughts (<think>) with which a text begins: they do not count as new ones, and no stop string
    ends them; 0: thoughts are text like any other"""
    reasoning: bool = False
    """the model is to think first: thoughts are closed where they have used up their tokens, and kept apart"""
    json_schema: str | None = None
    """write JSON of this schema, itself in JSON, and nothing else; engine hf"""


@dataclass(frozen=True, slots=True)
class TokenLikelihood:
    """How likely a token was, before temperature and whatever else bounds the choice."""

    token: int
    log_prob: float | None
    """None for the first one of a prompt"""
    top: tuple[tuple[int, float], ...]
    """the likeliest tokens of its place with theirs, the first being the likeliest"""


@dataclass(frozen=True, slots=True)
class Generation:
    """What the model wrote after one prompt."""

    key: str
    text: str
    num_prompt_tokens: int
    num_tokens: int
    """generated, EOS included"""
    finish_reason: FinishReason
    reasoning: str | None = None
    """what it thought before, where it was to"""
    likelihoods: tuple[TokenLikelihood, ...] = ()
    """of each generated token, where they were asked for"""


@dataclass(frozen=True, slots=True)
class LineScores:
    """How likely a model finds each of some score lines after one prompt."""

    key: str
    log_probs: tuple[float, ...]
    """natural logarithm of each line's probability, in the lines' order; empty where they could not be read"""
    num_prompt_tokens: int
    num_tokens: int = 0
    """generated by a server, which says nothing without"""
    finish_reason: FinishReason = "stop"
    """else why they could not be read"""


def block_size(device: str) -> int:
    """Samples of a block on a device ("cpu", "cuda"): at most so many are judged again after an interruption."""
    return 64 if device == "cpu" else 512


def cut_at(text: str, stops: Sequence[str], begin: int | None = 0) -> str:
    """The text up to the first stop string from `begin` on; whole where that is None."""
    ends = [] if begin is None else [end for stop in stops if (end := text.find(stop, begin)) >= 0]
    return text[: min(ends)] if ends else text


OnText = Callable[[str, str], None] | None
"""called with a request's key and its text so far, for streaming"""


class Engine(Protocol):
    """A loaded model, or a connection to one."""

    block: int
    """samples that are judged together; a result may depend on the others of its block in the last bits"""

    @property
    def description(self) -> Mapping[str, str | int | float]:
        """What was chosen for this machine, for the record: data type, device and the like.

        A dict; an engine that counts (tokens, cost) changes it as it goes.
        """

    def fit(
        self,
        sample: Sample,
        task: str,
        max_new_tokens: int,
        aspect: Aspect | None = None,
        form: PromptForm = PUBLISHED_FORM,
    ) -> EncodedPrompt:
        """The sample's prompt, by an aspect where one is given, its answers shortened where prompt and judgement would
        overflow the context.

        Raises PromptTooLong where that is not enough, and InputError for images that the engine cannot show.
        """

    def fit_followup(
        self,
        sample: Sample,
        task: str,
        judgement: str,
        turns: Turns,
        question: str,
        max_new_tokens: int,
        form: PromptForm = PUBLISHED_FORM,
    ) -> EncodedPrompt:
        """The prompt of a further question about a judgement, made to fit in the same way."""

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, done: Collection[str] = (), on_text: OnText = None
    ) -> Iterator[Generation]:
        """Yield a generation for each request whose key is not in `done`, in the order in which they finish.

        Requests in `done` may be run again so that the others meet the same batch as in an undisturbed run.
        """

    def score(self, requests: Sequence[Request], lines: Sequence[str]) -> Iterator[LineScores]:
        """Yield, for each request, the probability of each line ("8 7\\n", its newline included) as its continuation.

        A line is written in the tokens in which the tokenizer writes it after the prompt. Raises InputError for an
        engine that cannot say.
        """
