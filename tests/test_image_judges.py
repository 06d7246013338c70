"""Images on their way: to a chat server's judge, into folders and back, and refused by all who cannot show them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import write_jsonl
from judging import lasting, run_command
from played import QUICK, Played, Reply, failed, wrote
from serving import local_stack
from test_images import CAT, DOG, GOLDEN, OWL, PNG, ROW, image, text

from judgelm import Judge, Sample
from judgelm.audit import AuditSettings, run_audit
from judgelm.engine.openai import Server
from judgelm.engine.openai.engine import OpenAIEngine
from judgelm.errors import InputError
from judgelm.evaluation.results import read_folder
from judgelm.images import NEEDS_CHAT
from judgelm.jsonl import LineFile
from judgelm.judge import JudgeChoice, JudgeSettings, judge_folder, prepare
from judgelm.ranking import rank
from judgelm.report import write_report
from judgelm.samples import read_samples
from judgelm.train.rows import count_rows

pytestmark = pytest.mark.usefixtures("without_a_key", "quick")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands wait for a server as little as `QUICK` does."""
    monkeypatch.setattr(OpenAIEngine.__init__, "__defaults__", (QUICK,))


def rows(count: int) -> list[dict[str, Any]]:
    """Each asks the same words of a picture of its own, and every second answer has one."""
    return [
        {
            "question_id": k,
            "question_body": [text(f"Question {k}:\nwhat is this?"), image(f"{CAT}?{k}")],
            "answer1_body": "A cat.",
            "answer2_body": [text("This:"), image(PNG)] if k % 2 else "A dog.",
            "answer1_model_id": "x",
            "answer2_model_id": "y",
            "label": 1,
        }
        for k in range(count)
    ]


def arguments(url: str, questions: Path, output: Path, *more: str) -> list[str]:
    fixed = ["--engine", "openai", "--api", "chat", "--model", "some/vision-judge", "--base-url", url]
    return [
        "judge",
        *fixed,
        "--question-file",
        str(questions),
        "--output-dir",
        str(output),
        "--temperature",
        "0",
        *more,
    ]


def likes_cats(server: list[Played]) -> Callable[[int, int], Reply]:
    """Prefers the answer about a cat, wherever it stands."""

    def play(_number: int, _before: int) -> Reply:
        content = server[0].bodies[-1]["messages"][0]["content"]
        said = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
        first, second = said.find("A cat."), max(said.find("A dog."), said.find("This:"))
        return wrote("8 6\nA cat it is." if first < second else "6 8\nA cat it is.")

    return play


@pytest.fixture
def server() -> Iterator[Played]:
    held: list[Played] = []
    with Played(likes_cats(held)) as started:
        held.append(started)
        yield started


def golden(url_of: dict[int, dict[str, Any]], prompt: str) -> list[dict[str, Any]]:
    """The parts of a prompt, cut by hand behind each label that has an image."""
    parts = []
    for number, given in url_of.items():
        label = f"\n[image {number}]\n"
        begin = prompt.rindex(label) + len(label) - 1
        parts += [text(prompt[:begin]), given]
        prompt = prompt[begin:]
    return [*parts, text(prompt)]


def test_a_request_holds_each_image_behind_its_label_in_both_orders(tmp_path: Path) -> None:
    with Played(lambda *_: wrote()) as server:
        questions = write_jsonl(tmp_path / "q.jsonl", [ROW])
        assert run_command(arguments(server.url, questions, tmp_path / "out", "--max-concurrency", "1")) == 0
    forward, back = server.bodies
    assert forward == {
        "model": "some/vision-judge",
        "messages": [
            {
                "role": "user",
                "content": [
                    {
                        "type": "text",
                        "text": "You are a helpful and precise assistant for checking the quality of the answer.\n"
                        "[Question]\nQuestion 1: Which is drawn better?\n[image 1]",
                    },
                    {"type": "image_url", "image_url": {"url": CAT, "detail": "low"}},
                    {"type": "text", "text": "\n\n[The Start of Assistant 1's Answer]\nMine:\n[image 2]"},
                    {"type": "image_url", "image_url": {"url": PNG}},
                    {
                        "type": "text",
                        "text": "\n\n[The End of Assistant 1's Answer]\n\n[The Start of Assistant 2's Answer]\n"
                        "Look at [image 1].\n[image 3]",
                    },
                    {"type": "image_url", "image_url": {"url": DOG}},
                    {"type": "text", "text": GOLDEN[GOLDEN.index("\nIs it not good?") :]},
                ],
            }
        ],
        "max_tokens": 2048,
        "temperature": 0.0,
        "seed": forward["seed"],
    }
    content = back["messages"][0]["content"]
    assert [part["image_url"]["url"] for part in content if part["type"] == "image_url"] == [CAT, DOG, PNG]
    # what the words [image 1] say is no place of an image
    assert content[2]["text"].endswith("[The Start of Assistant 1's Answer]\nLook at [image 1].\n[image 2]")
    assert content[4]["text"].endswith("[The Start of Assistant 2's Answer]\nMine:\n[image 3]")
    first, second = (lasting(tmp_path / "out" / f"{order}.jsonl")[0] for order in ("forward", "reversed"))
    assert {name: first[name] for name in ROW} == ROW
    assert (second["answer1_body"], second["answer2_body"]) == (ROW["answer2_body"], ROW["answer1_body"])
    assert first["pred_suspicious_markers"] == 1


def test_rows_without_images_are_asked_and_kept_as_ever(tmp_path: Path) -> None:
    plain = {"question_id": 1, "question_body": "Question 1: Q", "answer1_body": "a \ufdd0", "answer2_body": "b"}
    with Played(lambda *_: wrote()) as server:
        for name, given in (("alone", [plain]), ("beside", [plain, {**ROW, "question_id": 2}])):
            questions = write_jsonl(tmp_path / f"{name}.jsonl", given)
            more = ("--max-concurrency", "1", "--orders", "forward")
            assert run_command(arguments(server.url, questions, tmp_path / name, *more)) == 0
    bodies = [body for body in server.bodies if isinstance(body["messages"][0]["content"], str)]
    assert len(bodies) == 2
    assert bodies[0] == bodies[1]
    assert lasting(tmp_path / "alone" / "forward.jsonl") == lasting(tmp_path / "beside" / "forward.jsonl")[:1]


def test_a_folder_with_images_goes_on_and_is_measured_ranked_and_reported(
    tmp_path: Path, server: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    questions, out = write_jsonl(tmp_path / "q.jsonl", rows(6)), tmp_path / "out"
    play = server.play
    server.play = lambda number, before: failed(401, "no") if len(server.bodies) > 5 else play(number, before)
    command = arguments(server.url, questions, out, "--max-concurrency", "1")
    assert run_command(command) == 2
    kept = [(out / f"{order}.jsonl.partial").read_text().splitlines() for order in ("forward", "reversed")]
    assert sum(map(len, kept)) == 5
    server.play = play
    assert run_command(command) == 0
    assert len(server.bodies) == 13
    assert "5 of 12 judgements are there already" in capsys.readouterr().err
    undisturbed = tmp_path / "undisturbed"
    assert run_command(arguments(server.url, questions, undisturbed, "--max-concurrency", "1")) == 0
    for order in ("forward", "reversed"):
        assert lasting(out / f"{order}.jsonl") == lasting(undisturbed / f"{order}.jsonl")
    assert f"Question 0: what is this? [image 1: {CAT}?0]"[:30] in capsys.readouterr().out
    read = read_folder(out)
    assert [sample.question for sample in read] == [
        f"Question {k}:\nwhat is this?\n[image 1: {CAT}?{k}]" for k in range(6)
    ]
    assert read[1].answers[1].startswith("This:\n[image 2: image/png, ")
    assert [sample.consistent for sample in read] == [True] * 6
    assert run_command(["evaluate", str(out)]) == 0
    assert "agreement" in capsys.readouterr().out
    assert [each.name for each in rank([out]).models] == ["x", "y"]
    write_report(out)
    page = (out / "report.html").read_text()
    assert f"[image 1: {CAT}?3]" in page
    assert "image_url" not in page


def test_judgements_of_images_that_are_the_same_are_kept(tmp_path: Path, server: Played) -> None:
    questions, out = write_jsonl(tmp_path / "q.jsonl", rows(4)), tmp_path / "out"
    assert run_command(arguments(server.url, questions, out)) == 0
    changed = rows(4)
    changed[2]["question_body"][1] = image(f"{CAT}?other")
    changed[3]["answer2_body"][1] = image(PNG, detail="low")
    write_jsonl(questions, changed)
    server.bodies.clear()
    assert run_command(arguments(server.url, questions, out)) == 2
    assert run_command(arguments(server.url, questions, out, "--keep-judged")) == 0
    assert len(server.bodies) == 4
    session = json.loads((out / "run.json").read_text())["sessions"][-1]
    assert (session["kept"], session["left_out"], session["judged"]) == (4, 4, 4)
    assert [record["question_body"] for record in lasting(out / "forward.jsonl")] == [
        row["question_body"] for row in changed
    ]


def test_a_folder_goes_on_where_images_come_later(tmp_path: Path, server: Played) -> None:
    plain = [{**row, "question_body": f"Question {k}:\nwhy?", "answer2_body": "B"} for k, row in enumerate(rows(4))]
    questions, out = write_jsonl(tmp_path / "q.jsonl", [*plain[:2], *rows(4)[2:]]), tmp_path / "out"
    # of the first two none has an image
    assert run_command(arguments(server.url, questions, out, "--limit", "2")) == 0
    assert run_command(arguments(server.url, questions, out)) == 0
    assert len(server.bodies) == 8
    # and a row with images joins rows that have none
    grown, out = write_jsonl(tmp_path / "grown.jsonl", plain), tmp_path / "grown"
    assert run_command(arguments(server.url, grown, out)) == 0
    write_jsonl(grown, [*plain, {**rows(5)[4]}])
    server.bodies.clear()
    assert run_command(arguments(server.url, grown, out, "--keep-judged")) == 0
    assert len(server.bodies) == 2
    assert len(lasting(out / "reversed.jsonl")) == 5


def test_a_cache_knows_images(tmp_path: Path, server: Played) -> None:
    cache = ("--cache", str(tmp_path / "cache"))
    questions = write_jsonl(tmp_path / "q.jsonl", rows(3))
    assert run_command(arguments(server.url, questions, tmp_path / "a", *cache)) == 0
    assert len(server.bodies) == 6
    # exchanged in the file, it is the same prompt in the other order
    swapped = [Sample.from_record(row).swapped().to_record() for row in rows(3)]
    again = write_jsonl(tmp_path / "again.jsonl", swapped)
    assert run_command(arguments(server.url, again, tmp_path / "b", *cache)) == 0
    assert len(server.bodies) == 6
    others = rows(3)
    others[0]["question_body"][1] = image(DOG)
    others[1]["answer2_body"][1] = image(PNG, detail="high")
    others[2]["question_body"] = "Question 2:\nwhat is this?\n[image 1]"
    other = write_jsonl(tmp_path / "other.jsonl", others)
    assert run_command(arguments(server.url, other, tmp_path / "c", *cache, "--orders", "forward")) == 0
    assert len(server.bodies) == 9


CRITERIA = "name: two\naspects:\n  - {name: Truth, text: It is true.}\n  - {name: Beauty, text: It is beautiful.}\n"


@pytest.mark.parametrize(
    ("task", "more", "shown", "text_of"),
    [
        ("pair", ["--criteria", "two.yaml", "--orders", "forward"], [[CAT, PNG, DOG]] * 2, "[Criterion]"),
        ("multi", ["--orders", "all"], [[CAT, PNG, DOG, OWL], [CAT, DOG, OWL, PNG], [CAT, OWL, PNG, DOG]], "three AI"),
        ("grade", [], [[CAT, PNG]], "one value"),
        ("single", [], [[CAT, PNG, DOG]], "### Response:10"),
        ("pair", ["--prompt-file", "own.j2", "--orders", "reversed"], [[DOG, PNG, CAT]], "Last: Question 1"),
        ("pair", ["--reasoning", "--orders", "forward"], [[CAT, PNG, DOG]], "[Question]"),
        ("pair", ["--scores-only", "--orders", "forward"], [[CAT, PNG, DOG]], "[Question]"),
    ],
)
def test_tasks_criteria_templates_and_thoughts_go_with_images(
    task: str, more: list[str], shown: list[list[str]], text_of: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("two.yaml").write_text(CRITERIA)
    Path("own.j2").write_text("{{ answer_a }}\n{{ answer_b }}\nLast: {{ question }}")
    row = {**ROW, "answer3_body": [image(OWL)]} if task == "multi" else ROW
    questions = write_jsonl(tmp_path / "q.jsonl", [row])
    scores = {"multi": "8 7 6", "grade": "8", "single": "10 7"}.get(task, "8 7")
    said = f"<think>Look.</think>\n{scores}\nwhy"
    with Played(lambda *_: wrote(said)) as server:
        command = arguments(server.url, questions, tmp_path / "out", "--task", task, "--max-concurrency", "1", *more)
        assert run_command(command) == 0
    contents = [body["messages"][0]["content"] for body in server.bodies]
    assert [[part["image_url"]["url"] for part in each if part["type"] == "image_url"] for each in contents] == shown
    assert all(text_of in "".join(part.get("text", "") for part in each) for each in contents)
    records = [record for path in sorted((tmp_path / "out").glob("*.jsonl")) for record in lasting(path)]
    assert {record["pred_parse"] for record in records} <= {"ok", "repaired"}


def test_dialogues_with_images_are_judged_and_audited(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    talk = [
        {"role": "user", "content": [text("Question 1: what?"), image(CAT)]},
        {"role": "assistant", "content": "A cat."},
        {"role": "user", "content": [image(DOG), text("And this?")]},
    ]
    row = {"messages": talk, "answer1_body": [text("As here:"), image(OWL)], "answer2_body": "A dog."}
    given = [{"question_id": k, **row, "label": 1} for k in range(3)]
    samples = read_samples(write_jsonl(tmp_path / "q.jsonl", given))
    with Played(lambda *_: wrote()) as server:
        judge = Server(server.url, "m", "chat")
        judge_folder(samples, tmp_path / "out", judge)
        found = run_audit(
            samples, tmp_path / "audit", judge, AuditSettings(only=("position", "padded"), scoring="greedy")
        )
    read = read_folder(tmp_path / "out")
    assert read[0].question == (
        f"User: Question 1: what?\n[image 1: {CAT}]\n\nAssistant: A cat.\n\nUser: [image 2: {DOG}]\nAnd this?"
    )
    assert read[0].answers == (f"As here:\n[image 3: {OWL}]", "A dog.")
    assert [check.name for check in found.checks] == ["position", "padded"]
    padded = [
        record
        for record in lasting(tmp_path / "audit" / "both" / "forward.jsonl")
        if record["question_id"].startswith("padded:")
    ]
    assert len(padded) == 3
    for record in padded:
        fields = {name: value for name, value in record.items() if not name.startswith("pred_")}
        assert fields["messages"] == talk
        sample = Sample.from_record(fields)
        assert [each.url for each in sample.images][:2] == [CAT, DOG]
        assert sample.to_record() == fields


def test_an_arena_takes_answers_with_images(tmp_path: Path) -> None:
    question = {"question_id": 1, "question_body": ROW["question_body"]}
    answers = [
        write_jsonl(tmp_path / f"{name}.jsonl", [{**question, "text": ROW[field], "model": name}])
        for name, field in (("x", "answer1_body"), ("y", "answer2_body"))
    ]
    other = {**question, "question_body": [text("Question 1: Which is drawn better?"), image(OWL, detail="low")]}
    with Played(lambda *_: wrote()) as server:
        fixed = arguments(server.url, tmp_path, tmp_path / "out", "--max-concurrency", "1")[1:]
        place = fixed.index("--question-file")
        command = ["arena", *fixed[:place], *fixed[place + 2 :], "--answers", *map(str, answers)]
        assert run_command(command) == 0
        assert run_command([*command[:-1], str(write_jsonl(tmp_path / "z.jsonl", [{**other, "text": "z"}]))]) == 2
    contents = [body["messages"][0]["content"] for body in server.bodies]
    assert [[part["image_url"]["url"] for part in each if part["type"] == "image_url"] for each in contents] == [
        [CAT, PNG, DOG],
        [CAT, DOG, PNG],
    ]


def test_a_question_of_another_picture_is_another_question(tmp_path: Path) -> None:
    asked = [
        {
            **row,
            "question_body": [text("Question 1: what?"), image(f"{CAT}?{row['question_id']}")],
            "reference": {"text": f"R{row['question_id']}"},
        }
        for row in rows(2)
    ]
    samples = read_samples(write_jsonl(tmp_path / "q.jsonl", asked))
    with Played(lambda *_: wrote()) as server:
        settings = AuditSettings(only=("reference_wrong",), scoring="greedy")
        run_audit(samples, tmp_path / "audit", Server(server.url, "m", "chat"), settings)
    judged = lasting(tmp_path / "audit" / "both" / "forward.jsonl")
    shown = {record["question_id"]: record.get("reference") for record in judged}
    assert (shown["wrong_reference:0"], shown["wrong_reference:1"]) == ("R1", "R0")


def test_a_judge_of_images_works_from_python() -> None:
    with Played(lambda *_: wrote()) as server:
        chosen = prepare(Server(server.url, "m", "chat"))
        (verdict,) = chosen.load().judge([Sample.from_record(ROW)], orders="both")  # type: ignore[attr-defined]
    assert verdict.scores == (7.5, 7.5)
    assert len(server.bodies) == 2
    sample = Sample.from_record(ROW)
    made = Sample(1, sample.question, sample.answers, images=sample.images)
    assert made.to_record() == ROW


@pytest.mark.parametrize("others", [True, False])
def test_a_server_that_takes_no_images_is_told_of_in_one_line(
    others: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = {"question_id": 0, "question_body": "Question 0: Q", "answer1_body": "a", "answer2_body": "b"}
    given = [{**plain, "question_id": -k, "question_body": f"Question {k}: Q"} for k in range(20, 23) if others]

    def play(number: int, _before: int) -> Reply:
        return wrote() if number >= 20 else failed(400, "some/vision-judge is not a multimodal model")

    questions, out = write_jsonl(tmp_path / "q.jsonl", [*given, *rows(3)]), tmp_path / "out"
    with Played(play) as server:
        command = arguments(server.url, questions, out, "--orders", "forward", "--max-concurrency", "1")
        code = run_command(command)
        said = capsys.readouterr().err.splitlines()
        if others:
            assert code == 0
            reasons = [record["pred_finish_reason"] for record in lasting(out / "forward.jsonl")]
            assert reasons == ["stop"] * 3 + ["refused"] * 3
            return
        assert code == 2
        assert said[-1].endswith(f"{server.url} takes no request: 400 some/vision-judge is not a multimodal model")
        server.play = lambda *_: wrote()
        assert run_command(command) == 0
    assert len(lasting(out / "forward.jsonl")) == 3


def refused(command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line in which a command refuses images."""
    assert run_command(command) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert NEEDS_CHAT in last
    return last


def test_other_engines_refuse_images_before_a_model_is_loaded(
    tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: Any, **__: Any) -> Judge:
        raise AssertionError("nothing is loaded")

    plain = {"question_id": 0, "question_body": "Q", "answer1_body": "a", "answer2_body": "b"}
    questions, out = write_jsonl(tmp_path / "q.jsonl", [plain, ROW]), tmp_path / "out"
    monkeypatch.setattr(Judge, "load", load)
    local = ["--model", str(model_folder), "--device", "cpu", "--question-file", str(questions)]
    line = f"{questions}: question_id 1: {NEEDS_CHAT}"
    for command in ("judge", "audit"):
        assert refused([command, *local, "--output-dir", str(out)], capsys).endswith(line)
    assert refused(["judge", *local, "--output-dir", str(out), "--engine", "vllm"], capsys).endswith(line)
    completions = arguments("http://127.0.0.1:9/v1", questions, out, "--api", "completions")
    assert refused(completions, capsys).endswith(line)
    assert not list(out.glob("*.jsonl*"))
    answer = {"question_id": 1, "question_body": ROW["question_body"], "text": "a"}
    answers = [write_jsonl(tmp_path / f"{name}.jsonl", [answer]) for name in "xy"]
    pairs = ["arena", "--model", str(model_folder), "--device", "cpu", "--answers", *map(str, answers)]
    assert refused([*pairs, "--output-dir", str(tmp_path / "arena")], capsys).endswith(f"1/1-2: {NEEDS_CHAT}")


def test_engines_refuse_images_from_python(model_folder: Path) -> None:
    sample = Sample.from_record(ROW)
    judge = Judge.load(model_folder, device="cpu")
    with pytest.raises(InputError, match=f"question_id 1: {NEEDS_CHAT}"):
        judge.judge([sample])
    completions = OpenAIEngine(Server("http://127.0.0.1:9/v1", "m"), QUICK)
    with pytest.raises(InputError, match=f"question_id 1: {NEEDS_CHAT}"):
        Judge(completions).judge([sample])
    chat = OpenAIEngine(Server("http://127.0.0.1:9/v1", "m", "chat"), QUICK)
    with pytest.raises(InputError, match=NEEDS_CHAT):
        chat.fit_followup(sample, "pair", "8 7", (), "Why?", 10)
    own = JudgeChoice("own", lambda: judge, {"engine": "own"})
    with pytest.raises(InputError, match=f"^question_id 1: {NEEDS_CHAT}"):
        judge_folder([sample], "never", own, JudgeSettings())


def test_training_the_terminal_and_the_page_refuse_images(
    tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from judgelm.serve.cli import main
    from judgelm.serve.page.batch import _count
    from judgelm.serve.page.dialogue_form import parse_dialogue

    questions = write_jsonl(tmp_path / "q.jsonl", [{**ROW, "text": "8 7\nGood."}])
    with pytest.raises(InputError, match=rf"q.jsonl:1: {NEEDS_CHAT}: no judge learns from them"):
        count_rows(str(questions))
    with pytest.raises(SystemExit) as ended:
        main(["--model-path", str(model_folder), "--question-file", str(questions)])
    assert ended.value.code == 2
    assert f"question_id 1: {NEEDS_CHAT}" in capsys.readouterr().err
    with pytest.raises(InputError, match=f"question_id 1: {NEEDS_CHAT}"):
        _count(str(questions), None, "pair")
    messages = json.dumps([{"role": "user", "content": [image(CAT)]}])
    with pytest.raises(InputError, match=f"This dialogue cannot be judged: dialogue: message 1: {NEEDS_CHAT}."):
        parse_dialogue(messages)


def test_our_servers_refuse_images_with_400(model_folder: Path) -> None:
    message = {"role": "user", "content": [text("Q"), image(CAT)]}
    with local_stack(model_folder) as (_, worker, api):
        for sample in (
            {"messages": [message], "answers": ["a", "b"]},
            {"conversations": [[message, {"role": "assistant", "content": "a"}]] * 2},
        ):
            answer = api.post("/v1/judgements", {"samples": [sample]})
            error = answer.json()["error"]
            assert (answer.status_code, error["message"], error["type"]) == (400, NEEDS_CHAT, "invalid_request_error")
        answer = api.post("/v1/chat/completions", {"model": model_folder.name, "messages": [message]})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, "unsupported_parameter")
        assert error["param"] == "messages.0.content.1.image_url"
        # whoever reads it may have asked through --engine openai --api chat
        assert error["message"].endswith("this is not supported here (the models here are shown texts alone)")
        said = {"question_id": 1, "question": "Q", "answers": ["a", "b"], "task": "pair", "aspect": None}
        dialogue = {"turns": [message], "conversations": []}
        body = {"model": model_folder.name, "prompt": "Q", "sample": {**said, "dialogue": dialogue}}
        answer = worker.post("/worker_generate", body)
        assert NEEDS_CHAT in answer.text
        assert api.get("/v1/models").status_code == 200


def test_a_table_of_judgements_that_cannot_hold_images_is_refused_before(
    tmp_path: Path, server: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = write_jsonl(tmp_path / "q.jsonl", rows(2))
    assert run_command(arguments(server.url, questions, tmp_path / "out", "--output-format", "csv")) == 2
    assert "--output-format csv: in a cell the parts of images would be a text" in capsys.readouterr().err
    assert not server.bodies
    assert run_command(arguments(server.url, questions, tmp_path / "out", "--output-format", "parquet")) == 0
    tables = [line.record["question_body"] for line in LineFile(tmp_path / "out" / "forward.parquet")]
    assert tables == [row["question_body"] for row in rows(2)]
