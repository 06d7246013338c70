"""What a worker is asked: FastChat's body of a generation, and what our own workers take beside it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints

from judgelm.criteria import Aspect, Criteria
from judgelm.engine.interface import Sampling
from judgelm.prompt import render_followup, render_prompt
from judgelm.sample import MAX_ANSWERS, Sample
from judgelm.serve.criteria_field import CriteriaField
from judgelm.serve.dialogue_field import BodyText, DialogueField
from judgelm.serve.guard import MOST_BODY_BYTES

MOST_LOGPROBS = 20
MOST_SCHEMA = 200_000
"""characters of a JSON schema"""
MOST_STOPS = 16

Stop = Annotated[str, StringConstraints(max_length=200)]


class Turn(BaseModel):
    """A question to the judge about its judgement, and the reply."""

    question: BodyText
    reply: BodyText


class Message(BaseModel):
    """A turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: BodyText


class JudgeSample(BaseModel):
    """What our own workers take instead of `prompt`: then the worker itself shortens answers that are too long."""

    question: BodyText
    answers: Annotated[list[BodyText], Field(min_length=1, max_length=MAX_ANSWERS)]
    reference: BodyText | None = None
    task: Annotated[str, StringConstraints(max_length=50)] = "pair"
    seed_key: Annotated[str, StringConstraints(max_length=5000)] = "0"
    """the question_id, from which the random numbers come too"""
    criteria: CriteriaField | None = None
    """one aspect, by which alone it is judged"""
    dialogue: DialogueField | None = None
    """what was said before the answers"""
    judgement: BodyText | None = None
    """what the judge wrote after the prompt, for a follow-up"""
    turns: Annotated[list[Turn], Field(max_length=1000)] = []
    followup: BodyText | None = None

    @classmethod
    def of(cls, sample: Sample, task: str, aspect: Aspect | None = None) -> JudgeSample:
        return cls(
            question=sample.question,
            answers=list(sample.answers),
            reference=sample.reference,
            task=task,
            seed_key=sample.key,
            criteria=None if aspect is None else Criteria(aspect.name, (aspect,)),
            dialogue=None if sample.dialogue is None else DialogueField.of(sample.dialogue),
        )

    @property
    def sample(self) -> Sample:
        """Raises ValueError for texts that no tokenizer can read."""
        dialogue = None if self.dialogue is None else self.dialogue.dialogue
        return Sample(self.seed_key, self.question, tuple(self.answers), self.reference, dialogue=dialogue)

    @property
    def aspect(self) -> Aspect | None:
        """Raises ValueError where there are several, and for a follow-up, which is about a judgement as a whole."""
        if self.criteria is None:
            return None
        if len(self.criteria.aspects) > 1:
            raise ValueError(f"a worker judges by one aspect at a time, found {len(self.criteria.aspects)}")
        if self.followup is not None:
            raise ValueError("nothing can be asked about a judgement by criteria, which has one part for each aspect")
        return self.criteria.aspects[0]

    @property
    def is_by_criteria(self) -> bool:
        """Whether only workers that say `criteria` of themselves know how to judge it."""
        return self.criteria is not None or len(self.answers) == 1

    @property
    def talk(self) -> list[tuple[str, str]]:
        """The turns as (question, reply)."""
        return [(turn.question, turn.reply) for turn in self.turns]

    @property
    def prompt(self) -> str:
        """For workers that take prompts alone. Raises ValueError where the sample does not fit the task."""
        prompt = render_prompt(self.sample, self.task, self.aspect)
        if self.followup is None:
            return prompt
        return render_followup(prompt, self.judgement or "", self.talk, self.followup)


class GenerateParams(BaseModel):
    """The body of /worker_generate and /worker_generate_stream. Other fields are passed over."""

    prompt: BodyText = ""
    prompt_ids: Annotated[list[Annotated[int, Field(ge=0, le=2**31)]], Field(max_length=MOST_BODY_BYTES)] | None = None
    """the prompt's tokens, in its place"""
    temperature: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 1.0
    top_p: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 1.0
    max_new_tokens: Annotated[int, Field(ge=0, le=2**48)] | None = 256
    """0: the prompt is read alone"""
    stop: Stop | Annotated[list[Stop], Field(max_length=MOST_STOPS)] | None = None
    stop_token_ids: Annotated[list[Annotated[int, Field(ge=-1, le=2**31)]], Field(max_length=MOST_STOPS)] | None = None
    most_thoughts: Annotated[int, Field(ge=0, le=2**48)] = 0
    """more tokens for thoughts with which the text begins, which no stop string ends"""
    echo: bool | None = False
    seed: Annotated[int, Field(ge=-(2**64), le=2**64)] | None = None
    sample: JudgeSample | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=200)] | None = None
    """a chat, in place of the prompt"""
    constrained: bool | None = None
    """allow nothing but a score line first; None is the model's own way"""
    logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = None
    """say how likely each token was, with `echo` those of the prompt too, and so many of the likeliest at its place"""
    logprobs_in_parts: bool = False
    """say them with each part of the text, of its own tokens, in place of all at the end"""
    json_schema: Annotated[str, StringConstraints(max_length=MOST_SCHEMA)] | None = None
    """write JSON of this schema and nothing else"""
    scoring: Literal["expected"] | None = None
    """of the sample: write nothing, but read the probability of every score line"""

    @classmethod
    def of(
        cls, sample: JudgeSample, sampling: Sampling, constrained: bool | None = None, expected: bool = False
    ) -> GenerateParams:
        """To judge a sample, or to ask about its judgement."""
        return cls(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_new_tokens=sampling.max_new_tokens,
            stop=list(sampling.stop) or None,
            stop_token_ids=list(sampling.stop_token_ids),
            most_thoughts=sampling.most_thoughts,
            seed=sampling.seed,
            echo=False,
            sample=sample,
            constrained=constrained,
            scoring="expected" if expected else None,
        )

    @property
    def reads_prompt(self) -> bool:
        """Whether the prompt is read alone, before anything is written."""
        return bool(self.echo) and (self.max_new_tokens == 0 or self.logprobs is not None)

    @property
    def needs_forms(self) -> bool:
        """Whether only workers that say `forms` of themselves know how to answer it."""
        return self.prompt_ids is not None or self.json_schema is not None or self.reads_prompt

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings; an empty one is none."""
        return tuple(filter(None, [self.stop] if isinstance(self.stop, str) else self.stop or []))
