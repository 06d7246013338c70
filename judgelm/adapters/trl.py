"""A judge as the reward of TRL's trainers, and as a judge of pairs in the form that TRL had until its own went away.

>>> GRPOTrainer(model, reward_funcs=JudgeReward("tiny", group=4), args=GRPOConfig(num_generations=4), ..)

Nothing of TRL is imported: its trainers call what stands here.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from judgelm.adapters.judges import find_criteria, find_key, is_url
from judgelm.criteria import Criteria
from judgelm.dialogue import ASSISTANT, read_turns
from judgelm.errors import InputError, SettingError
from judgelm.files import PathLike
from judgelm.judge.choice import AnyJudge, JudgeChoice, ModelChoice, prepare
from judgelm.judge.placement import Placement
from judgelm.judge.rewards import Group, GroupJudge, check_reward, check_scoring, compare_by
from judgelm.judge.settings import JudgeSettings
from judgelm.models.devices import own_gpu
from judgelm.serve.asking import PATIENCE_S
from judgelm.serve.client import Client
from judgelm.serve.served_pairs import ServedPairs

if TYPE_CHECKING:
    from accelerate.state import PartialState

_log = logging.getLogger(__name__)
Said = str | Sequence[Mapping[str, Any]]
"""a prompt or a completion: a text, or messages"""
Rewards = list[float | None]


@dataclass(frozen=True)
class _Judge:
    """What compares. Raises InputError for what cannot, before a training begins."""

    judge: PathLike | AnyJudge
    """a model's name or folder, the address of an API of `judgelm serve`, or what `judgelm.judge.prepare` takes"""
    criteria: Criteria | None
    scoring: str
    model: str | None
    """of the API, where it serves several"""
    key: str | None
    """of the API, where it asks for one; None: that of JUDGELM_API_KEY"""

    def __post_init__(self) -> None:
        check_scoring(self.scoring)
        for name, value in (("model", self.model), ("key", self.key)):
            if value is not None and self.url is None:
                raise SettingError(name, f"is for the address of an API, found the judge {self.judge!r}")
        _ = self.settings, self.choice if self.url is None else self._client(self.url)

    @property
    def url(self) -> str | None:
        """The address, if it is one."""
        return self.judge if is_url(self.judge) else None

    @property
    def name(self) -> str:
        """Of the judge, and of the criteria it judges by."""
        judge = (self.model or "served") if self.url is not None else self.choice.model_id
        return f"judge_{judge}" + (f"_{self.criteria.name}" if self.criteria else "")

    @property
    def settings(self) -> JudgeSettings:
        return JudgeSettings(scoring=self.scoring, scores_only=self.scoring == "greedy", criteria=self.criteria)

    @cached_property
    def choice(self) -> JudgeChoice:
        """A judge of this process; nothing is loaded."""
        judge = ModelChoice(self.judge) if isinstance(self.judge, str | os.PathLike) else self.judge
        if isinstance(judge, ModelChoice) and judge.device is None and judge.placement == Placement():
            judge = replace(judge, device=own_gpu())
        return prepare(judge)

    @cached_property
    def groups(self) -> GroupJudge:
        """Loads nothing until the first pair comes."""
        if self.url is not None:
            return GroupJudge(ServedPairs(self._client(self.url), self.model, self.criteria, self.scoring))
        return GroupJudge(compare_by(self.choice, self.settings))

    def _client(self, url: str) -> Client:
        return Client(url, self.key or find_key(), PATIENCE_S)

    def __getstate__(self) -> dict[str, Any]:
        # to another process goes what a judge is loaded from: neither the judge nor what it has said
        return {name: value for name, value in self.__dict__.items() if name not in ("choice", "groups")}


@dataclass(frozen=True, slots=True)
class _Row:
    """A completion."""

    prompt: Said
    completion: str | None
    """None where it has no text, as one that ends in the call of a tool"""
    reference: str | None

    @property
    def key(self) -> str:
        return json.dumps([self.prompt, self.reference], default=str)


class _Reward:
    """What rewards completions, each compared with the others of its group.

    Args:
        judge: a model's name or folder, the address of an API of `judgelm serve`, which several processes may share, or
            what `judgelm.judge.prepare` takes.
        group: completions of a prompt that are compared: the trainer's `num_generations`.
        criteria: by what is judged, or a YAML file of it; None: the judge's own question.
        reward: one of `judgelm.judge.rewards.REWARDS`, win or score.
        reference: the column of the data set in which a good answer stands, which the judge is shown.
        scoring: expected, or greedy where the judge's verdict is no line of scores.
        model, key: of the API, where it serves several and asks for a key (default: that of JUDGELM_API_KEY).
    """

    def __init__(
        self,
        judge: PathLike | AnyJudge,
        group: int,
        *,
        criteria: Criteria | PathLike | None = None,
        reward: str = "win",
        reference: str | None = None,
        scoring: str = "expected",
        model: str | None = None,
        key: str | None = None,
    ) -> None:
        if type(group) is not int or group < 2:
            raise SettingError("group", f"{group!r}: expected a whole number from 2 on, the trainer's num_generations")
        self._group, self._reward, self._reference = group, check_reward(reward), reference
        self._judge = _Judge(judge, find_criteria(criteria), scoring, model, key)
        # by which TRL names its metrics
        self.__name__ = self._judge.name

    def _rows(self, prompts: Sequence[Said], completions: Sequence[Said], columns: Mapping[str, Any]) -> list[_Row]:
        if self._reference is None:
            references: Sequence[str | None] = [None] * len(prompts)
        elif self._reference in columns:
            references = columns[self._reference]
        else:
            raise InputError(f"reference: the data set has no column {self._reference!r}, found {', '.join(columns)}")
        for number, text in enumerate(references):
            if not isinstance(text, str | None):
                raise InputError(f"reference: expected texts in {self._reference!r}, row {number} has {text!r:.40}")
        texts = map(_read_completion, completions)
        return [_Row(*each) for each in zip(prompts, texts, references, strict=True)]

    def _find_groups(self, rows: Sequence[_Row]) -> list[list[int]]:
        """Their places: GRPO has the completions of a group beside each other, online DPO all first ones before all
        second ones, and in both a prompt may stand twice in a batch. An evaluation may have smaller groups.

        Raises InputError where a prompt has more completions than fit in whole groups.
        """
        keys, size = [row.key for row in rows], self._group
        if (count := len(rows)) % size == 0:
            beside = [list(range(begin, begin + size)) for begin in range(0, count, size)]
            apart = [list(range(begin, count, count // size)) for begin in range(count // size)]
            for groups in (beside, apart):
                if all(len({keys[place] for place in group}) == 1 for group in groups):
                    return groups
        places: dict[str, list[int]] = defaultdict(list)
        for place, key in enumerate(keys):
            places[key].append(place)
        if most := max((len(each) for each in places.values() if len(each) > size and len(each) % size), default=0):
            found = f"found {most} completions of a prompt"
            raise SettingError("group", f"{size}: expected the trainer's num_generations, {found}")
        return [each[begin : begin + size] for each in places.values() for begin in range(0, len(each), size)]

    def _judge_groups(
        self, rows: Sequence[_Row], groups: Sequence[Sequence[int]], log: Callable[[str, float], None] | None
    ) -> dict[int, float | None]:
        """The reward of each place in these groups."""
        rewards: dict[int, float | None] = {place: None for group in groups for place in group}
        readable = [[place for place in group if rows[place].completion is not None] for group in groups]
        readable = [group for group in readable if group]
        found = self._judge.groups.rewards([_group([rows[place] for place in group]) for group in readable])
        read = 0
        for group, of_group in zip(readable, found, strict=True):
            rewards |= zip(group, of_group.by(self._reward), strict=True)
            # completions that are all the same have no score, and nothing that could not be read
            read += sum(value is not None for value in of_group.win)
        if log is None and read < len(rewards):
            # online DPO counts nothing
            _log.warning("%s: no verdict of %d of %d completions", self.__name__, len(rewards) - read, len(rewards))
        elif log is not None and rewards:
            log(f"{self.__name__}/unread", 1 - read / len(rewards))
            if scores := [score for of_group in found for score in of_group.score if score is not None]:
                log(f"{self.__name__}/score", sum(scores) / len(scores))
        return rewards

    def _judge_all(self, rows: Sequence[_Row], log: Callable[[str, float], None] | None) -> Rewards:
        """Of whole groups."""
        found = self._judge_groups(rows, self._find_groups(rows), log)
        return [found[place] for place in range(len(rows))]


class JudgeReward(_Reward):
    """A reward function of `GRPOTrainer`, `RLOOTrainer` and `OnlineDPOTrainer`; a training of several processes may
    spread a group over them.
    """

    def __call__(
        self, prompts: Sequence[Said], completions: Sequence[Said], log_metric: Any = None, **columns: Any
    ) -> Rewards:
        """As TRL calls it: a reward a completion, None where no verdict of it could be read."""
        rows = self._rows(prompts, completions, columns)
        return self._share(rows, log_metric) if len(rows) % self._group else self._judge_all(rows, log_metric)

    def _share(self, rows: list[_Row], log: Any) -> Rewards:
        """Of groups that are spread over processes: each process judges some of them, for all."""
        from accelerate.utils import gather_object

        state = _processes()
        if state.num_processes == 1:
            return self._judge_all(rows, log)
        every = gather_object(rows)
        mine = self._find_groups(every)[state.process_index :: state.num_processes]
        rewards = dict(gather_object(list(self._judge_groups(every, mine, log).items())))
        begin = state.process_index * len(rows)
        return [rewards[place] for place in range(begin, begin + len(rows))]


class AsyncJudgeReward(_Reward):
    """The same, awaited: beside other rewards that wait, such as those of other servers. Each process must have whole
    groups: `per_device_train_batch_size` times `steps_per_generation` a multiple of `num_generations`; else InputError.
    """

    async def __call__(
        self, prompts: Sequence[Said], completions: Sequence[Said], log_metric: Any = None, **columns: Any
    ) -> Rewards:
        """As TRL awaits it; see `JudgeReward`."""
        rows = self._rows(prompts, completions, columns)
        if len(rows) % self._group and _processes().num_processes > 1:
            found = f"found {len(rows)} completions, group {self._group}"
            raise InputError(
                f"AsyncJudgeReward needs whole groups in each process, {found}: make per_device_train_batch_size *"
                " steps_per_generation, and per_device_eval_batch_size, multiples of it, or take JudgeReward"
            )
        return await asyncio.to_thread(self._judge_all, rows, log_metric)


class PairwiseJudge:
    """Which of two completions is better; arguments as those of `JudgeReward`."""

    def __init__(
        self,
        judge: PathLike | AnyJudge,
        *,
        criteria: Criteria | PathLike | None = None,
        scoring: str = "expected",
        model: str | None = None,
        key: str | None = None,
    ) -> None:
        self._judge = _Judge(judge, find_criteria(criteria), scoring, model, key)

    def judge(
        self, prompts: Sequence[Said], completions: Sequence[Sequence[Said]], shuffle_order: bool = True
    ) -> list[int]:
        """The place of the best of each prompt's completions, two or more, from 0 on; the first of equally good ones,
        and -1 where no verdict could be read.

        `shuffle_order` is taken and does nothing: each pair is judged in both orders.
        """
        del shuffle_order
        read = [[_read_completion(text) for text in texts] for texts in completions]
        groups = {
            place: Group.of(prompt, [text for text in texts if text is not None])
            for place, (prompt, texts) in enumerate(zip(prompts, read, strict=True))
            if None not in texts
        }
        found = dict(zip(groups, self._judge.groups.rewards(list(groups.values())), strict=True))
        best = [found[place].best if place in found else None for place in range(len(prompts))]
        return [-1 if place is None else place for place in best]


def _processes() -> PartialState:
    """Of the training."""
    from accelerate.state import PartialState

    return PartialState()


def _group(rows: Sequence[_Row]) -> Group:
    return Group.of(rows[0].prompt, [row.completion or "" for row in rows], rows[0].reference)


def _read_completion(completion: Said) -> str | None:
    """Of messages the text of the last one, if it is the assistant's."""
    if isinstance(completion, str):
        return completion
    try:
        last = read_turns(list(completion[-1:]), "completion")[0]
    except ValueError:
        return None
    return last.text if last.role == ASSISTANT else None
