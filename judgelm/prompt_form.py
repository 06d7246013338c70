"""How a prompt is written, whatever it asks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PromptForm:
    """The default is the published way."""

    chat: bool = False
    """as the message of a user, in the chat template of the model's tokenizer"""


PUBLISHED_FORM = PromptForm()
