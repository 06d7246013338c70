"""The only prompt text: what the released judges were trained on, byte for byte.

Other programs may import this module: it needs the standard library alone.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from judgelm.criteria import PUBLISHED, Aspect, Criteria
from judgelm.dialogue import ASSISTANT, USER, Dialogue, Turn
from judgelm.dialogue import SYSTEM as SYSTEM_ROLE
from judgelm.images import Image, Shown, count_labels, show
from judgelm.sample import MAX_ANSWERS, Sample

SYSTEM = "You are a helpful and precise assistant for checking the quality of the answer."
RESPONSE = "### Response:"
EOS = "</s>"
STOP_SCORES_ONLY = "\n"
"""with scores only a judgement ends at its first newline"""

_JUDGE = (
    "We would like to request your feedback on the performance of {count} AI assistants{asked}.\nPlease rate the"
    " helpfulness, relevance, accuracy, level of details of their responses."
    " Each assistant receives an overall score on a scale of 1 to 10, where a higher score indicates better overall"
    " performance."
)
_MATCH_REFERENCE = (
    "We would like to request your feedback on the performance of {count} AI assistants' answers in comparing with the"
    " reference answer and determine if they match meaningfully. Please rate the helpfulness, relevance, accuracy,"
    " level of details of the Assistants' answers. To accomplish the task, you must : 1. Focus on the meaningful match"
    " between the reference answer and the Assistants' answers.\n 2. Consider synonyms or paraphrases as valid"
    " matches.\n 3. Evaluate the correctness of the Assistants' answers compared to the reference answer.\n 4. If there"
    " are multiple reference answers, the Assistants' answer is considered correct as long as it is close to any of the"
    " answers."
)
_OUTPUT = (
    "\nPlease first output a single line containing only {count} values indicating the scores for Assistant {ids},"
    " respectively. The {count} scores are separated by a space. In the subsequent line, please provide a comprehensive"
    " explanation of your evaluation, avoiding any potential bias and ensuring that the order in which the responses"
    " were presented does not affect your judgment."
)
_GRADE = (
    "We would like to request your feedback on the performance of an AI assistant{asked}.\nPlease rate its"
    " response by {what}. The assistant receives a score on a scale of {scale}, where a higher score"
    " indicates better performance."
)
_GRADE_OUTPUT = (
    "\nPlease first output a single line containing only one value indicating the score for Assistant 1. In the"
    " subsequent line, please provide a comprehensive explanation of your evaluation."
)
_BY_CRITERION = (
    "We would like to request your feedback on the performance of {count} AI assistants{asked}.\nPlease rate their"
    " responses by {what}. Each assistant receives a score on a scale of {scale}, where a higher score"
    " indicates better performance."
)
_ASKED = " in response to the user question displayed above"
_ASKED_LAST = (
    f"{_ASKED}, which is the last one of a dialogue. What comes before it is displayed first, and {{each}} is the next"
    " reply in this dialogue"
)
_TALKED = (
    " in the conversations displayed above, each of which is judged as a whole, from the assistant's first reply to its"
    " last"
)
_OVERALL = "its overall quality"
_BY_CRITERION_BELOW = "nothing but the criterion given below"
_COUNT_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_MARKED = r"Question|Reference Answer|System|Criterion|The (?:Start|End) of Assistant \d+'s Answer"
_MARKER = re.compile(rf"^\[(?:{_MARKED})\]|^### Response:", re.MULTILINE)
_DIALOGUE_MARKED = r"Dialogue|System Message|User|Assistant|The (?:Start|End) of Assistant \d+'s Conversation"
_DIALOGUE_MARKER = re.compile(rf"^\[(?:{_MARKED}|{_DIALOGUE_MARKED})\]|^### Response:", re.MULTILINE)
_SPEAKERS = {SYSTEM_ROLE: "System Message", USER: "User", ASSISTANT: "Assistant"}


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked of the judge. `prefill` is the part of the judgement that stands in the prompt already."""

    name: str
    instruction: str
    prefill: str
    max_answers: int
    needs_reference: bool
    help: str
    min_answers: int = 2
    takes_criteria: bool = False


TASKS = {
    task.name: task
    for task in (
        Task("pair", _JUDGE + _OUTPUT, "", 2, False, "two answers, each gets a score", takes_criteria=True),
        Task("single", _JUDGE + _OUTPUT, "10", 2, False, "answer 1 is a reference answer worth 10, answer 2 is graded"),
        Task(
            "multi",
            _JUDGE + _OUTPUT,
            "",
            MAX_ANSWERS,
            False,
            f"2 to {MAX_ANSWERS} answers, each gets a score",
            takes_criteria=True,
        ),
        Task("mmvet", _MATCH_REFERENCE + _OUTPUT, "10", 2, True, "an answer is matched with MM-Vet's ground truth"),
        Task(
            "grade", _GRADE + _GRADE_OUTPUT, "", 1, False, "one answer gets a score", min_answers=1, takes_criteria=True
        ),
    )
}
PUBLISHED_TASKS = ("pair", "single", "multi", "mmvet")
"""those of the paper, whose prompts are fixed"""


def show_prompt(sample: Sample, task: str = "pair", aspect: Aspect | None = None) -> Shown:
    """The same as `render_prompt`, with the images of its labels."""
    return show(_write_prompt(sample, task, aspect), sample.images)


def render_prompt(sample: Sample, task: str = "pair", aspect: Aspect | None = None) -> str:
    """The prompt for a sample, ending in `### Response:` and the task's prefill; the judgement follows directly.

    With an `aspect` it asks for scores by that alone, which stands last, so that the prompts of all aspects of a sample
    begin alike. Texts are inserted as they are, and where an image stands a label such as `[image 1]`. Raises
    ValueError for an unknown task, a wrong number of answers, a missing reference, and for an aspect or a dialogue
    where the task takes none.
    """
    return show_prompt(sample, task, aspect).text


def _write_prompt(sample: Sample, task: str, aspect: Aspect | None) -> str:
    """With the marks of images."""
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}, expected one of {', '.join(TASKS)}")
    spec = TASKS[task]
    count = len(sample.answers)
    if not spec.min_answers <= count <= spec.max_answers:
        least = "" if spec.min_answers == spec.max_answers else f"{spec.min_answers} to "
        raise ValueError(f"task {task} takes {least}{spec.max_answers} answers, found {count}")
    if aspect is not None and not spec.takes_criteria:
        raise ValueError(f"task {task} takes no criteria")
    if sample.dialogue is not None and spec.prefill:
        raise ValueError(f"task {task} takes no dialogue")
    if spec.needs_reference and sample.reference is None:
        raise ValueError(f"task {task} needs a reference")
    return f"{SYSTEM}\n{_blocks(sample)}{_instruction(spec, count, aspect, _asked(sample))}"


def prompt_order(sample: Sample, task: str) -> str:
    """Sorts samples of a task as their prompts sort, whose beginning is the same for all; nothing is checked."""
    return _blocks(sample) + _instruction(TASKS[task], len(sample.answers), None, _asked(sample))


def _blocks(sample: Sample) -> str:
    """Question, reference and answers, between their markers, and what was said before them."""
    dialogue, blocks = sample.dialogue, []
    conversations = dialogue.conversations if dialogue else ()
    if not conversations:
        blocks.append(f"{_before(dialogue) if dialogue else ''}[Question]\n{sample.question}\n\n")
    if sample.reference is not None:
        blocks.append(f"[Reference Answer]\n{sample.reference}\n\n")
    for k, answer in enumerate(sample.answers, start=1):
        if conversations:
            said = "".join(map(_turn, (*conversations[k - 1], Turn(ASSISTANT, answer))))
            name = "Conversation"
        else:
            said, name = f"{answer}\n\n", "Answer"
        blocks.append(f"[The Start of Assistant {k}'s {name}]\n{said}[The End of Assistant {k}'s {name}]\n\n")
    return "".join(blocks)


def _before(dialogue: Dialogue) -> str:
    """What was said before the question: first what the system says, then in turns."""
    first = next((k for k, turn in enumerate(dialogue.turns) if turn.role != SYSTEM_ROLE), len(dialogue.turns))
    parts = list(map(_turn, dialogue.turns))
    return "".join([*parts[:first], *(["[Dialogue]\n"] if parts[first:] else []), *parts[first:]])


def _turn(turn: Turn) -> str:
    return f"[{_SPEAKERS[turn.role]}]\n{turn.text}\n\n"


def _asked(sample: Sample) -> str:
    """What the answers of a sample are, for the instruction."""
    if sample.dialogue is None:
        return _ASKED
    if sample.dialogue.conversations:
        return _TALKED
    return _ASKED_LAST.format(each="the answer" if len(sample.answers) == 1 else "each answer")


@functools.lru_cache(maxsize=256)  # a server's clients bring aspects of their own
def _instruction(task: Task, count: int, aspect: Aspect | None, asked: str) -> str:
    """How every prompt of the task ends that shows so many answers."""
    template, scale, what, criterion = task.instruction, PUBLISHED, _OVERALL, ""
    if aspect is not None:
        template = template if count == 1 else _BY_CRITERION + _OUTPUT
        scale, what, criterion = aspect.scale, _BY_CRITERION_BELOW, f"[Criterion]\n{_criterion(aspect)}\n\n"
    ids = ", ".join(str(k) for k in range(1, count)) + f" and {count}"
    instruction = template.format(count=_COUNT_WORDS[count - 1], ids=ids, scale=scale, what=what, asked=asked)
    return f"[System]\n{instruction}\n\n{criterion}{RESPONSE}{task.prefill}"


def _criterion(aspect: Aspect) -> str:
    """The aspect, and below it what scores look like, one a line."""
    return "\n".join([f"{aspect.name}: {aspect.text}", *(f"{score}: {text}" for score, text in aspect.anchors)])


Turns = Sequence[tuple[str, str]]
"""earlier questions to the judge about its judgement, each with its reply"""


def render_followup(prompt: str, judgement: str, turns: Turns, question: str) -> str:
    """The prompt for a further question to the judge about its judgement, as Vicuna v1.1 chats continue.

    `judgement` is what the judge wrote after `prompt`.
    """
    return EOS.join(followup_parts(prompt, judgement, turns, question))


def followup_parts(prompt: str, judgement: str, turns: Turns, question: str) -> list[str]:
    """The texts between which a follow-up's prompt has an end-of-text token."""
    parts = [f"USER: {asked} ASSISTANT: {reply}" for asked, reply in turns]
    parts.append(f"USER: {question} ASSISTANT:")
    return [prompt + judgement + parts[0], *parts[1:]]


def count_markers(sample: Sample) -> int:
    """How many lines of question, reference, answers and dialogue imitate the prompt's own block markers; and in a
    sample with images how often they imitate a label.
    """
    texts, marker = [sample.question, sample.reference or "", *sample.answers], _MARKER
    if sample.dialogue is not None:
        marker = _DIALOGUE_MARKER
        # a conversation has its question among its turns
        texts = texts[bool(sample.dialogue.conversations) :] + [turn.text for turn in sample.dialogue.all_turns]
    labels = sum(map(count_labels, texts)) if sample.images else 0
    return labels + sum(len(marker.findall(text)) for text in texts)


def prompt_fingerprint(
    task: str = "pair", criteria: Criteria | None = None, dialogues: bool = False, images: bool = False
) -> str:
    """sha256 over the prompts for every number of answers, with and without a reference: those of all the paper's
    tasks, which are fixed together; with criteria, and for a task of ours, its own. With `dialogues` those of a
    question alone, and of dialogues and conversations; with `images` those of texts with some too.
    """
    published = task in PUBLISHED_TASKS and criteria is None and not dialogues and not images
    digest = hashlib.sha256(str(show(*_SOME_IMAGES)).encode() if images else b"")
    for spec in (TASKS[name] for name in (PUBLISHED_TASKS if published else (task,))):
        for count in range(spec.min_answers, spec.max_answers + 1):
            plain = Sample(0, "question", tuple(f"answer {k}" for k in range(count)))
            shown = [plain, *(replace(plain, dialogue=each) for each in _some_dialogues(count) if dialogues)]
            for each in shown:
                for sample in (each, each.with_reference("reference"))[spec.needs_reference :]:
                    for aspect in criteria.aspects if criteria else (None,):
                        digest.update(render_prompt(sample, spec.name, aspect).encode())
    return digest.hexdigest()


_SOME_IMAGES = "text\ufdd0\ufdd1\ufdd0text", (Image("https://image.example/1"), Image("https://image.example/2"))


def _some_dialogues(count: int) -> tuple[Dialogue, Dialogue]:
    turns = tuple(Turn(role, f"text {k}") for k, role in enumerate((SYSTEM_ROLE, USER, ASSISTANT, SYSTEM_ROLE, USER)))
    return Dialogue(turns), Dialogue(conversations=(turns,) * count)
