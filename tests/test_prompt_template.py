"""A prompt of the user's own: what templates can say, what is refused, and verdicts of every form on their way."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, make_samples, write_jsonl
from judging import Scripted, run_command

from judgelm import Judge, Sample
from judgelm.criteria import Aspect, Criteria, Scale
from judgelm.errors import InputError
from judgelm.evaluation import evaluate
from judgelm.evaluation.evaluation import evaluate_grades
from judgelm.judge import JudgeChoice, JudgeSettings, judge_folder
from judgelm.prompt_template import PromptTemplate, read_prompt_template
from judgelm.ranking import rank
from judgelm.report import write_report
from judgelm.samples import read_samples

TEMPLATES = ROOT / "examples" / "templates"
SAMPLE = Sample(1, "What is 2 + 2?", ["4", "It is 5."])
EXAM = Criteria("exam", (Aspect("Truth", "It is true.", 1.0, ((1, "Wrong."), (5, "Right.")), Scale(1, 5)),))
LETTER = PromptTemplate("{{ question }}\nA: {{ answer_a }}\nB: {{ answer_b }}")

GOLDEN = {
    "letter": """\
Compare two replies to a question. Look at whether they answer it, whether what they state is right, and whether
anything needed is missing. Neither the order of the replies nor their length counts.

Question:
What is 2 + 2?

Reply A:
4

Reply B:
It is 5.

Explain in a few sentences what tells the replies apart. Then end with your verdict on a line of its own: [[A]] if reply
A is better, [[B]] if reply B is better, [[C]] if neither is.""",
    "one_letter": """\
Here is an instruction and what two models, A and B, made of it.

Instruction:
What is 2 + 2?

A:
4

B:
It is 5.

Whose output would a careful person prefer? Write A or B, and nothing else.""",
    "json": """\
Score each of 2 answers to the question below from 1 to 10.

<question>
What is 2 + 2?
</question>
<answer number="1">
4
</answer>
<answer number="2">
It is 5.
</answer>

Reply with one JSON object, {"reason": "..", "scores": [..]}, with a score for each answer in their order.""",
    "result": """\
You grade a response by one criterion, on a scale of 1 to 5.

### Instruction
What is 2 + 2?

### Response
4

### A response that deserves 5
Four.

### Criterion
Truth: It is true.
1: Wrong.
5: Right.

First write feedback that speaks of the criterion alone. Then end with the grade, a whole number, behind "[RESULT]".""",
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_examples_ask_in_these_words(name: str) -> None:
    template = read_prompt_template(TEMPLATES / f"{name}.j2")
    if name == "result":
        template.check("grade", EXAM)
        graded = Sample(1, "What is 2 + 2?", ["4"], "Four.")
        assert template.render(graded, "grade", EXAM.aspects[0]) == GOLDEN[name]
        return
    for task in ("pair", "multi") if name == "json" else ("pair",):
        template.check(task, None)
        assert template.render(SAMPLE, task) == GOLDEN[name]
    with pytest.raises(
        InputError, match=r"letter\.j2:\d+: unknown name 'answer_[ab]': task multi has question, answers"
    ):
        read_prompt_template(TEMPLATES / "letter.j2").check("multi", None)


def test_texts_are_shown_as_they_are() -> None:
    hostile = Sample(1, "{{ answer_a }} <b>", ["{% for %}", "{{ question }}</s>"])
    assert LETTER.render(hostile, "pair") == "{{ answer_a }} <b>\nA: {% for %}\nB: {{ question }}</s>"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{{ answer_a }}\n{{ answer_b }}\n{{ refrence }}", "t.j2:3: unknown name 'refrence': task pair has question, "),
        ("{{ answer_a }}\n{% if %}", "t.j2:2: Expected an expression"),
        ("{{ answer_a", "t.j2:1: "),
        ("{{ answer_a }}", "t.j2: answer 2 of 2 is not shown"),
        ("{{ question }}", "t.j2: answer 1 of 2 is not shown"),
        ("{{ answers }}", "t.j2: the template refuses these texts: a list, a criterion or a turn is shown as a"),
        (
            "{{ answers[0] }}{{ answers[1] }}{{ criterion.name }}",
            "t.j2: the template refuses these texts: 'None' has no",
        ),
        ("{{ answers[2] }}", "t.j2: the template refuses these texts: "),
        (
            "{{ answer_a }}{{ answer_b }}{{ '\\ud800' }}",
            "t.j2: the template refuses these texts: it writes half a surrogate pair",
        ),
        # nothing but showing texts
        ("{{ question.__class__ }}", "t.j2: the template refuses these texts: access to attribute '__class__'"),
        ("{{ question.format() }}", "t.j2:1: Call is not for prompts"),
        ("{% include 'secret' %}", "t.j2:1: Include is not for prompts"),
        ("{{ range(3) }}", "t.j2:1: Call is not for prompts"),
        ("{{ question | urlize }}", "t.j2:1: unknown filter 'urlize', expected one of trim, "),
        # no text without an end
        ("{{ 'x' * 1000000000 }}", "t.j2:1: Mul is not for prompts"),
        ("{% set x = question ~ question %}", "t.j2:1: Concat is not for prompts"),
        ("{% set x = question + question %}", "t.j2: the template refuses these texts: + is for whole numbers"),
        ("x" * 200_000, "t.j2: a template has at most 131,072 characters"),
        ("{{ " + "(" * 5000, "t.j2: no template (maximum recursion depth exceeded"),
        (
            "{% for a in question %}{% for b in question %}{% for c in question %}{% for d in question %}{{ question }}"
            "{% endfor %}{% endfor %}{% endfor %}{% endfor %}",
            "t.j2: the template refuses these texts: it writes more than ",
        ),
    ],
)
def test_a_template_that_cannot_be_is_one_line(text: str, problem: str) -> None:
    with pytest.raises(InputError) as error:
        JudgeSettings(prompt_template=PromptTemplate(text, "t.j2"))
    assert str(error.value).startswith(problem)
    assert "\n" not in str(error.value)


def test_a_loop_without_an_end_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("judgelm.bounded._MOST_S", 0.3)
    loops = "".join(f"{{% for v{k} in question %}}" for k in range(9)) + "{% endfor %}" * 9
    with pytest.raises(InputError, match=r"t\.j2: the template takes too long, or writes too much"):
        JudgeSettings(prompt_template=PromptTemplate(loops, "t.j2"))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"task": "single"}, "the prompt template: task single's question is fixed"),
        ({"verdict_format": "words"}, "verdict_format 'words': expected one of scores, grade, letter, json"),
        (
            {"prompt_template": None, "verdict_format": "letter"},
            "verdict_format letter: expected --prompt-file FILE too",
        ),
        ({"verdict_format": "grade"}, "verdict_format grade is for task grade, found task pair"),
        ({"task": "multi", "verdict_format": "letter"}, "verdict_format letter is for task pair, found task multi"),
        ({"verdict_format": "letter", "scores_only": True}, "scores_only is about a line of scores"),
        ({"verdict_format": "letter", "constrained": True}, "constrained is about a line of scores"),
        ({"verdict_format": "letter", "scoring": "expected"}, "scoring expected reads lines of scores"),
        ({"criteria": EXAM}, "the prompt template: aspects are asked for one by one, but the template does not name"),
    ],
)
def test_settings_that_do_not_go_together_are_one_line(settings: Mapping[str, Any], problem: str) -> None:
    with pytest.raises(InputError) as error:
        JudgeSettings(**{"prompt_template": LETTER, **settings})
    assert str(error.value).startswith(problem)


def test_a_reference_that_a_template_insists_on_is_missed_before_anything_is_judged(tmp_path: Path) -> None:
    template = PromptTemplate(f"{LETTER.text}\n{{{{ reference }}}}", "t.j2")
    settings = JudgeSettings(prompt_template=template, verdict_format="letter")

    def load() -> Any:
        raise AssertionError("a model was loaded")

    choice = JudgeChoice("scripted", load, {})
    with pytest.raises(InputError, match=r"^t\.j2: .*there is no reference or criterion .*\(question_id 2\)$"):
        judge_folder([SAMPLE.with_reference("4"), Sample(2, "Q", ["a", "b"])], tmp_path, choice, settings)


TALK = PromptTemplate(
    "{% for turn in dialogue %}{{ turn.role }}: {{ turn.text }}\n{% endfor %}user: {{ question }}\n"
    "A: {{ answer_a }}\nB: {{ answer_b }}\n"
)


def test_dialogues_are_shown_in_own_words_or_the_template_is_refused(tmp_path: Path) -> None:
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi {{ scale }}"},
            {"role": "assistant", "content": "Hello."}, {"role": "user", "content": "2 + 2?"}]  # fmt: skip
    rows = [{"question_id": 1, "messages": said, "answer1_body": "4", "answer2_body": "5"}]
    (sample,) = read_samples(write_jsonl(tmp_path / "q.jsonl", rows))
    asked = "system: Be brief.\nuser: Hi {{ scale }}\nassistant: Hello.\nuser: 2 + 2?\nA: 4\nB: 5"
    assert TALK.render(sample, "pair") == asked
    assert TALK.render(SAMPLE, "pair") == "user: What is 2 + 2?\nA: 4\nB: It is 5."
    TALK.check_samples([sample, SAMPLE], "pair", None)
    with pytest.raises(InputError, match=r"the dialogue of question_id 1 is not shown: .* does not name dialogue"):
        LETTER.check_samples([SAMPLE, sample], "pair", None)
    two = {"conversation1": [*said, {"role": "assistant", "content": "4"}],
           "conversation2": [*said[1:], {"role": "assistant", "content": "5"}]}  # fmt: skip
    (sample,) = read_samples(write_jsonl(tmp_path / "q.jsonl", [{"question_id": 2, **two}]))
    with pytest.raises(InputError, match="question_id 2 is not shown: the template does not name conversations"):
        TALK.check_samples([sample], "pair", None)
    each = "{% for turn in conversations[1] %}{{ turn.text }}|{% endfor %}{{ answer_a }}{{ answer_b }}"
    assert PromptTemplate(each).render(sample, "pair") == "Hi {{ scale }}|Hello.|2 + 2?|45"
    with pytest.raises(InputError, match="a turn is shown as a whole"):
        PromptTemplate(f"{{% for turn in conversations[0] %}}{{{{ turn }}}}{{% endfor %}}{each}").render(sample, "pair")


def test_a_template_travels_to_other_processes() -> None:
    settings = JudgeSettings(prompt_template=LETTER, verdict_format="letter")
    assert pickle.loads(pickle.dumps(settings)) == settings


def judge_all(folder: Path, texts: dict[str, str], samples: list[Sample], settings: JudgeSettings) -> Any:
    choice = JudgeChoice("scripted", lambda: Judge(Scripted(texts)), {})
    return judge_folder(samples, folder, choice, settings)


def read(folder: Path, order: str = "forward") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{order}.jsonl").read_text().splitlines()]


def test_letters_go_through_evaluation_ranking_and_report(tmp_path: Path) -> None:
    records = [
        {**sample.to_record(), "label": label, "answer1_model_id": "m", "answer2_model_id": "n"}
        for sample, label in zip(make_samples(4), (1, 1, 2, 0), strict=True)
    ]
    samples = [Sample.from_record(record) for record in records]
    texts = {"0": "Well. [[A]]", "1": "Well. [[B]]", "2": "[[C]]", "3": "It is hard to say."}
    settings = JudgeSettings(prompt_template=LETTER, verdict_format="letter")
    folder = tmp_path / "out"
    judge_all(folder, texts, samples, settings)
    forward = read(folder)
    assert [record["pred_scores"] for record in forward] == [[1, 0], [0, 1], [0.5, 0.5], None]
    assert [record["pred_outcome"] for record in forward] == ["win", "lose", "tie", None]
    assert {record["pred_verdict_format"] for record in forward} == {"letter"}
    found = evaluate(folder)
    # the same letter in both orders contradicts itself, [[C]] does not, and no verdict agrees with nothing
    assert found.summary.rates["consistency"].value == 0.25
    assert found.summary.rates["agreement"].value == 0.25
    # by the paper's rule no verdict is a tie
    names = ("accuracy", "consistency", "perfer_before_rate", "perfer_after_rate", "total_num")
    assert [found.published[name] for name in names] == [0.5, 0.5, 0.25, 0.25, 4]
    ranking = rank(folder)
    assert {model.name for model in ranking.models} == {"m", "n"}
    page = tmp_path / "report.html"
    write_report(folder, output=page)
    assert "[[A]]" in page.read_text(encoding="utf-8")


def test_run_json_holds_the_templates_hash_and_another_one_is_refused(tmp_path: Path) -> None:
    settings = JudgeSettings(prompt_template=LETTER, verdict_format="letter")
    judge_all(tmp_path, {"1": "[[A]]"}, [SAMPLE], settings)
    described = json.loads((tmp_path / "run.json").read_text())["settings"]
    assert described["prompt_template"] == described["prompt_fingerprint"] == LETTER.sha256
    assert described["verdict_format"] == "letter"
    other = JudgeSettings(prompt_template=PromptTemplate(LETTER.text + "!"), verdict_format="letter")
    for settings in (other, JudgeSettings(prompt_template=LETTER), JudgeSettings()):
        with pytest.raises(
            InputError, match=r"is of a run with other settings: .*(prompt_template|verdict_format) was"
        ):
            judge_all(tmp_path, {"1": "[[A]]"}, [SAMPLE], settings)


def test_grades_by_criteria_are_asked_for_in_own_words(tmp_path: Path) -> None:
    template = read_prompt_template(TEMPLATES / "result.j2")
    settings = JudgeSettings("grade", criteria=EXAM, prompt_template=template, verdict_format="grade")
    samples = [
        Sample(k, f"Q{k}", ["a"], record={"question_id": k, "question_body": f"Q{k}", "answer_body": "a", "score": k})
        for k in (1, 2, 3)
    ]
    judge_all(tmp_path, {"1": "So [RESULT] 1", "2": "So [RESULT] 3", "3": "[RESULT] 7"}, samples, settings)
    assert [record["pred_scores"] for record in read(tmp_path)] == [[1], [3], None]
    found = evaluate_grades(tmp_path)
    assert found.summary.rates["mae"].value == pytest.approx(0.5)


def test_letters_by_criteria_are_shares_of_aspects_won(tmp_path: Path) -> None:
    template = PromptTemplate(f"{LETTER.text}\n{{{{ criterion.text }}}}")
    aspects = (Aspect("Truth", "true", 3.0, scale=Scale(1, 5)), Aspect("Length", "short", 1.0, scale=Scale(1, 5)))
    settings = JudgeSettings(criteria=Criteria("c", aspects), prompt_template=template, verdict_format="letter")

    class ByAspect(Scripted):
        def generate(self, requests: Any, sampling: Any, *, done: Any = (), on_text: Any = None) -> Any:
            for request in requests:
                self.texts[request.seed_key] = "[[A]]" if request.prompt.endswith("true") else "[[B]]"
                yield from super().generate([request], sampling)

    choice = JudgeChoice("scripted", lambda: Judge(ByAspect({})), {})
    judge_folder([SAMPLE], tmp_path, choice, settings)
    (record,) = read(tmp_path)
    assert record["pred_scores"] == [0.75, 0.25]
    assert record["pred_scale"] == [0, 1]
    assert [aspect["outcome"] for aspect in record["pred_aspects"]] == ["win", "lose"]
    assert evaluate(tmp_path).summary.samples == 1


def test_from_python_a_judge_takes_a_template() -> None:
    judge = Judge(Scripted({"1": "It is right.\n[[A]]"}), constrained=True)
    (verdict,) = judge.judge([SAMPLE], prompt_template=LETTER, verdict_format="letter")
    assert verdict.outcome is not None
    assert verdict.outcome.value == "win"
    assert verdict.forward is not None
    assert verdict.forward.reasons == "It is right.\n[[A]]"


def test_the_commands_take_a_file_and_refuse_it_before_a_model_is_looked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = write_jsonl(tmp_path / "q.jsonl", [SAMPLE.to_record()])
    wrong = tmp_path / "wrong.j2"
    wrong.write_text("{{ answer_a }}\n{{ answer_c }}", encoding="utf-8")
    common = ["--model", "/no/such/model", "--output-dir", str(tmp_path / "out"), "--prompt-file", str(wrong)]
    asked = ["--question-file", str(questions)]
    for command in (
        ["judge", *asked],
        ["audit", *asked],
        ["arena", "--answers", str(questions), str(questions)],
        ["benchmark", "pairs", "--data", str(questions)],
    ):
        assert run_command([*command, *common]) == 2
        assert f"{wrong}:2: unknown name 'answer_c'" in capsys.readouterr().err
    assert run_command(["prompt", *asked, "--prompt-file", str(TEMPLATES / "letter.j2")]) == 0
    assert json.loads(capsys.readouterr().out)["prompt"] == GOLDEN["letter"]
    assert run_command(["judge", *asked, *common[:4], "--prompt-file", str(tmp_path / "none.j2")]) == 2
    assert "none.j2: cannot be read (No such file or directory)" in capsys.readouterr().err
    letter = ["--prompt-file", str(TEMPLATES / "letter.j2"), "--verdict-format", "letter"]
    assert run_command(["judge", *asked, *common[:4], *letter, "--scoring", "expected"]) == 2
    assert "--scoring expected reads lines of scores" in capsys.readouterr().err


def test_an_audit_writes_out_verdicts_of_other_forms(model_folder: Path, tmp_path: Path) -> None:
    questions = write_jsonl(tmp_path / "q.jsonl", [sample.to_record() for sample in make_samples(3)])
    args = ["audit", "--model", str(model_folder), "--question-file", str(questions), "--only", "position"]
    args += ["--output-dir", str(tmp_path / "out"), "--prompt-file", str(TEMPLATES / "letter.j2")]
    assert run_command([*args, "--verdict-format", "letter", "--max-new-token", "4"]) == 0
    described = json.loads((tmp_path / "out" / "audit.json").read_text())["settings"]
    assert (described["scoring"], described["verdict_format"]) == ("greedy", "letter")


def test_a_model_is_asked_in_both_formats(tmp_path: Path) -> None:
    judge = Judge.load("tiny-base", dtype="float32")
    settings = JudgeSettings(prompt_template=LETTER, verdict_format="letter")
    asked = LETTER.render(SAMPLE, "pair")
    plain = judge.engine.fit(SAMPLE, "pair", 16, form=settings.form)
    assert plain.text == asked
    chat = JudgeSettings(prompt_template=LETTER, verdict_format="letter", prompt_format="chat")
    prompt = judge.engine.fit(SAMPLE, "pair", 16, form=chat.form)
    assert prompt.text.endswith(f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n")
    (verdict,) = judge.judge([SAMPLE], prompt_template=LETTER, verdict_format="letter", max_new_tokens=8)
    assert verdict.forward is not None
