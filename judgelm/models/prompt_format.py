"""Whether a model is asked as the released judges are, or in its own chat template."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace

from judgelm.chat_template import find_chat_template
from judgelm.errors import SettingError
from judgelm.models.folder import ModelFolder
from judgelm.models.loading import load_tokenizer
from judgelm.models.tiny import NOTES
from judgelm.prompt_form import NO_CHAT, PromptForm

PROMPT_FORMATS = {
    "auto": "plain for judges trained here or released by JudgeLM, else chat where the tokenizer has a template",
    "plain": "the model continues the very prompt, as published",
    "chat": "the prompt is a user's message in the tokenizer's own chat template",
}
_RELEASED = re.compile(r"(?:.*/)?JudgeLM-\d+B\b[^/]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FoundFormat:
    """What a model is asked in."""

    name: str
    """plain or chat"""
    template_sha256: str | None = None
    """of a chat's template"""


def find_prompt_format(folder: ModelFolder, wanted: str) -> FoundFormat:
    """The format that is wanted, or the one that suits the model. No weights are loaded.

    Raises InputError for an unknown format, and where chat was asked for and the tokenizer has no template that works.
    """
    if wanted not in PROMPT_FORMATS:
        raise SettingError("prompt_format", f"{wanted!r}: expected one of {', '.join(PROMPT_FORMATS)}")
    if wanted == "plain" or (wanted == "auto" and _is_judge(folder)):
        return FoundFormat("plain")
    tokenizer = load_tokenizer(folder)
    try:
        find_chat_template(tokenizer)
    except ValueError as error:
        if wanted == "chat":
            raise SettingError("prompt_format", f"chat: {error}") from None
        return FoundFormat("plain")
    return FoundFormat("chat", hashlib.sha256(str(tokenizer.chat_template).encode()).hexdigest())


def form_for(folder: ModelFolder, wanted: str, form: PromptForm) -> PromptForm:
    """The form in which this model is asked: in chat, where that is its format; see `find_prompt_format`.

    Raises SettingError where it is to think and is not asked in chat.
    """
    chat = find_prompt_format(folder, wanted).name == "chat"
    if form.reasoning and not chat:
        raise SettingError("reasoning", NO_CHAT)
    return replace(form, chat=chat)


def _is_judge(folder: ModelFolder) -> bool:
    return folder.name in NOTES or folder.trained_here or _RELEASED.fullmatch(folder.name.rstrip("/")) is not None
