"""Samples -> prompts -> generations -> judgements: the judge, from Python and for the command line."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from judgelm.distribution import Distribution, both_orders, likeliest, line_text, score_lines
from judgelm.encoding import PromptTooLong
from judgelm.engine import Engine, FinishReason, Generation, Request, Sampling
from judgelm.engine.loading import Holding, find_loader
from judgelm.jsonl import InputError, Record, SettingError
from judgelm.model import ModelFolder, find_model
from judgelm.prompt import STOP_SCORES_ONLY, TASKS, count_markers, render_prompt
from judgelm.reading import find_task
from judgelm.sample import Sample
from judgelm.tiny import NOTES, TINY
from judgelm.verdict import Judgement, Outcome, consistent

Order = Literal["forward", "reversed"]
ORDERS: dict[str, tuple[Order, ...]] = {
    "forward": ("forward",),
    "reversed": ("reversed",),
    "both": ("forward", "reversed"),
}
SCORINGS = {
    "sample": "write the judgement at the given temperature, as published",
    "greedy": "write the likeliest judgement",
    "expected": "write nothing: read the probability of every score line in one pass over the prompt",
}
PROMPT_TOO_LONG = "prompt_too_long"
"""finish reason of a sample whose question and instruction alone overflow the context: it is never generated"""
_WINDOW = 2048
"""samples among which those that begin alike are brought together"""
Done = Collection[tuple[Order, str]]
"""orders and keys of the samples that are judged already"""


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """How samples are judged; two runs with the same settings, model and seed give the same judgements."""

    task: str = "pair"
    scores_only: bool = False
    temperature: float = 0.2
    max_new_tokens: int = 2048
    seed: int = 0
    constrained: bool = False
    scoring: str = "sample"
    """sample; greedy, which is sample at temperature 0; or expected: probabilities of score lines, no text"""

    def __post_init__(self) -> None:
        if self.scoring not in SCORINGS:
            raise SettingError("scoring", f"{self.scoring!r}: expected one of {', '.join(SCORINGS)}")
        if self.scoring == "expected" and self.task == "multi":
            raise SettingError("scoring", "expected compares two answers: task multi cannot be judged so")
        if not isinstance(self.temperature, int | float) or not 0 <= self.temperature < math.inf:
            raise SettingError("temperature", f"{self.temperature!r}: expected a number from 0 on")
        if type(self.max_new_tokens) is not int or self.max_new_tokens < 1:
            raise SettingError("max_new_tokens", f"{self.max_new_tokens!r}: expected a whole number from 1 on")

    def sampling(self, num_answers: int) -> Sampling:
        temperature = self.temperature if self.scoring == "sample" else 0.0
        sampling = Sampling(temperature, self.max_new_tokens, constrained=self.constrained, seed=self.seed)
        if not self.scores_only:
            return sampling
        # a line longer than this holds no scores; without a limit an untuned model would write to the end
        most = min(self.max_new_tokens, 16 + 8 * num_answers)
        return replace(sampling, max_new_tokens=most, stop=(STOP_SCORES_ONLY,), most_thoughts=self.max_new_tokens)


@dataclass(frozen=True, slots=True)
class Judged:
    """One sample as the judge saw it, and what came of it."""

    sample: Sample
    order: Order
    task: str
    judgement: Judgement
    generation: Generation | None
    """None where the prompt did not fit"""
    shortened: tuple[int, ...] | None
    """tokens cut from each answer"""
    distribution: Distribution | None = None
    """of the score lines, with scoring `expected`"""

    def to_record(self) -> Record:
        """The output record's own keys; `pred_text` is the generation as written, without the task's prefill."""
        generation, judgement = self.generation, self.judgement
        record: Record = {
            "pred_text": generation.text if generation else "",
            "pred_scores": list(judgement.scores) if judgement.scores else None,
            "pred_outcome": judgement.outcome.value if judgement.outcome else None,
            "pred_parse": judgement.state.value,
            "pred_task": self.task,
            "pred_order": self.order,
            "pred_finish_reason": generation.finish_reason if generation else PROMPT_TOO_LONG,
            "pred_prompt_tokens": generation.num_prompt_tokens if generation else None,
            "pred_tokens": generation.num_tokens if generation else 0,
            "pred_shortened": list(self.shortened) if self.shortened else None,
            "pred_suspicious_markers": count_markers(self.sample),
        }
        if self.distribution is not None:
            record |= {
                "pred_expected_scores": list(self.distribution.expected),
                "pred_probabilities": {o.value: p for o, p in self.distribution.outcomes.items()},
                "pred_score_line_mass": self.distribution.mass,
            }
        if self.sample.reference is not None and self.task != "mmvet":
            record["reference"] = self.sample.reference
        return {**self.sample.to_record(), **record}


@dataclass(frozen=True, slots=True)
class Verdict:
    """A sample's judgements in the orders asked for; `reversed` speaks of the exchanged answers."""

    sample: Sample
    forward: Judgement | None
    reversed: Judgement | None
    forward_distribution: Distribution | None = None
    reversed_distribution: Distribution | None = None

    @property
    def probabilities(self) -> dict[Outcome, float] | None:
        """P(win), P(tie), P(lose) of answer 1, the mean of the orders judged; None without scoring `expected`."""
        forward, reversed_ = self.forward_distribution, self.reversed_distribution
        if (forward is None) is not (self.forward is None) or (reversed_ is None) is not (self.reversed is None):
            return None
        if forward and reversed_:
            return both_orders(forward.outcomes, reversed_.outcomes)
        if reversed_:
            return {outcome: reversed_.outcomes[outcome.swapped()] for outcome in Outcome}
        return forward.outcomes if forward else None

    @property
    def consistent(self) -> bool | None:
        """Whether both orders agree; None with one order or without scores."""
        return consistent(self.forward, self.reversed) if self.forward and self.reversed else None

    @property
    def scores(self) -> tuple[float, ...] | None:
        """Each answer's score, in the sample's order, the mean of the orders judged; None if one has no scores.

        With scoring `expected` these are the expected scores.
        """
        if self.probabilities is not None:
            expected = [self.forward_distribution.expected] if self.forward_distribution else []
            if self.reversed_distribution:
                expected.append(self.reversed_distribution.expected[::-1])
            return tuple(sum(column) / len(column) for column in zip(*expected, strict=True))
        given = [self.forward.scores] if self.forward else []
        if self.reversed:
            given.append(self.reversed.swapped().scores if self.reversed.scores else None)
        known = [scores for scores in given if scores is not None]
        if not given or len(known) < len(given):
            return None
        return tuple(sum(column) / len(column) for column in zip(*known, strict=True))

    @property
    def outcome(self) -> Outcome | None:
        """The outcome both orders agree on, a tie where they contradict; None without scores.

        With scoring `expected` it is the likeliest one by the mean of both orders.
        """
        if self.probabilities is not None:
            return likeliest(self.probabilities)
        outcomes = [self.forward.outcome] if self.forward else []
        if self.reversed:
            outcomes.append(self.reversed.outcome.swapped() if self.reversed.outcome else None)
        if not outcomes or None in outcomes:
            return None
        return outcomes[0] if len(set(outcomes)) == 1 else Outcome.TIE


class Judge:
    """A model that judges, loaded once.

    >>> Judge.load("tiny").judge([Sample(1, "2 + 2?", ["4", "5"])], orders="both")
    """

    def __init__(self, engine: Engine, folder: ModelFolder | None = None, constrained: bool = False) -> None:
        self.engine = engine
        self.folder = folder
        self.constrained = constrained

    @classmethod
    def load(
        cls,
        name: str | os.PathLike[str] | ModelFolder = TINY,
        *,
        dtype: str = "auto",
        device: str | None = None,
        batch_tokens: int | None = None,
        num_gpus: int = 1,
        max_gpu_memory: str | None = None,
        quantization: str | None = None,
        constrained: bool | None = None,
        engine: str = "hf",
    ) -> Judge:
        """Load a hub id, a local folder, a PEFT adapter or `tiny`, or what `find_model` found of one.

        Raises InputError where that cannot be done.

        `constrained` (the default for `tiny` and `tiny-base`) lets the model write nothing but a score line first.
        `engine` is hf or vllm.
        """
        holding = Holding(dtype, device, batch_tokens, num_gpus, max_gpu_memory, quantization)
        load = find_loader(engine)
        folder = name if isinstance(name, ModelFolder) else find_model(os.fspath(name))
        loaded = load(folder, holding)
        return cls(loaded, folder, folder.name in NOTES if constrained is None else constrained)

    def judge(
        self,
        samples: Sequence[Sample],
        *,
        task: str = "pair",
        orders: str = "forward",
        scores_only: bool = False,
        temperature: float = 0.2,
        max_new_tokens: int = 2048,
        seed: int = 0,
        scoring: str = "sample",
    ) -> list[Verdict]:
        """One verdict a sample, in the samples' order. `orders` is forward, reversed or both; `scoring` sample, greedy
        or expected.

        Raises ValueError where two samples have the same question_id or do not fit the task, InputError for an unknown
        task or order.
        """
        find_task(task)
        if len({sample.key for sample in samples}) < len(samples):
            raise ValueError("question_id must be different for each sample")
        settings = JudgeSettings(task, scores_only, temperature, max_new_tokens, seed, self.constrained, scoring)
        found: dict[Order, dict[str, Judged]] = {"forward": {}, "reversed": {}}
        for judged in self.run(samples, check_orders(orders, task), settings):
            found[judged.order][judged.sample.key] = judged
        verdicts = []
        for sample in samples:
            both = [found[order].get(sample.key) for order in ORDERS["both"]]
            forward, back = (one.judgement if one else None for one in both)
            verdicts.append(Verdict(sample, forward, back, *(one.distribution if one else None for one in both)))
        return verdicts

    @property
    def description(self) -> Mapping[str, Any]:
        """The engine's, for the record."""
        return self.engine.description

    def run(
        self, samples: Iterable[Sample], orders: Sequence[Order], settings: JudgeSettings, done: Done = ()
    ) -> Generator[Judged, None, None]:
        """Judge in one order or both, yielding judgements as they finish; those in `done` are left out."""
        for block in self.blocks(samples, settings.task):
            yield from self.run_block(block, orders, settings, done)

    def blocks(self, samples: Iterable[Sample], task: str) -> Iterator[list[Sample]]:
        """The samples in the parts in which they are generated: see `plan_blocks`."""
        return plan_blocks(samples, task, self.engine.block)

    def run_block(
        self, block: Sequence[Sample], orders: Sequence[Order], settings: JudgeSettings, done: Done = ()
    ) -> Iterator[Judged]:
        """Judge a block, orders together. What is `done` takes part if anything is left: the others so meet the same
        batches as in an undisturbed run, and get the same bits.
        """
        task = TASKS[settings.task]
        asked: dict[str, tuple[Sample, Order]] = {
            f"{order} {sample.key}": (sample.swapped() if order == "reversed" else sample, order)
            for sample in block
            for order in orders
        }
        known = {name for name, (sample, order) in asked.items() if (order, sample.key) in done}
        if len(known) == len(asked):
            return
        scores_only = replace(settings, scores_only=True) if settings.scoring == "expected" else settings
        sampling = scores_only.sampling(max(len(sample.answers) for sample in block))
        requests, cuts = [], {}
        for key, (sample, order) in asked.items():
            try:
                prompt = self.engine.fit(sample, task.name, sampling.max_new_tokens)
            except PromptTooLong:
                if key not in known:
                    nothing = Judgement.parse("", len(sample.answers))
                    yield Judged(sample, order, task.name, nothing, None, None)
                continue
            cuts[key] = prompt.shortened
            num_answers = len(sample.answers)
            requests.append(Request(key, prompt.text, prompt.input_ids, task.prefill, num_answers, sample.key))
        # an engine is to know that there are judgements already, though it were in other blocks
        before = known.union(f"{order} {key}" for order, key in itertools.islice(done, 1))
        for generation, distribution in self._results(requests, settings, sampling, before):
            if generation.key not in known:
                sample, order = asked[generation.key]
                judgement = Judgement.parse(task.prefill + generation.text, len(sample.answers))
                yield Judged(sample, order, task.name, judgement, generation, cuts[generation.key], distribution)

    def _results(
        self, requests: Sequence[Request], settings: JudgeSettings, sampling: Sampling, known: Collection[str]
    ) -> Iterator[tuple[Generation, Distribution | None]]:
        if settings.scoring != "expected":
            for generation in self.engine.generate(requests, sampling, done=known):
                yield generation, None
            return
        prefill = TASKS[settings.task].prefill
        lines = score_lines(prefill)
        for scores in self.engine.score(requests, [line_text(line, prefill) for line in lines]):
            distribution = Distribution.from_log_probs(lines, scores.log_probs) if scores.log_probs else None
            text = line_text(distribution.likeliest_line, prefill).rstrip("\n") if distribution else ""
            reason: FinishReason = "stop" if distribution else "out_of_memory"
            yield Generation(scores.key, text, scores.num_prompt_tokens, 0, reason), distribution


def plan_blocks(samples: Iterable[Sample], task: str, size: int) -> Iterator[list[Sample]]:
    """Parts of `size` samples; samples whose prompts begin alike come together.

    What a judgement's bits depend on is its block alone. So neither a run that is resumed nor the number of replicas
    changes them.
    """
    remaining = iter(samples)
    while window := list(itertools.islice(remaining, _WINDOW)):
        window.sort(key=lambda sample: render_prompt(sample, task))
        for start in range(0, len(window), size):
            yield window[start : start + size]


def check_orders(orders: str, task: str) -> tuple[Order, ...]:
    """The orders asked for; where Assistant 1 is a reference answer with its 10 given, that is forward only."""
    if orders not in ORDERS:
        raise InputError(f"unknown orders {orders!r}, expected one of {', '.join(ORDERS)}")
    if TASKS[task].prefill and orders != "forward":
        raise InputError(
            f"task {task} is judged in forward order only: Assistant 1's place is that of the known answer"
        )
    return ORDERS[orders]
