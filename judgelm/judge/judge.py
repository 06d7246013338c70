"""Samples -> prompts -> generations -> judgements: the judge, from Python and for the command line."""

from __future__ import annotations

import itertools
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from judgelm.criteria import Criteria
from judgelm.encoding import PromptTooLong
from judgelm.engine.interface import TYPICAL_NEW_TOKENS, Engine, Generation, LoadOptions, Request, Sampling
from judgelm.engine.loading import find_loader
from judgelm.engine.shared import SharedEngine
from judgelm.judge.expected import read_likelihoods
from judgelm.judge.judged import Judged, Likelihood
from judgelm.judge.requests import make_request
from judgelm.judge.settings import ROTATIONS, Done, JudgeSettings, Order, check_orders
from judgelm.models.folder import ModelFolder, find_model
from judgelm.models.prompt_format import find_prompt_format
from judgelm.models.tiny import NOTES, TINY
from judgelm.prompt import TASKS, prompt_order
from judgelm.prompt_template import PromptTemplate
from judgelm.sample import Sample, rotation
from judgelm.verdict import Reading, Verdict
from judgelm.verdict_forms import SCORES

_WINDOW = 2048
"""samples among which those that begin alike are brought together"""
_LOOKED_AT = 64
"""samples by which the length of all is guessed"""
_LETTERS, _TEMPLATE = 4, 200
"""letters of a token, and tokens that a prompt has besides a sample's texts"""
_Key = tuple[Order, str]
"""of a sample in one order"""


class Judge:
    """A model that judges, loaded once.

    >>> Judge.load("tiny").judge([Sample(1, "2 + 2?", ["4", "5"])], orders="both")
    """

    def __init__(
        self,
        engine: Engine,
        folder: ModelFolder | None = None,
        constrained: bool = False,
        prompt_format: str = "plain",
    ) -> None:
        self.engine = engine
        self.folder = folder
        self.constrained = constrained
        self.prompt_format = prompt_format

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
        compile: str = "auto",
        constrained: bool | None = None,
        engine: str = "hf",
        prompt_format: str = "auto",
    ) -> Judge:
        """Load a hub id, a local folder, a PEFT adapter or `tiny`, or what `find_model` found of one.

        Raises InputError where that cannot be done.

        `constrained` (the default for `tiny` and `tiny-base`) lets the model write nothing but a score line first.
        `engine` is hf or vllm. `prompt_format` is plain, chat, or auto: plain for judges, chat for a general model with
        a chat template. `compile` is auto, on or off: on a CPU parts of the layers become kernels of their own, in up
        to half a minute; auto: where that is earned back.
        """
        options = LoadOptions(dtype, device, batch_tokens, num_gpus, max_gpu_memory, quantization, compile)
        load = find_loader(engine)
        folder = name if isinstance(name, ModelFolder) else find_model(os.fspath(name))
        form = find_prompt_format(folder, prompt_format)
        loaded = load(folder, options)
        return cls(loaded, folder, folder.name in NOTES if constrained is None else constrained, form.name)

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
        criteria: Criteria | None = None,
        prompt_template: PromptTemplate | None = None,
        verdict_format: str = SCORES,
        reasoning: bool = False,
        max_reasoning_tokens: int = 4096,
    ) -> list[Verdict]:
        """One verdict a sample, in the samples' order. `orders` is forward, reversed, both or all (task multi);
        `scoring` sample, greedy or expected; `criteria` are asked for one by one (`read_criteria`), tasks pair, multi
        and grade. There a `prompt_template` (`read_prompt_template`) can ask in its own words, for a verdict in the
        `verdict_format`. With `reasoning` a model asked in chat thinks first, in at most so many tokens.

        Raises ValueError where two samples have the same question_id or do not fit the task, InputError for an unknown
        task or order.
        """
        asked = check_orders(orders, task)
        _check_samples(samples)
        settings = JudgeSettings(
            task,
            scores_only,
            temperature,
            max_new_tokens,
            seed,
            scoring=scoring,
            criteria=criteria,
            prompt_template=prompt_template,
            verdict_format=verdict_format,
            reasoning=reasoning,
            max_reasoning_tokens=max_reasoning_tokens,
        ).settled(self.constrained, self.prompt_format)
        read = {(one.order, one.sample.key): one.reading for one in self.run(samples, asked, settings)}
        return [_verdict(each, read) for each in samples]

    @property
    def description(self) -> Mapping[str, Any]:
        """The engine's, for the record."""
        return self.engine.description

    def run(
        self, samples: Iterable[Sample], orders: Sequence[Order], settings: JudgeSettings, done: Done = ()
    ) -> Generator[Judged, None, None]:
        """Judge in one order or both, yielding judgements as they finish; those in `done` are left out."""
        tokens, all_samples = foresee(samples, orders, settings)
        self.expect(tokens)
        for block in plan_blocks(all_samples, settings.task, self.engine.block):
            yield from self.run_block(block, orders, settings, done)

    def expect(self, tokens: int) -> None:
        """Be told about how many tokens will be read and written."""
        if isinstance(self.engine, SharedEngine):
            self.engine.expect(tokens)

    def run_block(
        self, block: Sequence[Sample], orders: Sequence[Order], settings: JudgeSettings, done: Done = ()
    ) -> Iterator[Judged]:
        """Judge a block, orders together. What is `done` takes part if anything is left: the others so meet the same
        batches as in an undisturbed run, and get the same bits.
        """
        shown: dict[_Key, Sample] = {
            (order, sample.key): sample.shown(order)
            for sample in block
            for order in orders
            if rotation(order) < len(sample.answers)
        }
        known = {key for key in shown if key in done}
        if len(known) == len(shown):
            return
        criteria = settings.criteria
        parts: dict[_Key, dict[int, Judged]] = defaultdict(dict)
        for key, number, judged in self._judge_prompts(shown, settings, known, done):
            if criteria is None:
                yield judged
                continue
            parts[key][number] = judged
            if len(parts[key]) == len(criteria.aspects):
                found = parts.pop(key)
                yield Judged.by_criteria(criteria, [found[each] for each in sorted(found)])

    def _judge_prompts(
        self, shown: Mapping[_Key, Sample], settings: JudgeSettings, known: Collection[_Key], done: Done
    ) -> Iterator[tuple[_Key, int, Judged]]:
        """Each sample by each aspect, which is numbered; those `known` are not judged."""
        task = TASKS[settings.task]
        sampling = settings.sampling(max(len(sample.answers) for sample in shown.values()))
        requests, asked, before = [], {}, set()
        for key, sample in shown.items():
            num_answers = len(sample.answers)
            for number, aspect in enumerate(settings.aspects):
                name = " ".join(key) if aspect is None else f"{key[0]} {number} {key[1]}"
                if key in known:
                    before.add(name)
                try:
                    request, cut = make_request(self.engine, name, sample, settings, sampling, aspect)
                except PromptTooLong:
                    if key not in known:
                        nothing = settings.read("", num_answers)
                        yield key, number, Judged(sample, key[0], task.name, nothing, None, None)
                    continue
                asked[name] = key, number, cut
                requests.append(request)
        # an engine is to know that there are judgements already, though it were in other blocks
        before.update(map(" ".join, itertools.islice(done, 1)))
        for generation, likelihood in self._results(requests, settings, sampling, before):
            if generation.key not in before:
                key, number, cut = asked[generation.key]
                sample = shown[key]
                judgement = settings.read(task.prefill + generation.text, len(sample.answers))
                yield key, number, Judged(sample, key[0], task.name, judgement, generation, cut, likelihood)

    def _results(
        self, requests: Sequence[Request], settings: JudgeSettings, sampling: Sampling, known: Collection[str]
    ) -> Iterator[tuple[Generation, Likelihood | None]]:
        if settings.scoring != "expected":
            for generation in self.engine.generate(requests, sampling, done=known):
                yield generation, None
            return
        yield from read_likelihoods(self.engine, requests, settings.scale)


def _check_samples(samples: Sequence[Sample]) -> None:
    """Raises ValueError for what is no sample, and where two have the same question_id."""
    for sample in samples:
        if not isinstance(sample, Sample):
            raise ValueError(f"expected a Sample, found {type(sample).__name__}")
    for key, count in Counter(sample.key for sample in samples).items():
        if count > 1:
            raise ValueError(f"question_id must be different for each sample, {key} stands there {count} times")


def _verdict(sample: Sample, read: Mapping[_Key, Reading]) -> Verdict:
    """Of what was read in all orders."""
    key = sample.key
    rotations = tuple(read[one, key] for one in ROTATIONS[1:] if (one, key) in read)
    return Verdict(read.get(("forward", key)), read.get(("reversed", key)), sample, rotations=rotations)


class JudgeLike(Protocol):
    """What judges: a judge, or replicas of one."""

    @property
    def description(self) -> Mapping[str, Any]: ...

    def run(
        self, samples: Iterable[Sample], orders: Sequence[Order], settings: JudgeSettings, done: Done = ()
    ) -> Generator[Judged, None, None]:
        """See `Judge.run`."""
        ...


def foresee(
    samples: Iterable[Sample], orders: Sequence[Order], settings: JudgeSettings
) -> tuple[int, Iterator[Sample]]:
    """About how many tokens are read and written, by the first samples, and all samples, still read once each.

    0 where nobody knows how many there are. What is judged already counts too: a run that goes on is to decide as it
    did at its beginning.
    """
    remaining = iter(samples)
    first = list(itertools.islice(remaining, _LOOKED_AT))
    all_samples = itertools.chain(first, remaining)
    if not isinstance(samples, Sequence) or not first:
        return 0, all_samples
    letters = sum(len(text) for each in first for text in (each.question, each.reference or "", *each.answers))
    short = settings.scores_only or settings.scoring == "expected"
    new = 0 if short else min(settings.max_new_tokens, TYPICAL_NEW_TOKENS)
    each_order = letters // _LETTERS // len(first) + _TEMPLATE + new
    return len(samples) * len(orders) * len(settings.aspects) * each_order, all_samples


def plan_blocks(samples: Iterable[Sample], task: str, size: int) -> Iterator[list[Sample]]:
    """Parts of `size` samples; samples whose prompts begin alike come together.

    What a judgement's bits depend on is its block alone. So neither a run that is resumed nor the number of replicas
    changes them.
    """
    remaining = iter(samples)
    while window := list(itertools.islice(remaining, _WINDOW)):
        window.sort(key=lambda sample: prompt_order(sample, task))
        for start in range(0, len(window), size):
            yield window[start : start + size]
