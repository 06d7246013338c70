"""Prompts as a tree: what several of them begin with is read once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

LEAST_SHARED = 16
"""tokens; a shorter common beginning costs more bookkeeping than it saves"""
_FAMILY = 5
"""prompts that have more than this part of their tokens in common are read side by side"""


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens that stand together in every prompt of which they are a part."""

    begin: int
    """where they stand in the pack"""
    end: int
    before: tuple[slice, ...]
    """where the tokens in front of them stand, in order"""
    position: int
    """of the first one in its prompt"""
    prompt: int
    """number of one of the prompts"""

    @property
    def path(self) -> tuple[slice, ...]:
        """Where a prompt stands that ends with this segment."""
        return (*self.before, slice(self.begin, self.end))


@dataclass
class Tree:
    """Prompts written into one row of tokens, a shared beginning once.

    Args:
        prompts: token ids, each at least one.
        least: tokens that prompts must have in common to share them.
        kinds: of the prompts; those of different kinds share nothing.
    """

    prompts: Sequence[list[int]]
    least: int = LEAST_SHARED
    kinds: Sequence[int] | None = None
    input_ids: list[int] = field(default_factory=list)
    """[T]"""
    position_ids: list[int] = field(default_factory=list)
    """[T]"""
    segments: list[Segment] = field(default_factory=list)
    """in the order of the pack; what stands in front of a segment comes before it"""

    def __post_init__(self) -> None:
        ends: dict[int, Segment] = {}
        self._grow(range(len(self.prompts)), None, ends)
        self.leaves = [ends[index] for index in range(len(self.prompts))]
        """the segment with which each prompt ends"""

    def _grow(self, group: Sequence[int], parent: Segment | None, ends: dict[int, Segment]) -> None:
        """Add what follows `parent` in the prompts of a group."""
        depth = 0 if parent is None else parent.position + parent.end - parent.begin
        branches: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index in group:
            if len(self.prompts[index]) == depth:
                assert parent is not None, "a prompt without tokens"
                ends[index] = parent
            else:
                kind = self.kinds[index] if self.kinds else 0
                branches[kind, *self.prompts[index][depth : depth + self.least]].append(index)
        for branch in branches.values():
            prompts = [self.prompts[index] for index in branch]
            end = common_length(min(prompts), max(prompts))
            begin = len(self.input_ids)
            segment = Segment(begin, begin + end - depth, parent.path if parent else (), depth, branch[0])
            self.segments.append(segment)
            self.input_ids += prompts[0][depth:end]
            self.position_ids += range(depth, end)
            self._grow(branch, segment, ends)


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """With how many tokens both begin."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((index for index, (one, other) in pairs if one != other), min(len(first), len(second)))


def are_family(first: Sequence[int], second: Sequence[int]) -> bool:
    """Whether they have so much in common that they are to be read together."""
    return common_length(first, second) * _FAMILY > len(second)


def split_family(taken: Sequence[Sequence[int]], following: Sequence[int]) -> int:
    """How many at the end of `taken` should wait for `following`, so that what they share is not read twice; none where
    all of them are of that family, which is too large then.
    """
    count = 0
    while count < len(taken) and are_family(taken[-1 - count], following):
        following = taken[-1 - count]
        count += 1
    return 0 if count == len(taken) else count
