"""What controllers and workers answer: they may be anybody's, so all of it is checked and bounded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError

from judgelm.criteria import LARGEST_SCORE
from judgelm.dialogue import LeftOut, Shortened
from judgelm.evaluation.calibration_map import CalibrationFile
from judgelm.judge.judged import Likelihood
from judgelm.judgement import Outcome
from judgelm.sample import MAX_ANSWERS
from judgelm.serve.protocol import ErrorCode, WorkerError
from judgelm.serve.servers import describe
from judgelm.verdict_forms import SCORES

MOST_CHUNK_BYTES = 4 << 20
REFUSED = "refused"
"""a finish reason"""

VerdictFormat = Literal["scores", "grade", "letter", "json"]
"""a name of `VERDICT_FORMATS`"""
_Count = Annotated[int, Field(ge=0, le=2**48)]
_Short = Annotated[str, Field(max_length=1000)]
_Long = Annotated[str, Field(max_length=100_000)]


class Usage(BaseModel):
    """Tokens."""

    prompt_tokens: _Count = 0
    completion_tokens: _Count = 0
    total_tokens: _Count = 0

    @classmethod
    def of(cls, prompt: int, completion: int) -> Usage:
        return cls(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)

    @classmethod
    def total(cls, all_of: Iterable[Usage]) -> Usage:
        found = list(all_of)
        return cls(**{name: sum(getattr(one, name) for one in found) for name in cls.model_fields})


_Probability = Annotated[float, Field(ge=0, le=1 + 1e-6, allow_inf_nan=False)]
Score = Annotated[float, Field(ge=0, le=LARGEST_SCORE + 1e-6, allow_inf_nan=False)]


class Probabilities(BaseModel):
    """Of the first answer's outcomes, 1 in all."""

    win: _Probability
    tie: _Probability
    lose: _Probability


class CalibratedOut(BaseModel):
    """What a calibration map made of the probabilities, which stand beside."""

    probabilities: Probabilities
    tie_threshold: float = Field(
        description="a tie is called where P(tie) is at least so large a share of P(win) or P(lose), the larger one"
    )
    map: str = Field(description="the map's name")


class Likely(BaseModel):
    """What follows from the probabilities of all score lines, as `Likelihood.to_record` says it."""

    expected_scores: Annotated[list[Score], Field(min_length=1, max_length=MAX_ANSWERS)]
    probabilities: Probabilities | None = None
    score_line_mass: _Probability

    @property
    def likelihood(self) -> Likelihood:
        given = self.probabilities
        outcomes = None if given is None else {Outcome(name): value for name, value in given}
        return Likelihood(tuple(self.expected_scores), outcomes, self.score_line_mass)


_LogProb = Annotated[float, Field(le=1e-3)]


class Logprobs(BaseModel):
    """How likely a text's tokens were, in the form of OpenAI's completions."""

    tokens: list[_Short]
    token_logprobs: list[_LogProb | None]
    """null for a prompt's first token"""
    top_logprobs: list[dict[_Short, _LogProb] | None]
    """of tokens whose texts are the same the likeliest"""
    text_offset: list[_Count]
    """where each begins in the text"""


_Counts = Annotated[list[_Count], Field(max_length=MAX_ANSWERS)]


class LeftOutCounts(BaseModel):
    """What of a dialogue did not fit; see `judgelm.dialogue.LeftOut`."""

    turns: _Counts = Field(description="left out as a whole: of the dialogue, or of each answer's conversation")
    tokens: _Counts = Field(description="left out in all")


class Chunk(BaseModel):
    """What a worker sends; FastChat's workers leave out some of it."""

    text: Annotated[str, Field(max_length=MOST_CHUNK_BYTES)]
    error_code: Annotated[int, Field(ge=0, le=2**31)]
    usage: Usage = Usage()
    finish_reason: Annotated[str, Field(max_length=50)] | None = None
    shortened: _Counts | LeftOutCounts | None = None
    """tokens cut from each answer, or what of a dialogue was left out"""
    logprobs: Logprobs | None = None
    """where they were asked for: in the last one those of all tokens, or in each those of its own"""
    likely: Likely | None = None
    """where probabilities were asked for"""
    verdict_format: VerdictFormat = "scores"
    """how a judgement's text says its verdict"""
    reasoning: Annotated[str, Field(max_length=MOST_CHUNK_BYTES)] | None = None
    """in the last one, what the judge thought before"""

    @property
    def num_logprobs(self) -> int:
        """How many numbers there are."""
        found = self.logprobs
        return 0 if found is None else len(found.tokens) + sum(len(top or ()) for top in found.top_logprobs)

    @property
    def refused(self) -> bool:
        """Whether the text says why there is none."""
        return self.finish_reason == REFUSED

    @property
    def cut(self) -> Shortened | None:
        """The same as judgements have it; None for nothing."""
        if isinstance(self.shortened, LeftOutCounts):
            return LeftOut(tuple(self.shortened.turns), tuple(self.shortened.tokens))
        return tuple(self.shortened or ()) or None


class Details(BaseModel):
    """What a worker says of its model; FastChat's say the first alone."""

    context_length: Annotated[int, Field(ge=1, le=2**40)] | None = None
    judgelm: _Short | None = None
    """the version of a worker of ours"""
    chat: bool = False
    """it takes a chat's messages and makes the prompt itself"""
    criteria: bool = False
    """it judges by criteria, and single answers"""
    dialogues: bool = False
    """it is shown what was said before the answers"""
    prompt_format: _Short | None = None
    """plain or chat: how it asks its model to judge"""
    expected: bool = False
    """it reads the probabilities of score lines"""
    logprobs: bool = False
    """it says how likely the tokens were"""
    forms: bool = False
    """it takes a prompt's tokens, reads a prompt alone, and writes JSON of a schema"""
    tasks: Annotated[list[Annotated[str, Field(pattern="^[a-z]{1,20}$")]], Field(max_length=20)] = []
    """in which its judge can be asked; empty where it does not say"""
    verdict_format: VerdictFormat = "scores"
    """how its judge says a verdict"""
    reasoning: bool = False
    """its judge thinks first"""
    prompt_template: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """sha256 of the template in whose words its judge is asked"""
    calibration: CalibrationFile | None = None
    """a map of its judge's probabilities"""

    @property
    def form(self) -> dict[str, Any]:
        """How its judge is asked, and by which map calibrated, for clients; empty where that is the usual way."""
        found = {} if self.calibration is None else {"calibration": self.calibration.calibration("").name}
        if self.verdict_format == SCORES and not self.reasoning and self.prompt_template is None:
            return found
        names = ("tasks", "verdict_format", "reasoning", "prompt_template")
        return {name: getattr(self, name) for name in names} | found


class Counted(BaseModel):
    """The tokens of a prompt."""

    count: _Count


class ConversationOut(BaseModel):
    """FastChat's `Conversation`, as a worker sends it."""

    name: _Short
    system_template: _Long = "{system_message}"
    system_message: _Long = ""
    roles: Annotated[list[_Short], Field(min_length=2, max_length=2)]
    messages: Annotated[list[Annotated[list[_Long | None], Field(min_length=2, max_length=2)]], Field(max_length=100)]
    offset: Annotated[int, Field(ge=0, le=100)]
    sep_style: int
    sep: _Short = "\n"
    sep2: _Short | None = None
    stop_str: _Short | Annotated[list[_Short], Field(max_length=16)] | None = None
    stop_token_ids: Annotated[list[_Count], Field(max_length=16)] | None = None


def read_names(found: Mapping[str, Any]) -> list[str]:
    """Of models, sorted; what is no name is left out."""
    names = found.get("models")
    return sorted(name for name in names if isinstance(name, str)) if isinstance(names, list) else []


_Answer = TypeVar("_Answer", bound=BaseModel)


def read_answer(kind: type[_Answer], answer: Any) -> _Answer:
    """Raises WorkerError for another kind of answer."""
    try:
        return kind.model_validate(answer)
    except ValidationError as error:
        raise WorkerError(f"the worker's answer cannot be read: {describe(error)}", ErrorCode.INTERNAL_ERROR) from None


def read_chunk(data: bytes) -> Chunk:
    """One of a stream. Raises WorkerError."""
    try:
        return Chunk.model_validate_json(data)
    except ValidationError:
        raise WorkerError("the worker's answer cannot be read", ErrorCode.INTERNAL_ERROR) from None
