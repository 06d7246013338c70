"""The probabilities of score lines from a server that says of the next token alone which are likeliest."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from judgelm.engine.openai.responses import Answer

LEAST_SHARE = 1e-3
"""of the likeliest beginning with as many scores: one that is less likely is not followed"""


@dataclass(slots=True)
class Walk:
    """One prompt's score lines, followed from beginning to beginning, whatever the server's tokens are.

    A beginning is text, and each answer says with which texts it may go on. Several tokens may lead to the same text,
    as "1" and then "0" beside "10" do: their probabilities add up.
    """

    likeliest: dict[str, Mapping[str, float]] = field(default_factory=dict)
    """after each beginning asked about, the texts of the likeliest tokens"""
    num_prompt_tokens: int = 0
    num_tokens: int = 0
    """of all answers together"""

    def take(self, begun: str, answer: Answer, likeliest: Mapping[str, float]) -> None:
        """What the server said after a beginning."""
        self.likeliest[begun] = likeliest
        self.num_prompt_tokens += answer.num_prompt_tokens
        self.num_tokens += answer.num_tokens

    def reached(self, lines: Sequence[str]) -> dict[str, float]:
        """The probability of each beginning that was reached, whole lines among them."""
        mass = {"": 1.0}
        # what leads to a beginning is shorter
        for begun in sorted(self.likeliest, key=len):
            rests, likeliest = [line[len(begun) :] for line in lines if line.startswith(begun)], self.likeliest[begun]
            # some servers leave the space out at a token's beginning, or have no text for it at all
            missing = "" if any(text.startswith(" ") for text in likeliest) else " "
            for text, probability in likeliest.items():
                if (step := _step(text, rests, missing)) and begun in mass:
                    mass[begun + step] = mass.get(begun + step, 0.0) + mass[begun] * probability
        return mass

    def unknown(self, lines: Sequence[str]) -> list[str]:
        """The beginnings that have to be asked about next; none where all is known."""
        mass, most = self.reached(lines), defaultdict[int, float](float)
        for begun, probability in mass.items():
            if begun:
                most[begun.count(" ")] = max(most[begun.count(" ")], probability)
        going_on = [begun for begun in mass if any(line.startswith(begun) and line != begun for line in lines)]
        return [
            begun
            for begun in going_on
            if begun not in self.likeliest and mass[begun] > 0 and mass[begun] >= LEAST_SHARE * most[begun.count(" ")]
        ]

    def log_probs(self, lines: Sequence[str]) -> tuple[float, ...]:
        """Of each line; minus infinity where it was not reached."""
        mass = self.reached(lines)
        return tuple(math.log(mass[line]) if mass.get(line) else -math.inf for line in lines)


def _step(text: str, rests: Sequence[str], missing: str) -> str:
    """What a token adds to a line that goes on with one of the rests; empty where it leads out of all lines."""
    for step in (text, missing + text):
        if step and any(rest.startswith(step) for rest in rests):
            return step
    return ""
