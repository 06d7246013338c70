"""Judges that are asked in a form of their own, served, for tests."""

from __future__ import annotations

from pathlib import Path

from judgelm.criteria import Aspect, Criteria, Scale
from judgelm.judge.judge import Judge
from judgelm.prompt_form import PromptForm
from judgelm.prompt_template import PromptTemplate
from judgelm.sample import Sample

FIVE = Scale(1, 5)
EXAM = Criteria("exam", (Aspect("Truth", "It is true.", 3.0, (), FIVE), Aspect("Brevity", "Short.", 1.0, (), FIVE)))
BY_CRITERION = PromptTemplate(
    "{{ question }}\n{% for turn in dialogue %}{{ turn.role }}: {{ turn.text }}\n{% endfor %}A: {{ answer_a }}\n"
    "B: {{ answer_b }}\n{% if criterion %}By {{ criterion.name }}. {% endif %}A or B?",
    "/srv/secret/by_criterion.j2",
)
LETTER = PromptForm(template=BY_CRITERION, verdict_format="letter")
GOOD, BAD = "It is GOOD.", "It is BAD."
SAMPLES = [
    Sample(1, "Which?", (GOOD, BAD)),
    Sample(2, "Which one?", (BAD, GOOD)),
    Sample(3, "And now?", (GOOD, GOOD)),
    Sample(4, "And then?", (BAD, "It is neither.")),
]


def load(folder: Path, prompt_format: str = "auto") -> Judge:
    return Judge.load(str(folder), dtype="float32", device="cpu", prompt_format=prompt_format)


OURS = {"judgelm": "9", "criteria": True, "context_length": 2048}
