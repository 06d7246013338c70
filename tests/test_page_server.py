"""The page without a browser: its files, its doors, and what may be sent past its forms."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import signal
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, write_jsonl
from local_server import LocalServer, QuietHandler
from serving import HTTP, Address, Server, local_controller, running
from visiting import Visitor, form

from judgelm.errors import InputError

ROW = {"question_body": "Why?", "answer1_body": "Because of that.", "answer2_body": "So."}


class QuickWorker(QuietHandler):
    """A worker in FastChat's protocol that always writes the same of the same kind of sample."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"] or 0)) or b"{}")
        sample = asked.get("sample") or {}
        text = {1: "4\nGood.", 3: "3 2 1"}.get(len(sample.get("answers", ())), "8 7\nGood.")
        if "criteria" in sample and len(sample["answers"]) == 2:
            text = {"Truth": "5 3\nTrue.", "Style": "1 2"}.get(sample["criteria"]["name"], "none")
        answers = {
            "/model_details": {
                "context_length": 2048,
                "judgelm": "1",
                "chat": True,
                "criteria": True,
                "expected": True,
                "dialogues": True,
            },
            "/worker_get_status": {"model_names": ["quick"], "speed": 1, "queue_length": 0},
            "/worker_generate_stream": {"text": text, "error_code": 0, "finish_reason": "stop"},
        }
        if asked.get("scoring") == "expected":
            scores = [float(each) for each in text.split("\n")[0].split()]
            likely: dict[str, Any] = {"expected_scores": scores[::-1], "score_line_mass": 0.5}
            likely |= {"probabilities": {"win": 0.7, "tie": 0.1, "lose": 0.2}} if len(scores) == 2 else {}
            answers["/worker_generate_stream"] |= {"text": text.split("\n")[0], "likely": likely}
        body = json.dumps(answers[self.path]).encode() + b"\0" * (self.path == "/worker_generate_stream")
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Page(Server):
    """The page on ::1, in a temporary folder of its own, with a proxy in the environment that is none."""

    def __init__(self, folder: Path, controller: Address) -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir(exist_ok=True)
        flags = ("--host", "::1", "--controller-url", controller.url, "--log-dir", folder / "logs")
        env: dict[str, Any] = {
            "TMPDIR": str(self.temporary),
            "http_proxy": "http://127.0.0.1:9",
            "HTTP_PROXY": "http://127.0.0.1:9",
        }
        super().__init__("gradio_web_server_judgelm", folder, *flags, **env)
        self.url = f"http://[::1]:{self.port}"

    @property
    def folders(self) -> list[Path]:
        return sorted(self.temporary.glob("judgelm-page-*"))


@pytest.fixture(scope="module")
def controller() -> Iterator[Address]:
    with local_controller() as server, LocalServer(QuickWorker) as worker:
        status = {"model_names": ["quick"], "speed": 1, "queue_length": 0}
        body = {"worker_name": worker.root, "check_heart_beat": False, "worker_status": status}
        assert server.post("/register_worker", body).status_code == 200
        yield server


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, controller: Address) -> Iterator[Page]:
    started = Page(tmp_path_factory.mktemp("page"), controller)
    with running(started):
        started.wait(lambda: started.get("/").status_code == 200)
        yield started


CRITERIA = """
name: <i>mine</i>
scale: [1, 5]
aspects:
  - {name: Truth, text: It is true., weight: 3}
  - {name: Style, text: It reads well.}
"""


def test_the_page_is_served_on_ipv6_past_a_proxy_of_the_environment(page: Page) -> None:
    assert page.get("/").status_code == 200
    visitor = Visitor(page)
    ended = visitor.run("judge-go", "click", *form(), None, "Why?", "Because.", "So.")
    assert "does not survive the swap" in ended["output"]["data"][0], ended


def test_uploads_and_results_can_be_read_by_the_page_alone_and_go_at_its_end(
    tmp_path: Path, controller: Address
) -> None:
    killed = Page(tmp_path, controller)
    with running(killed):
        killed.wait(lambda: bool(killed.folders) and killed.get("/").status_code == 200)
    (left,) = killed.folders
    page = Page(tmp_path, controller)
    with running(page):
        page.wait(lambda: page.get("/").status_code == 200)
        (folder,) = page.folders
        assert folder != left, "what a killed page left goes when the next one starts"
        visitor = Visitor(page)
        uploaded = visitor.upload(write_jsonl(tmp_path / "pairs.jsonl", [{"question_id": 1, **ROW}]))
        assert folder in Path(uploaded["path"]).parents
        ended = visitor.run("judge-go", "click", *form(), None, "Why?", "Because.", "So.")
        made = Path(ended["output"]["data"][5]["path"])
        assert folder in made.parents
        assert json.loads(page.get(f"/gradio_api/file={made}").text)["result"]["outcome"] == "tie"
        assert [stat.S_IMODE(path.stat().st_mode) for path in page.temporary.iterdir() if path.is_dir()] == [0o700]
        assert not any(stat.S_IMODE(path.stat().st_mode) & 0o077 for path in page.temporary.iterdir())
        assert page.stop(signal.SIGTERM) == 0
        assert not page.folders


def test_a_vote_can_be_read_by_its_owner_alone(tmp_path: Path) -> None:
    from judgelm.serve.page.files import append_private

    votes = tmp_path / "logs" / "votes.jsonl"
    modes = []
    for before in (None, 0o644, 0o640):
        if before is not None:
            votes.chmod(before)
        append_private(votes, "a vote\n")
        modes.append(stat.S_IMODE(votes.stat().st_mode))
    assert modes == [0o600, 0o600, 0o640]
    assert votes.read_text() == "a vote\n" * 3


def test_the_oldest_files_go_where_there_are_too_many_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from judgelm.serve.page import files as page_files

    monkeypatch.setattr(page_files, "_MOST_BYTES", 250)
    for age, name in enumerate(("new/a", "newer/b", "old/c", "yesterday/d")):
        path = tmp_path / name
        path.parent.mkdir()
        path.write_bytes(b"x" * 100)
        when = time.time() - (60 * age if name[0] != "y" else 25 * 3600)
        os.utime(path, (when, when))
    page_files.remove_old(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "new", "newer"]


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("POST", "/gradio_api/upload", {"origin": "http://evil.example"}),
        ("POST", "/gradio_api/upload", {"sec-fetch-site": "cross-site"}),
        ("POST", "/gradio_api/queue/join", {"origin": "null"}),
        ("GET", "/config", {"host": "evil.example"}),
    ],
)
def test_a_page_of_another_site_can_do_nothing_here(
    method: str, path: str, headers: dict[str, str], page: Page
) -> None:
    files = {"files": ("a.jsonl", b"{}")} if path.endswith("upload") else None
    assert HTTP.request(method, page.url + path, headers=headers, files=files).status_code == 403


def test_a_page_of_another_site_cannot_read_this_one(page: Page) -> None:
    answer = page.get("/config", headers={"origin": "http://evil.example"})
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "process_recording"),
        ("GET", "deep_link?session_hash=x"),
        ("GET", "file=https://example.com/pairs.jsonl"),
        ("GET", "file/https://example.com/pairs.jsonl"),
        ("GET", "proxy=https://example.com/"),
        ("GET", "openapi.json"),
    ],
)
def test_what_gradio_has_and_the_page_does_not_need_is_not_there(method: str, path: str, page: Page) -> None:
    assert HTTP.request(method, f"{page.url}/gradio_api/{path}").status_code == 404


def test_no_event_of_the_page_is_offered_to_programs(page: Page) -> None:
    kinds = {job["api_visibility"] for job in page.get("/config").json()["dependencies"]}
    assert kinds == {"private"}
    assert page.get("/gradio_api/info").json() == {"named_endpoints": {}, "unnamed_endpoints": {}}


NO_FORM_SENDS: dict[str, tuple[Any, ...]] = {
    "temperature": ("hot", float("nan"), float("inf"), -1, 1e300, None, [1], {"a": 1}),
    "length": ("long", float("nan"), 1e300, 0, 16.5, None, [], "9" * 5000),
    "top_p": (0, float("nan"), "x"),
    "model": ("other", None, ["quick"], "x" * 5000, 5),
    "detail": ({"a": 1},),
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in NO_FORM_SENDS.items() for value in values]
)
def test_a_setting_that_no_form_can_send_is_refused(field: str, value: Any, page: Page) -> None:
    visitor = Visitor(page)
    settings = form(**{field: value})
    for ended in (
        visitor.run("judge-go", "click", *settings, None, "Why?", "Because.", "So."),
        visitor.run("batch-go", "click", None, None, "pair", None, *settings),
    ):
        said = json.dumps(ended["output"])
        assert "survive the swap" not in said
        assert "its log says why" not in said
    log = page.log.read_text()
    assert "could not judge" not in log
    good = visitor.run("judge-go", "click", *form(), None, "Why?", "Because.", "So.")
    assert good["success"]
    asked = visitor.run("judge-followup", "submit", None, "And why?", *settings)
    assert "its log says why" not in json.dumps(asked["output"])


def test_aspects_are_shown_side_by_side_and_taken_home(page: Page) -> None:
    visitor = Visitor(page)
    asked = (None, "Why?", "Because.", "So.")
    ended = visitor.run("judge-go", "click", *form(both=False, criteria=CRITERIA), *asked)
    picture, text, _, _, _, taken, *_ = ended["output"]["data"]
    assert "Answer 1 is better" in picture
    rows = [row.split("</tr>")[0] for row in picture.split("<tr")[1:]]
    assert [re.sub("<[^>]*>", " ", row.partition(">")[2]).split() for row in rows] == [
        ["Answer", "1", "Answer", "2"],
        ["Truth", "weight", "3", "5", "3"],
        ["Style", "weight", "1", "1", "2"],
        ["Weighted", "mean", "4", "2.75"],
    ]
    # of the criteria's own scale
    assert re.findall("width:([0-9.]+)%", picture) == ["100.0", "60.0", "20.0", "40.0", "80.0", "55.0"]
    assert text == "4 2.75\n\n[Truth]\n5 3\nTrue.\n\n[Style]\n1 2"
    kept = json.loads(page.get(f"/gradio_api/file={taken['path']}").text)
    assert [part["scores"] for part in kept["result"]["judgements"][0]["aspects"]] == [[5, 3], [1, 2]]
    assert kept["request"]["criteria"]["name"] == "<i>mine</i>"
    voted = visitor.run("judge-upvote", "click", None)
    assert voted["output"]["data"] == ["Thank you: upvote noted."]
    talk = visitor.run("judge-followup", "submit", None, "And why?", *form())["output"]["data"][1]
    assert "there is no one judgement to talk about" in talk
    both = visitor.run("judge-go", "click", *form(criteria=CRITERIA), *asked)["output"]["data"][0]
    assert "does not survive the swap" in both
    assert both.count('class="bar reversed"') == both.count('class="bar forward"') == 6
    hostile = CRITERIA.replace("Truth", "'<img src=x onerror=alert(1)>'")
    shown = visitor.run("judge-go", "click", *form(criteria=hostile), *asked)["output"]["data"][0]
    assert "Not every aspect has scores that could be read" in shown
    assert "&lt;img" in shown
    assert "<img" not in shown


def test_clear_empties_a_tab_and_folds_thoughts_away(page: Page) -> None:
    ended = Visitor(page).run("judge-clear", "click")
    assert ended["success"], ended
    texts, outputs = ended["output"]["data"][:3], ended["output"]["data"][3:]
    assert texts == ["", "", ""]
    hidden = [number for number, each in enumerate(outputs) if isinstance(each, dict) and each.get("visible") is False]
    # the text of the other order, and what thoughts are folded in
    assert hidden == [2, 7]
    assert len(outputs) == 10


def test_replies_to_a_dialogue_are_judged_of_lines_and_of_messages(page: Page) -> None:
    visitor = Visitor(page)
    lines = "System: Be brief.\nuser: Why?\nAnd how?\n\nAssistant: So.\nHuman: Sure?"
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Why?\nAnd how?"},
        {"role": "assistant", "content": "So."},
        {"role": "user", "content": "Sure?"},
    ]
    for text in (lines, json.dumps(messages)):
        ended = visitor.run("dialogue-go", "click", *form(both=False), None, text, "Yes.", "No.")
        shown, _, _, _, _, taken, *_ = ended["output"]["data"]
        assert "Answer 1 is better" in shown
        kept = page.get(f"/gradio_api/file={taken['path']}").json()
        (sample,) = kept["request"]["samples"]
        assert (sample["messages"], sample["answers"]) == (messages, ["Yes.", "No."])
    asked = visitor.run("dialogue-followup", "submit", None, "Why?", *form())
    assert "could not be asked" not in str(asked["output"]["data"])


@pytest.mark.parametrize(
    ("dialogue", "said"),
    [
        ("", "Write a dialogue first."),
        ("Why?", "or in lines that begin with User:, Assistant: or System:."),
        ("Well.\nUser: Why?", "or in lines that begin with User:, Assistant: or System:."),
        ("User: Why?\nAssistant: So.", "A dialogue ends in the user&#39;s question"),
        ("[" * 100_000, "this is not JSON."),
        ("[1]", "message 1: expected {"),
        ('[{"role": "tool", "content": "<b>"}]', "dialogues with calls of tools cannot be judged"),
        ("User: x\n" * 1001, "expected 1000 messages at most, found 1001"),
    ],
)
def test_dialogues_that_are_none_are_told_in_one_line(dialogue: str, said: str, page: Page) -> None:
    ended = Visitor(page).run("dialogue-go", "click", *form(), None, dialogue, "Because.", "So.")
    shown = ended["output"]["data"][0]
    assert said in shown
    assert "its log says why" not in shown
    assert "<b>" not in shown


def test_a_single_answer_is_graded_and_many_are_judged_by_criteria(page: Page) -> None:
    visitor = Visitor(page)
    for criteria, said in (("", "The answer gets 4 of 10."), (CRITERIA, "The answer gets 4 of 5.")):
        ended = visitor.run("grade-go", "click", *form(criteria=criteria), None, "Why?", "Because.")
        assert said in ended["output"]["data"][0]
        assert 'class="bar reversed"' not in ended["output"]["data"][0]
    answers = ["Because.", "So.", "No.", *[""] * 7]
    visitor.run("multi-more", "click", None)
    ended = visitor.run("multi-go", "click", *form(criteria=CRITERIA, both=False), None, "Why?", *answers)
    assert "Answer 1 is the best" in ended["output"]["data"][0]
    assert ended["output"]["data"][0].count('class="bar forward"') == 9


def test_probabilities_are_a_bar_and_expected_scores(page: Page) -> None:
    visitor, asked = Visitor(page), (None, "Why?", "Because.", "So.")
    ended = visitor.run("judge-go", "click", *form(detail="Probabilities", both=False), *asked)
    picture, text, _, _, _, taken, *_ = ended["output"]["data"]
    assert "Answer 1 is better, with a probability of 70%." in picture
    assert re.findall('class="(win|tie|lose)" style="width:([0-9.]+)%"', picture) == [
        ("win", "70.0"),
        ("tie", "10.0"),
        ("lose", "20.0"),
    ]
    assert [f"{said}</span>" in picture for said in ("Answer 1 is better: 70%", "equal: 10%")] == [True, True]
    # expected scores, not the line's
    assert re.findall('class="score">([0-9.]+)<', picture) == ["7", "8"]
    assert "Score lines have a probability of 50%" in picture
    assert text == "8 7"
    kept = json.loads(page.get(f"/gradio_api/file={taken['path']}").text)
    assert (kept["request"]["scoring"], kept["result"]["probabilities"]["win"]) == ("expected", 0.7)
    # the mean of 70 % and 20 %, and the likeliest lines contradict each other
    both = visitor.run("judge-go", "click", *form(detail="Probabilities"), *asked)["output"]["data"][0]
    assert "Each answer is better with a probability of 45%. The orders contradict each other." in both
    plain = visitor.run("judge-go", "click", *form(), *asked)["output"]["data"][0]
    assert "probability" not in plain
    grade = visitor.run("grade-go", "click", *form(detail="Probabilities"), None, "Why?", "Because.")
    assert "The answer gets 4 of 10." in grade["output"]["data"][0]
    assert 'class="outcomes"' not in grade["output"]["data"][0]


def test_many_answers_stand_in_all_places(page: Page) -> None:
    visitor = Visitor(page)
    answers = ["Because.", "So.", "No.", *[""] * 7]
    visitor.run("multi-more", "click", None)
    ended = visitor.run("multi-go", "click", *form(rotate=True), None, "Why?", *answers)
    picture, first, second, *_ = ended["output"]["data"]
    # each is shown in each place once, and 3, 2 and 1 are a place's
    assert re.findall('class="score">([0-9.]+)<', picture) == ["2", "2", "2"]
    assert "The orders do not agree on the best. By the mean of all: All answers are worth the same." in picture
    assert "Mean score by the place in which answers were shown: 1: 3, 2: 2, 3: 1." in picture
    assert "mean of all orders" in picture
    assert first == "3 2 1"
    assert second == "[answers rotated by 1]\n3 2 1\n\n[answers rotated by 2]\n3 2 1"
    by_aspects = visitor.run("multi-go", "click", *form(rotate=True, criteria=CRITERIA), None, "Why?", *answers)
    assert by_aspects["output"]["data"][0].count('class="bar forward"') == 9
    # other tasks have the orders that they had
    pair = visitor.run("judge-go", "click", *form(rotate=True, both=False), None, "Why?", "Because.", "So.")
    assert "Answer 1 is better." in pair["output"]["data"][0]


def test_a_file_has_probabilities_and_all_rotations(page: Page, tmp_path: Path) -> None:
    visitor = Visitor(page)
    pairs = write_jsonl(tmp_path / "pairs.jsonl", [{"question_id": k, **ROW} for k in range(2)])
    ended = visitor.run("batch-go", "click", visitor.upload(pairs), None, "pair", None, *form(detail="Probabilities"))
    said, table, _, files = ended["output"]["data"]
    assert said.startswith("2 judged, 0 without scores.")
    assert [row[2:5] for row in table["data"]] == [["tie", "7.5 7.5", "no"]] * 2
    for file in files:
        for line in page.get(f"/gradio_api/file={file['path']}").text.splitlines():
            record = json.loads(line)
            assert (record["pred_expected_scores"], record["pred_score_line_mass"]) == ([7, 8], 0.5)
            assert record["pred_probabilities"] == {"win": 0.7, "tie": 0.1, "lose": 0.2}
    many = [{"question_id": 0, **ROW}, {"question_id": 1, **ROW, "answer3_body": "No."}]
    uploaded = visitor.upload(write_jsonl(tmp_path / "many.jsonl", many))
    ended = visitor.run("batch-go", "click", uploaded, None, "multi", None, *form(rotate=True))
    files = ended["output"]["data"][3]
    assert [file["orig_name"] for file in files] == ["forward.jsonl", "rotated1.jsonl", "rotated2.jsonl"]
    counts = [len(page.get(f"/gradio_api/file={file['path']}").text.splitlines()) for file in files]
    assert counts == [2, 2, 1]


@pytest.mark.parametrize(
    ("criteria", "said"),
    [
        ("just words", "criteria: expected criteria with the fields name, aspects, scale, found str"),
        ("name: x\naspects:\n  - {name: a", "criteria:3: not YAML"),
        ("name: x\naspects: []", "expected 1 to 50, found 0"),
        ("a: &a [b, b]\nname: [*a, *a]", "criteria: aliases (*NAME) are not read"),
        ("x" * 10_001, "Criteria may have 10,000 characters here, found 10,001."),
        ("[" * 9_000, "Criteria may have 300 brackets here."),
        ("- " * 4_000, "criteria"),
        ("[" * 300, "not YAML"),
        ("!!python/object/apply:os.system [ls]", "not YAML"),
        ("name: x\nscale: <b>\naspects: []", "&lt;b&gt;"),
    ],
)
def test_criteria_that_are_none_are_told_in_one_line(criteria: str, said: str, page: Page) -> None:
    ended = Visitor(page).run("judge-go", "click", *form(criteria=criteria), None, "Why?", "Because.", "So.")
    shown = ended["output"]["data"][0]
    assert said in shown
    assert "its log says why" not in shown
    assert "<b>" not in shown


def test_the_page_offers_the_criteria_of_the_examples(page: Page) -> None:
    visitor = Visitor(page)
    sets = next(part["props"] for part in visitor.config["components"] if part["id"] == visitor.names["criteria-sets"])
    assert sets["sample_labels"] == [
        *("none", "code review", "concise", "factual", "harmless", "helpful", "translation")
    ]
    files = sorted((ROOT / "examples" / "criteria").glob("*.yaml"))
    assert [sample[0] for sample in sets["samples"]] == ["", *(path.read_text(encoding="utf-8") for path in files)]
    refused = visitor.run("single-go", "click", *form(criteria=files[0].read_text()), None, "Why?", "Because.", "So.")
    assert "criteria cannot be used with task single" in refused["output"]["data"][0]


def test_a_text_that_no_form_can_send_is_refused(page: Page) -> None:
    visitor = Visitor(page)
    ended = visitor.run("judge-go", "click", *form(), None, "Why?", "a" * 2_000_001, "So.")
    assert "at most 2000000 characters" in json.dumps(ended["output"])


def test_a_file_is_judged_into_records_as_the_command_writes_them(page: Page, tmp_path: Path) -> None:
    visitor = Visitor(page)
    path = write_jsonl(tmp_path / "pairs.jsonl", [{"question_id": k, **ROW} for k in range(5)])
    before = time.time()
    ended = visitor.run("batch-go", "click", visitor.upload(path), None, "pair", None, *form())
    said, _, _, files = ended["output"]["data"]
    assert said.startswith("5 judged, 0 without scores.")
    read = [page.get(f"/gradio_api/file={file['path']}").text.splitlines() for file in files]
    records = [json.loads(line) for lines in read for line in lines]
    assert [(record["question_id"], record["pred_order"]) for record in records] == [
        *((k, "forward") for k in range(5)),
        *((k, "reversed") for k in range(5)),
    ]
    assert len({record["pred_id"] for record in records}) == 10
    assert {record["pred_model_id"] for record in records} == {"quick"}
    assert all(before <= record["tstamp"] <= time.time() for record in records)


def test_a_file_is_judged_by_criteria_and_single_answers_are_graded(page: Page, tmp_path: Path) -> None:
    visitor = Visitor(page)
    pairs = write_jsonl(tmp_path / "pairs.jsonl", [{"question_id": k, **ROW} for k in range(3)])
    ended = visitor.run("batch-go", "click", visitor.upload(pairs), None, "pair", None, *form(criteria=CRITERIA))
    said, table, _, files = ended["output"]["data"]
    assert said.startswith("3 judged, 0 without scores.")
    assert [row[2:5] for row in table["data"]] == [["tie", "3.375 3.375", "no"]] * 3
    for file in files:
        for line in page.get(f"/gradio_api/file={file['path']}").text.splitlines():
            record = json.loads(line)
            assert (record["pred_scale"], record["pred_scores"]) == ([1, 5], [4, 2.75])
            assert [part["name"] for part in record["pred_aspects"]] == ["Truth", "Style"]
    single = [{"question_id": k, "question_body": "Why?", "answer_body": "So."} for k in range(3)]
    uploaded = visitor.upload(write_jsonl(tmp_path / "single.jsonl", single))
    for criteria in ("", CRITERIA):
        ended = visitor.run("batch-go", "click", uploaded, None, "grade", None, *form(criteria=criteria))
        said, table, _, files = ended["output"]["data"]
        assert (said, len(files)) == ("3 judged, 0 without scores.", 1)
        assert [row[3] for row in table["data"]] == ["4"] * 3
    refused = visitor.run("batch-go", "click", uploaded, None, "mmvet", None, *form(criteria="name: x"))
    assert "\n" not in refused["output"]["data"][0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ([{"question_id": k, **ROW} for k in range(20_001)], "found 20001 rows, at most 20000 can be judged here"),
        ([{"question_id": 7, **ROW, "question_body": "x" * 2_000_001}], "question_id 7: question: "),
        ([{"question_id": "n" * 201, **ROW}], "question_id"),
    ],
)
def test_a_file_with_too_much_in_it_is_refused_in_one_line(
    change: list[dict[str, Any]], said: str, page: Page, tmp_path: Path
) -> None:
    visitor = Visitor(page)
    uploaded = visitor.upload(write_jsonl(tmp_path / "many.jsonl", change))
    for ended in (
        visitor.run("batch-check", "click", uploaded, None, "pair"),
        visitor.run("batch-go", "click", uploaded, None, "pair", None, *form()),
    ):
        shown = ended["output"]["data"][0]
        assert shown.startswith("many.jsonl: ")
        assert said in shown
        assert str(page.temporary) not in shown


def test_a_file_that_is_much_larger_in_memory_is_refused_before_it_is_read(page: Page, tmp_path: Path) -> None:
    visitor = Visitor(page)
    bomb = tmp_path / "bomb.jsonl"
    for content, said in (
        (gzip.compress(b"[" + b"{}," * 5_000_000 + b"{}]"), "packed with gzip"),
        (b"[" + b"{}," * 1_000_000 + b"{}]", "more lists and objects"),
    ):
        bomb.write_bytes(content)
        shown = visitor.run("batch-check", "click", visitor.upload(bomb), None, "pair")["output"]["data"][0]
        assert shown.startswith("bomb.jsonl: ")
        assert said in shown


def test_the_log_of_the_page_names_no_session_and_no_file(page: Page, tmp_path: Path) -> None:
    visitor = Visitor(page)
    uploaded = visitor.upload(write_jsonl(tmp_path / "seen.jsonl", [{"question_id": 1}]))
    visitor.run("batch-check", "click", uploaded, None, "pair")
    log = page.log.read_text()
    assert "GET /" not in log
    assert "seen.jsonl" not in log


def test_while_a_thread_reads_a_file_others_are_served() -> None:
    from judgelm.serve.page.batch import _wait_for

    served = threading.Event()

    def read() -> str:
        assert served.wait(30), "the loop stood still until the file was read"
        return "read"

    def refuse() -> str:
        raise InputError("line 3 is none")

    async def visit() -> list[str | None]:
        gate = asyncio.Semaphore(1)
        said = []
        async for step in _wait_for(gate, read):
            said.append(step)
            served.set()
        with pytest.raises(InputError, match="line 3 is none"):
            async for _ in _wait_for(gate, refuse):
                pass
        return said

    assert asyncio.run(visit()) == [None, "read"]
