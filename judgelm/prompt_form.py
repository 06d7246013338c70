"""How a judge is asked: how its prompt is written, whether it thinks first, and the form of its verdict."""

from __future__ import annotations

from dataclasses import dataclass

from judgelm.criteria import Aspect
from judgelm.images import Shown
from judgelm.prompt import RESPONSE, TASKS, show_prompt
from judgelm.prompt_template import PromptTemplate
from judgelm.sample import Sample
from judgelm.verdict_forms import SCORES


@dataclass(frozen=True, slots=True)
class PromptForm:
    """The default is the published way."""

    chat: bool = False
    """as the message of a user, in the chat template of the model's tokenizer"""
    template: PromptTemplate | None = None
    """the text, in place of the task's own"""
    reasoning: bool = False
    """a chat's assistant thinks before it answers: its turn begins with the tag that opens thoughts"""
    verdict_format: str = SCORES
    """in which the prompt asks for the verdict, one of `VERDICT_FORMATS`"""
    max_reasoning_tokens: int = 4096
    """most tokens of the thoughts, where there are any"""

    def render(self, sample: Sample, task: str, aspect: Aspect | None = None) -> str:
        """The prompt as a text to be continued; see `render_prompt` and `PromptTemplate.show`."""
        return self.show(sample, task, aspect).text

    def show(self, sample: Sample, task: str, aspect: Aspect | None = None) -> Shown:
        """The same with the images of its labels."""
        if self.template is None:
            return show_prompt(sample, task, aspect)
        return self.template.show(sample, task, aspect)

    def message(self, prompt: str, task: str) -> str:
        """The same for a chat: without the words at its end that stand for an answer."""
        return prompt if self.template else prompt.removesuffix(RESPONSE + TASKS[task].prefill).rstrip()


PUBLISHED_FORM = PromptForm()
NO_CHAT = "is for models asked in their chat template (--prompt-format chat)"
