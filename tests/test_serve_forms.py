"""Judges with a prompt of their own, and judges that think first, as they are served."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import ROOT, write_jsonl
from judging import judge_args, lasting, run_command
from served_forms import BAD, BY_CRITERION, EXAM, GOOD, LETTER, OURS, SAMPLES, load
from serving import Address, asked, local_stack
from test_serve_expected import Scripted

from judgelm.cli import main as command
from judgelm.criteria import Aspect, Criteria
from judgelm.engine.row import Row
from judgelm.judge.judge import Judge
from judgelm.judge.settings import JudgeSettings, tasks_of
from judgelm.models.folder import find_model
from judgelm.prompt import _instruction, render_prompt
from judgelm.prompt_form import PromptForm
from judgelm.prompt_template import PromptTemplate, read_prompt_template
from judgelm.sample import Sample
from judgelm.serve import cli, launch, model_worker
from judgelm.serve.client import APIError, Client
from judgelm.serve.judgement_requests import JudgementRequest, Result
from judgelm.serve.judgements import judge_through
from judgelm.serve.page.batch import Batch
from judgelm.serve.page.by_hand import TABS, follow, judge
from judgelm.serve.page.shared import Page
from judgelm.serve.settings import ServeSettings
from judgelm.serve.worker_answers import Details
from judgelm.serve.worker_client import Workers

THOUGHTS = "Let me see. The one that is GOOD."
QUESTION = {"role": "user", "content": "And Oslo?"}
TALK = [{"role": "user", "content": "Oslo?"}, {"role": "assistant", "content": "In Norway."}]
TALK += [{"role": "user", "content": "Big?"}, {"role": "assistant", "content": "Yes."}]
_Says = Callable[[str], str]


def by_letter(prompt: str) -> str:
    """The answer that is GOOD; the same in both orders."""
    first, second = (prompt.partition(f"\n{name}: ")[2].partition("\n")[0] for name in "AB")
    letter = {(GOOD, BAD): "A", (BAD, GOOD): "B"}.get((first, second), "C" if first == second else "hm")
    return f"One of them is GOOD.\n[[{letter}]]"


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch, chat_tokenizer: Any) -> Callable[[_Says], None]:
    """Has the model write what a test wants, token by token, after thoughts where it thinks."""
    known, thought = Row.allowed, chat_tokenizer(THOUGHTS + "\n</think>", add_special_tokens=False).input_ids

    def script(text: _Says) -> None:
        def allowed(row: Row, pieces: Any) -> list[int] | None:
            thinking = row.thinking
            if thinking is not None:
                done = len(thinking.tokens)
                return known(row, pieces) if thinking.forced or done >= len(thought) else [thought[done]]
            words = chat_tokenizer(text(row.request.prompt), add_special_tokens=False).input_ids
            return [[*words, chat_tokenizer.eos_token_id][len(row._written)]]

        monkeypatch.setattr(Row, "allowed", allowed)

    return script


def settings_of(form: PromptForm) -> dict[str, Any]:
    """For `Judge.judge`."""
    return {
        "prompt_template": form.template,
        "verdict_format": form.verdict_format,
        "reasoning": form.reasoning,
        "max_reasoning_tokens": form.max_reasoning_tokens,
    }


@pytest.fixture(scope="module")
def letters(model_folder: Path) -> Iterator[tuple[Address, Address, Address]]:
    named = PromptForm(template=PromptTemplate(BY_CRITERION.text, "by_criterion.j2"), verdict_format="letter")
    with local_stack(model_folder, form=named) as started:
        yield started


@pytest.fixture(scope="module")
def thinkers(chat_folder: Path) -> Iterator[tuple[Address, Address, Address]]:
    form = PromptForm(template=BY_CRITERION, reasoning=True, verdict_format="letter", max_reasoning_tokens=60)
    with local_stack(chat_folder, form=form) as started:
        yield started


def judged(api: Address, samples: list[dict[str, Any]], **settings: Any) -> list[dict[str, Any]]:
    response = api.post("/v1/judgements", {"max_new_tokens": 40, **settings, "samples": samples})
    assert response.status_code == 200, response.text
    data: list[dict[str, Any]] = response.json()["data"]
    return data


def same(result: dict[str, Any], verdict: Any) -> None:
    """A result of the API says what the judge itself says."""
    assert result["scores"] == (None if verdict.scores is None else list(verdict.scores))
    assert result["outcome"] == (None if verdict.outcome is None else verdict.outcome.value)
    assert result["consistent"] == verdict.consistent
    for said, reading in zip(result["judgements"], verdict.readings, strict=True):
        assert (said["text"], said["parse"]) == (reading.text, reading.state.value)


def test_letters_over_the_api_are_those_of_the_judge_itself(
    letters: tuple[Address, Address, Address], model_folder: Path, says: Callable[[_Says], None]
) -> None:
    says(by_letter)
    data = judged(letters[2], asked(SAMPLES))
    verdicts = load(model_folder).judge(SAMPLES, orders="both", max_new_tokens=40, **settings_of(LETTER))
    for result, verdict in zip(data, verdicts, strict=True):
        same(result, verdict)
        assert [said["verdict_format"] for said in result["judgements"]] == ["letter", "letter"]
        assert "reasoning" not in result["judgements"][0]
    assert [result["scores"] for result in data] == [[1, 0], [0, 1], [0.5, 0.5], None]
    assert [result["outcome"] for result in data] == ["win", "lose", "tie", None]
    assert [said["scores"] for said in data[0]["judgements"]] == [[1, 0], [0, 1]]
    assert data[0]["judgements"][0]["reasons"] == "One of them is GOOD.\n[[A]]"


def test_a_letter_in_a_clients_schema_is_the_judges_own_and_one_that_cannot_be_read_a_refusal(
    letters: tuple[Address, Address, Address], model_folder: Path, says: Callable[[_Says], None]
) -> None:
    says(by_letter)
    schema = {"type": "object", "properties": {"winner": {"enum": ["A", "B", "tie"]}}}
    form = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": schema}}
    found = []
    for sample in SAMPLES:
        given = json.dumps({"question": sample.question, "answers": sample.answers})
        body = {"model": model_folder.name, "messages": [{"role": "user", "content": given}], "response_format": form}
        answer = letters[2].post("/v1/chat/completions", body)
        assert answer.status_code == 200, answer.text
        found.append(answer.json()["choices"][0]["message"])
    assert [said["content"] and json.loads(said["content"])["winner"] for said in found] == ["A", "B", "tie", None]
    assert [said["refusal"] is not None for said in found] == [False, False, False, True]


def test_letters_by_criteria_are_shares_of_aspects_won(
    letters: tuple[Address, Address, Address], model_folder: Path, says: Callable[[_Says], None]
) -> None:
    says(lambda prompt: "[[A]]" if "By Truth" in prompt else "[[B]]")
    (result,) = judged(letters[2], asked(SAMPLES[:1]), criteria=EXAM.to_record(), orders="forward")
    (verdict,) = load(model_folder).judge(SAMPLES[:1], criteria=EXAM, max_new_tokens=40, **settings_of(LETTER))
    same(result, verdict)
    assert result["scores"] == [0.75, 0.25]
    (said,) = result["judgements"]
    assert said["scale"] == [0, 1]
    assert [aspect["scores"] for aspect in said["aspects"]] == [[1, 0], [0, 1]]


def test_a_template_that_names_it_shows_the_dialogue(
    letters: tuple[Address, Address, Address], says: Callable[[_Says], None]
) -> None:
    prompt = "Big?\nuser: Oslo?\nassistant: In Norway.\nA: Yes.\nB: No.\nA or B?"
    says(lambda read: "[[B]]" if read == prompt else "hm")
    sample = {"messages": TALK[:3], "answers": ["Yes.", "No."]}
    (result,) = judged(letters[2], [sample], orders="forward")
    assert result["scores"] == [0, 1]


def test_thoughts_are_beside_the_verdict_and_never_in_it(
    thinkers: tuple[Address, Address, Address], chat_folder: Path, says: Callable[[_Says], None]
) -> None:
    says(by_letter)
    form = PromptForm(template=BY_CRITERION, reasoning=True, verdict_format="letter", max_reasoning_tokens=60)
    verdicts = load(chat_folder).judge(SAMPLES, orders="both", max_new_tokens=40, **settings_of(form))
    for result, verdict in zip(judged(thinkers[2], asked(SAMPLES)), verdicts, strict=True):
        same(result, verdict)
        for said in result["judgements"]:
            assert (said["reasoning"], said["verdict_format"]) == (THOUGHTS, "letter")
            assert "think" not in said["text"]
            assert said["usage"]["completion_tokens"] > len(THOUGHTS) // 4
    body = {"samples": asked(SAMPLES[:2]), "stream": True, "max_new_tokens": 40}
    events = [json.loads(line) for line in thinkers[2].post("/v1/judgements", body).text.splitlines()]
    texts = [event["text"] for event in events if event["event"] == "text"]
    assert texts
    assert all("One of them is GOOD.\n[[".startswith(text[:23]) for text in texts), texts
    found = [event["result"] for event in events if event["event"] == "result"]
    assert {said["reasoning"] for result in found for said in result["judgements"]} == {THOUGHTS}
    assert events[-1]["event"] == "done"


def test_a_random_model_thinks_as_long_and_writes_the_same_as_the_judge_itself(
    thinkers: tuple[Address, Address, Address], chat_folder: Path
) -> None:
    form = PromptForm(template=BY_CRITERION, reasoning=True, verdict_format="letter", max_reasoning_tokens=60)
    judge = load(chat_folder)
    settings: dict[str, Any] = {"max_new_tokens": 12, "temperature": 0, "criteria": EXAM}
    verdicts = judge.judge(SAMPLES[:2], orders="both", **settings, **settings_of(form))
    data = judged(thinkers[2], asked(SAMPLES[:2]), **settings | {"criteria": EXAM.to_record()})
    for result, verdict in zip(data, verdicts, strict=True):
        same(result, verdict)
        assert result["judgements"][0]["reasoning"].startswith("[Truth]\n")
        assert all(part["reasoning"] for part in result["judgements"][0]["aspects"])


def test_a_judge_that_thinks_writes_its_line_of_scores_as_by_itself(chat_folder: Path) -> None:
    form = PromptForm(reasoning=True, max_reasoning_tokens=9)
    settings: dict[str, Any] = {"scores_only": True, "temperature": 0.7, "seed": 3}
    with local_stack(chat_folder, form=form) as (_, _, api):
        data = judged(api, asked(SAMPLES[:3]), constrained=True, **settings)
        refused = api.post("/v1/judgements", {"samples": asked(SAMPLES[:1]), "scoring": "expected"})
    verdicts = Judge(load(chat_folder).engine, constrained=True, prompt_format="chat").judge(
        SAMPLES[:3], orders="both", max_new_tokens=40, **settings, **settings_of(form)
    )
    for result, verdict in zip(data, verdicts, strict=True):
        same(result, verdict)
        assert result["scores"] is not None
        for said in result["judgements"]:
            assert (said["parse"], "verdict_format" in said) == ("ok", False)
            assert said["reasoning"]
    assert refused.status_code == 400
    assert refused.json()["error"]["message"] == "reasoning writes thoughts: --scoring expected writes nothing"


@pytest.mark.parametrize(
    ("name", "task", "answers", "criteria", "text", "scores"),
    [
        ("result", "grade", [GOOD], EXAM, "It is right.\n[RESULT] 4", [4]),
        ("result", "grade", [GOOD], EXAM, "It is right.\n[RESULT] 6", None),
        ("json", "multi", [GOOD, BAD, "-"], None, '{"reason": "..", "scores": [9, 3, 6]}', [9, 3, 6]),
    ],
)
def test_grades_and_objects_are_read_on_their_scale(
    name: str,
    task: str,
    answers: list[str],
    criteria: Criteria | None,
    text: str,
    scores: list[float] | None,
    model_folder: Path,
    says: Callable[[_Says], None],
) -> None:
    says(lambda prompt: text)
    template = read_prompt_template(ROOT / "examples" / "templates" / f"{name}.j2")
    form = PromptForm(template=template, verdict_format="grade" if name == "result" else "json")
    sample = Sample(1, "Which?", answers)
    with local_stack(model_folder, form=form) as (_, _, api):
        given: dict[str, Any] = {"criteria": criteria.to_record()} if criteria else {}
        (result,) = judged(api, asked([sample]), task=task, **given)
    judge = load(model_folder)
    (verdict,) = judge.judge([sample], task=task, criteria=criteria, max_new_tokens=40, **settings_of(form))
    same(result, verdict)
    assert result["scores"] == scores
    assert result["judgements"][0]["verdict_format"] == form.verdict_format


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "single"}, "verdict_format letter is for task pair, found task single"),
        ({"task": "multi"}, "verdict_format letter is for task pair, found task multi"),
        ({"scores_only": True}, "scores_only is about a line of scores: not with the verdict format letter"),
        ({"constrained": True}, "constrained is about a line of scores: not with the verdict format letter"),
        ({"scoring": "expected"}, "scoring expected reads lines of scores: not with the verdict format letter"),
        (
            {"samples": [{"question_id": 7, "conversations": [TALK, [QUESTION, *TALK[1:]]]}]},
            "by_criterion.j2: the dialogue of question_id 7 is not shown: the template does not name conversations",
        ),
    ],
)
def test_what_the_judge_cannot_be_asked_is_told_in_one_line(
    change: dict[str, Any], message: str, letters: tuple[Address, Address, Address]
) -> None:
    body = {"samples": asked(SAMPLES[:1]), **change}
    for stream in (False, True):
        response = letters[2].post("/v1/judgements", {**body, "stream": stream})
        assert (response.status_code, response.json()["error"]["message"]) == (400, message)
    with pytest.raises(APIError) as refused:
        Client(letters[2].url).judge_all(**body)
    assert (refused.value.status, str(refused.value)) == (400, message)


def test_a_template_without_a_criterion_or_with_a_reference_needs_what_it_shows(model_folder: Path) -> None:
    template = PromptTemplate("{{ question }} {{ reference }} {{ answer }} [RESULT]", "r.j2")
    form = PromptForm(template=template, verdict_format="grade")
    assert tasks_of(form) == ("grade",)
    with local_stack(model_folder, form=form) as (_, _, api):
        sample = {"question_id": 5, "question": "2 + 2?", "answers": ["4"]}
        for change, said in (
            ({}, "r.j2: the template refuses these texts: there is no reference or criterion where it is shown"),
            ({"criteria": EXAM.to_record()}, "r.j2: aspects are asked for one by one, but the template does not name"),
            ({"task": "pair", "samples": asked(SAMPLES[:1])}, "verdict_format grade is for task grade"),
        ):
            response = api.post("/v1/judgements", {"samples": [sample], "task": "grade", **change})
            assert response.status_code == 400
            assert response.json()["error"]["message"].startswith(said)
        known = {**sample, "reference": "4"}
        (result,) = judged(api, [known], task="grade", temperature=0)
        judge = load(model_folder)
        (verdict,) = judge.judge(
            [Sample(5, "2 + 2?", ("4",), "4")], task="grade", max_new_tokens=40, temperature=0, **settings_of(form)
        )
        same(result, verdict)


def test_a_sample_that_does_not_fit_has_the_form_too(letters: tuple[Address, Address, Address]) -> None:
    long = Sample(9, "Why? " * 3000, (GOOD, BAD))

    async def collect() -> list[Any]:
        workers = Workers(letters[0].url)
        given = {"model": "random-llama", "samples": asked([long]), "orders": "forward"}
        try:
            return [event async for event in judge_through(workers, JudgementRequest.model_validate(given))]
        finally:
            await workers.close()

    (result,) = asyncio.run(collect())
    assert isinstance(result, Result)
    assert result.error is not None
    assert [one.to_record()["pred_verdict_format"] for one in result.judged] == ["letter"]


def test_a_worker_says_how_its_judge_is_asked(
    letters: tuple[Address, Address, Address], thinkers: tuple[Address, Address, Address], model_folder: Path
) -> None:
    told = {
        "tasks": ["pair"],
        "verdict_format": "letter",
        "reasoning": False,
        "prompt_template": BY_CRITERION.sha256,
    }
    details = letters[1].post("/model_details", {}).json()
    assert {name: details[name] for name in told} == told
    assert letters[2].get(f"/v1/models/{model_folder.name}").json()["judge"] == told
    assert thinkers[2].get("/v1/models/thinker").json()["judge"] == told | {"reasoning": True}
    with local_stack(model_folder) as (_, worker, api):
        plain = worker.post("/model_details", {}).json()
        assert plain["tasks"] == ["pair", "single", "multi", "mmvet", "grade"]
        assert (plain["verdict_format"], plain["reasoning"], plain["prompt_template"]) == ("scores", False, None)
        assert "judge" not in api.get(f"/v1/models/{model_folder.name}").json()
        (result,) = judged(api, asked(SAMPLES[:1]))
        assert not {"verdict_format", "reasoning"} & set(result["judgements"][0])


def test_openais_routes_go_to_the_model_as_before(letters: tuple[Address, Address, Address]) -> None:
    body = {"model": "random-llama", "prompt": "2 + 2?", "max_tokens": 4, "temperature": 0}
    (choice,) = letters[2].post("/v1/completions", body).json()["choices"]
    assert set(choice) >= {"text", "finish_reason"}
    assert not {"verdict_format", "reasoning"} & set(choice)


@pytest.mark.parametrize(
    ("template", "flags", "said"),
    [
        ("{{ answer_a }} {{ answer_c }}", ["--verdict-format", "letter"], "w.j2:1: unknown name 'answer_c'"),
        ("{{ answer_a }}", ["--verdict-format", "letter"], "w.j2: answer 2 of 2 is not shown"),
        ("{{ answer_a }} {{ answer_b }}", ["--verdict-format", "grade"], "w.j2:1: unknown name 'answer_a': task grade"),
        ("{% macro a() %}{% endmacro %}", [], "w.j2:1: Macro is not for prompts"),
        (None, ["--verdict-format", "letter"], "--verdict-format letter: expected --prompt-file FILE too"),
        (None, ["--reasoning", "--prompt-format", "plain"], "--reasoning is for models asked in their chat template"),
    ],
)
def test_a_form_that_cannot_be_is_told_before_a_model_is_loaded(
    template: str | None,
    flags: list[str],
    said: str,
    chat_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Judge, "load", lambda *_, **__: pytest.fail("a model was loaded"))
    if template is not None:
        (tmp_path / "w.j2").write_text(template)
        flags = ["--prompt-file", str(tmp_path / "w.j2"), *flags]
    questions = write_jsonl(tmp_path / "q.jsonl", [sample.to_record() for sample in SAMPLES])
    starts: list[Callable[[], Any]] = [
        lambda: model_worker.main(["--model-path", str(chat_folder), "--port", "0", *flags]),
        lambda: cli.main(["--model-path", str(chat_folder), "--question-file", str(questions), *flags]),
    ]
    # what is a model's is its worker's to say
    if "--reasoning" not in flags:
        starts.append(lambda: command(["serve", "--log-dir", str(tmp_path / "logs"), *flags]))
    for start in starts if "grade" not in flags else starts[::2]:
        with pytest.raises(SystemExit) as ended:
            start()
        printed = capsys.readouterr().err.strip().splitlines()[-1]
        assert (ended.value.code, said in printed) == (2, True), printed
    assert not (tmp_path / "logs").exists()


def test_the_flags_of_judgelm_serve_come_to_each_worker_and_the_templates_folder_to_no_client(
    chat_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.j2").write_text(BY_CRITERION.text)
    started: list[tuple[str, ...]] = []
    processes: Any = SimpleNamespace(start=lambda name, module, *words, stage, env: started.append(words))
    settings = ServeSettings(
        models=(str(chat_folder),),
        num_workers=2,
        device="cpu",
        prompt_file=str(tmp_path / "mine.j2"),
        verdict_format="letter",
        reasoning=True,
        max_reasoning_tokens=7,
    )
    launch._start_workers(processes, settings, "http://127.0.0.1:9")
    assert len(started) == 2
    for words in started:
        args = model_worker.build_parser().parse_args(words)
        form = model_worker._find_form(args, find_model(args.model_path))
        template = PromptTemplate(BY_CRITERION.text, "mine.j2")
        assert form == PromptForm(True, template, True, "letter", 7)


def typing(lines: list[str]) -> Callable[[str], str]:
    """What a user types, up to the end of the input."""
    left = iter(lines)

    def read(_: str = "") -> str:
        for line in left:
            return line
        raise EOFError

    return read


def test_the_terminal_chat_reads_a_letter_and_shows_thoughts(
    chat_folder: Path,
    tmp_path: Path,
    says: Callable[[_Says], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    says(by_letter)
    (tmp_path / "w.j2").write_text(BY_CRITERION.text)
    questions = write_jsonl(tmp_path / "q.jsonl", [sample.to_record() for sample in SAMPLES])
    flags = ["--model-path", str(chat_folder), "--device", "cpu", "--dtype", "float32", "--question-file"]
    flags += [str(questions), "--prompt-file", str(tmp_path / "w.j2"), "--verdict-format", "letter", "--both"]
    monkeypatch.setattr("builtins.input", lambda _="": "/quit")
    with pytest.raises(SystemExit) as ended:
        cli.main([*flags, "--reasoning", "--max-reasoning-token", "60"])
    printed = capsys.readouterr()
    assert ended.value.code in (0, None), printed.err
    assert "Scores: 1 0; both orders agree" in printed.out
    assert f"[[A]]\n(it thought before: {THOUGHTS})" in printed.out
    assert f"[[B]]\n(it thought before: {THOUGHTS})" in printed.out
    assert "think>" not in printed.out
    # a form's sample that the template cannot show is asked for again
    (tmp_path / "w.j2").write_text(BY_CRITERION.text + "{{ reference }}")
    monkeypatch.setattr("builtins.input", typing(["Which?", "", "", "a", "", "b", ""]))
    with pytest.raises(SystemExit) as ended:
        cli.main([*flags[:6], *flags[8:-1], "--prompt-format", "plain"])
    assert "there is no reference or criterion where it is shown" in capsys.readouterr().out
    assert ended.value.code in (0, None)


def values(**changed: Any) -> list[Any]:
    """Of the page's settings."""
    given: dict[str, Any] = {"model": "thinker", "detail": "Scores and reasons", "both": True, "temperature": 0}
    given |= {"top_p": 1, "length": 40, "criteria": "", "rotate": False}
    return list((given | changed).values())


@contextlib.contextmanager
def opened(controller: Address, folder: Path) -> Iterator[tuple[Page, asyncio.Runner]]:
    """The page's own functions, over the workers of a controller."""
    with asyncio.Runner() as runner:
        workers = Workers(controller.url)
        page = Page(workers, folder / "logs", folder)
        runner.run(page._find_models())
        yield page, runner
        runner.run(workers.close())


async def all_of(steps: AsyncGenerator[list[Any], None]) -> list[list[Any]]:
    return [step async for step in steps]


def test_the_page_says_how_its_judge_is_asked_and_folds_thoughts(
    thinkers: tuple[Address, Address, Address], tmp_path: Path, says: Callable[[_Says], None]
) -> None:
    says(by_letter)
    with opened(thinkers[0], tmp_path) as (page, runner):
        selector = runner.run(page.chosen("thinker"))
        info = "asked in words of its own, tasks pair; its verdict is a letter; it thinks first"
        assert selector["info"] == info
        assert runner.run(page.refreshed("thinker"))["info"] == info
        assert runner.run(page.chosen("other"))["info"] == ""
        judging = judge(page, TABS[0], fresh=False)
        first, *_, last = runner.run(all_of(judging(*values(), None, "Which?", GOOD, BAD)))
        picture, forward, back, shown, *_, folded, thoughts = last
        assert "Answer 1 is better, in both orders." in picture
        assert "This judge says which answer is better with a letter" in picture
        assert picture.count("width:100.0%") == picture.count("width:0.0%") == 2
        assert (forward, back) == ("One of them is GOOD.\n[[A]]", "One of them is GOOD.\n[[B]]")
        assert first[-2]["visible"] is False
        assert (folded["visible"], folded["open"]) == (True, False)
        assert thoughts == f"[answers in the order given]\n{THOUGHTS}\n\n[answers 1 and 2 exchanged]\n{THOUGHTS}"
        *_, unread = runner.run(all_of(judging(*values(both=False), None, "Which?", BAD, "Neither.")))
        assert "No verdict could be read from what the judge wrote. Its text is below." in unread[0]
        (refused,) = runner.run(all_of(judging(*values(detail="Scores only"), None, "Which?", GOOD, BAD)))[1:]
        assert "scores_only is about a line of scores: not with the verdict format letter" in refused[0]
        says(lambda prompt: "Because it is GOOD.")
        *_, (_, talk, _) = runner.run(all_of(follow(page)(shown, "Why?", *values())))
        assert "Because it is GOOD." in talk


def test_an_ordinary_judge_looks_as_before(chat_folder: Path, model_folder: Path, tmp_path: Path) -> None:
    with local_stack(model_folder) as (controller, _, _), opened(controller, tmp_path) as (page, runner):
        assert runner.run(page.refreshed("random-llama"))["info"] == ""
        judging = judge(page, TABS[0], fresh=False)
        *_, last = runner.run(all_of(judging(*values(model="random-llama"), None, "Which?", GOOD, BAD)))
        assert last[-2]["visible"] is False
        assert last[-1] == ""
        assert "This judge" not in last[0]


def test_a_file_of_the_batch_tab_is_what_judgelm_judge_writes(
    thinkers: tuple[Address, Address, Address], chat_folder: Path, tmp_path: Path, says: Callable[[_Says], None]
) -> None:
    says(by_letter)
    (tmp_path / "w.j2").write_text(BY_CRITERION.text)
    questions = write_jsonl(tmp_path / "q.jsonl", [sample.to_record() for sample in SAMPLES])
    flags = ["--prompt-file", str(tmp_path / "w.j2"), "--verdict-format", "letter", "--reasoning"]
    flags += ["--max-reasoning-token", "60", "--max-new-token", "40", "--dtype", "float32", "--orders", "both"]
    assert run_command(judge_args(chat_folder, questions, tmp_path / "out", *flags)) == 0
    with opened(thinkers[0], tmp_path / "page") as (page, runner):
        (tmp_path / "page").mkdir()
        visit: Any = SimpleNamespace(session_hash="a")
        *_, last = runner.run(all_of(Batch(page).judge(visit, str(questions), None, "pair", None, *values())))
        said, table, _, paths = last
        assert said == "4 judged, 1 without scores."
        assert [row[2:6] for row in table] == [
            ["win", "1 0", "yes", ""],
            ["lose", "0 1", "yes", ""],
            ["tie", "0.5 0.5", "yes", ""],
            ["", "", "", "no verdict could be read"],
        ]
        for path in paths:
            records = lasting(Path(path))
            assert records == lasting(tmp_path / "out" / Path(path).name)
            assert {record["pred_reasoning"] for record in records} == {THOUGHTS}
            assert {record["pred_verdict_format"] for record in records} == {"letter"}


def test_a_worker_that_does_not_answer_keeps_nobody_from_the_page(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("judgelm.serve.worker_client._DETAILS_S", 0.1)

    class Hung(Scripted):
        async def _details_of(self, address: str, model: str) -> Details:
            await asyncio.sleep(3600)
            raise AssertionError

    async def chosen() -> Any:
        page = Page(Hung(OURS), tmp_path, tmp_path, models=["m"])
        try:
            return await page.chosen("m")
        finally:
            await page.workers.close()

    assert asyncio.run(chosen())["info"] == ""


def test_criteria_of_clients_are_not_kept_forever() -> None:
    for number in range(300):
        aspect = Aspect(f"Aspect {number}", "Some text.")
        JudgeSettings.of_form(LETTER, "pair", criteria=Criteria("c", (aspect,)))
        render_prompt(SAMPLES[0], "pair", aspect)
    assert PromptTemplate.check.cache_info().currsize < 50
    assert _instruction.cache_info().currsize < 300
