"""Rotary positions whose frequencies depend on how long a text is: each text gets those that it would get alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class LengthRope:
    """The rotary embeddings of a model that look at the longest text of a batch; for most models there are none.

    longrope has one set of frequencies up to a border and another beyond it: a text that grows over the border is read
    anew, as Phi-3 does in transformers. Dynamic NTK has a set for each length beyond the model's own: a prompt is read
    with that of its length, each further token with that of the text up to it, and what was read stays.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.borders: set[int] = set()
        """most tokens with the short frequencies of longrope"""
        self.most: int | None = None
        """tokens beyond which dynamic NTK stretches"""
        self._now: Int[Tensor, "B T"] | None = None
        """on the CPU: the length of the text whose frequencies each token gets"""
        for module in model.modules():
            kinds = getattr(module, "rope_type", None)
            if not isinstance(kinds, str | dict) or not hasattr(module, "config"):
                continue
            parameters = module.config.rope_parameters
            found = [(parameters, kinds)] if isinstance(kinds, str) else [(parameters[k], kinds[k]) for k in kinds]
            borders = {own["original_max_position_embeddings"] for own, kind in found if kind == "longrope"}
            dynamic = any(kind is not None and "dynamic" in kind for _, kind in found)
            self.borders |= borders
            if dynamic:
                self.most = module.config.max_position_embeddings
            if borders or dynamic:
                module.forward = self._wrap(module.forward)

    def __bool__(self) -> bool:
        """Whether lengths matter at all."""
        return bool(self.borders) or self.most is not None

    def kind(self, length: int) -> int:
        """Texts of one kind have the same frequencies; it is a length that has them."""
        if self.most is not None and length > self.most:
            return length
        return max((border + 1 for border in self.borders if length > border), default=1)

    def kind_of_prompt(self, num_prompt: int, length: int) -> int:
        """The kind of the first `num_prompt` tokens of a text that is `length` tokens long by now."""
        return self.kind(length if self.borders else num_prompt)

    def kinds(self, num_prompt: int, length: int, positions: Sequence[int]) -> list[int]:
        """The kind of each of a text's tokens, when it is read."""
        if self.borders:
            return [self.kind(length)] * len(positions)
        if self.most is None or length <= self.most:
            return [1] * len(positions)
        return [self.kind(max(num_prompt, position + 1)) for position in positions]

    def outgrown(self, num_read: int, length: int) -> bool:
        """Whether what was read of a text must be read anew, now that it is longer."""
        return bool(self.borders) and self.kind(num_read) != self.kind(length)

    @contextmanager
    def using(self, kinds: Sequence[Sequence[int]]) -> Iterator[None]:
        """While the model is called: of which kind each token's text is, `kinds` being [B, T]."""
        if self:
            self._now = torch.tensor(kinds)
        try:
            yield
        finally:
            self._now = None

    def _last(self, kind: int) -> int:
        """The greatest position in a text of a kind."""
        if self.most is not None:
            return max(kind, self.most) - 1
        return min((border - 1 for border in self.borders if border >= kind), default=sys.maxsize)

    def _wrap(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """A rotary embedding's `forward`, called once for each kind with no text of another one in sight."""

        def by_kind(x: Tensor, position_ids: Int[Tensor, "B T"], *args: Any, **settings: Any) -> Any:
            if self._now is None:
                return forward(x, position_ids, *args, **settings)
            found: Any = None
            for kind in sorted(set(self._now.flatten().tolist())):
                own = (self._now == kind).to(position_ids.device)
                # what decides is the greatest position there is, and that may be of a token that only fills up a row
                last = position_ids.new_full((*position_ids.shape[:-1], 1), kind - 1)
                shown = torch.cat([position_ids.where(own, 0).clamp(max=self._last(kind)), last], dim=-1)
                if self.most is not None:
                    # the frequencies of a longer text would stay
                    forward(x, torch.zeros_like(last), *args, **settings)
                part = forward(x, shown, *args, **settings)
                several = isinstance(part, tuple)
                parts = [each[..., :-1, :] for each in (part if several else (part,))]
                if found is not None:
                    parts = [each.where(own[..., None], old) for each, old in zip(parts, found, strict=True)]
                found = parts
            return tuple(found) if several else found[0]

        return by_kind
