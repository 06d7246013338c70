from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE_S, ROOT, write_jsonl
from local_server import LocalServer, QuietHandler
from PIL import Image
from serving import Address, Server, local_controller, models_of, running

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
"""a browser that asks nobody: it would look for updates at every start, and draws nothing that a GPU is for"""
SCREENSHOTS = os.environ.get("JUDGELM_SCREENSHOTS")
"""a folder for pictures of all tabs; scripts/screenshots sets it"""
HOSTILE = "4 <script>document.title='broken'</script><img src=x onerror=\"document.title='broken'\"> \u202e [System]"
TABS = ["judge", "judge-reference", "multi", "multi-reference", "single", "multimodal"]


class Stack:
    """A worker that is held to score lines, one of a random model that writes long texts, and the page.

    The first is called tiny; it is that where pictures are taken, and else a random model, too.
    """

    def __init__(self, folder: Path, controller: Address, random_model: Path, cache: Path) -> None:
        self.folder = folder
        self.controller = controller
        self.where = ("--controller-address", self.controller.url, "--device", "cpu")
        self.quick: dict[str, Any] = {} if SCREENSHOTS else {"JUDGELM_CACHE": str(cache)}
        self.tiny = self.start_worker("tiny" if SCREENSHOTS else "tiny-base", "tiny", **self.quick)
        self.random = self.start_worker(random_model)
        flags = ("--controller-url", self.controller.url, "--log-dir", folder / "logs")
        self.page = Server("gradio_web_server_judgelm", folder, *flags, imported=["gradio"])

    def start_worker(self, model: Path | str, name: str = "random-llama", **env: Any) -> Server:
        args = (*self.where, "--model-path", model, "--model-names", name)
        return Server("model_worker", self.folder, *args, OMP_WAIT_POLICY="PASSIVE", **env)

    @property
    def servers(self) -> tuple[Server, ...]:
        return self.tiny, self.random, self.page


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, quick_cache: Path) -> Iterator[Stack]:
    with local_controller() as controller:
        started = Stack(tmp_path_factory.mktemp("page"), controller, model_folder, quick_cache)
        with running(*started.servers):
            started.controller.wait(lambda: len(models_of(started.controller)) == 2)
            started.page.wait(lambda: started.page.get("/").status_code == 200)
            yield started


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running_playwright:
        opened = running_playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield opened
        opened.close()


WINDOW = {"viewport": {"width": 1280, "height": 900}}


@pytest.fixture(scope="module")
def window(browser: Any) -> Iterator[Any]:
    """Whose pages share what they load: gradio's scripts are not fetched and compiled for each test."""
    opened = browser.new_context(**WINDOW)
    yield opened
    opened.close()


class Visitor:
    """Somebody with the page open."""

    def __init__(self, window: Any, url: str) -> None:
        self.page = window.new_page()
        self.page.set_default_timeout(1000 * PATIENCE_S)
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(url)
        self.page.wait_for_selector("#judge-question textarea")
        self.page.wait_for_function("document.querySelector('#model input').value != ''")

    def fill(self, name: str, text: str) -> None:
        self.page.fill(f"#{name} textarea", text)

    def value(self, name: str) -> str:
        return str(self.page.input_value(f"#{name} textarea"))

    def text(self, name: str) -> str:
        return str(self.page.inner_text(f"#{name}"))

    def click(self, name: str) -> None:
        self.page.click(f"#{name}")

    def choose(self, title: str) -> None:
        """A tab; those that do not fit the screen are in a menu."""
        tab = self.page.get_by_role("tab", name=title, exact=True)
        if not tab.first.is_visible():
            self.page.click(".overflow-menu > button")
            tab = self.page.locator(".overflow-dropdown button", has_text=re.compile(f"^{title}$"))
        tab.first.click()

    def upload(self, name: str, path: Path) -> None:
        """Offer a file until the page has it: a busy page may not listen yet, or take it late.

        The page may break the line between a file's name and its ending.
        """
        field = self.page.locator(f"#{name} input")
        for _ in range(6):
            if field.count():
                field.set_input_files(path)
            with contextlib.suppress(AssertionError):
                return self.until(lambda: path.name in "".join(self.text(name).split()), 20)
        raise AssertionError(f"{path.name} was not taken: {self.text(name)}")

    def until(self, ready: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
        end = time.monotonic() + seconds
        while not ready():
            assert time.monotonic() < end, self.page.inner_text("body")
            self.page.wait_for_timeout(50)

    def judged(self, slug: str) -> str:
        """The picture's words, once there is a verdict."""
        self.page.wait_for_selector(f"#{slug}-picture .statement")
        return self.text(f"{slug}-picture")

    def picture(self, name: str) -> None:
        if SCREENSHOTS:
            self.page.wait_for_timeout(500)
            taken = Image.open(io.BytesIO(self.page.screenshot(full_page=True)))
            taken.quantize(96).save(Path(SCREENSHOTS) / f"{name}.png", optimize=True)

    def close(self) -> None:
        self.page.close()
        assert self.errors == []


@pytest.fixture
def visit(browser: Any, window: Any, servers: Stack) -> Iterator[Callable[..., Visitor]]:
    visitors: list[Visitor] = []
    others: list[Any] = []

    def opened(query: str = "?model=tiny", **settings: Any) -> Visitor:
        if settings:
            others.append(browser.new_context(**WINDOW | settings))
        visitors.append(Visitor(others[-1] if settings else window, servers.page.url + "/" + query))
        return visitors[-1]

    yield opened
    for visitor in visitors:
        visitor.close()
    for other in others:
        other.close()


def queued(worker: Server) -> int:
    length: int = worker.post("/worker_get_status").json()["queue_length"]
    return length


def votes(servers: Stack) -> list[dict[str, Any]]:
    path = servers.folder / "logs" / "votes.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def begin_a_long_one(visitor: Visitor) -> None:
    """A random model may end at once: begin again until it does not."""
    for name in ("question", "answer1", "answer2"):
        visitor.fill(f"judge-{name}", name)
    for _ in range(20):
        visitor.click("judge-again")
        visitor.until(lambda: visitor.value("judge-forward") != "")
        if not visitor.page.query_selector("#judge-picture .statement"):
            return


@pytest.fixture
def embedded(servers: Stack) -> Iterator[str]:
    """The name under which the embedded judge is served."""
    worker = servers.start_worker("tiny", "embedded")
    with running(worker):
        servers.controller.wait(lambda: "embedded" in models_of(servers.controller))
        yield "embedded"


def test_a_pair_is_judged_in_both_orders_then_asked_about_voted_and_taken_home(
    visit: Callable[..., Visitor], servers: Stack, embedded: str
) -> None:
    visitor = visit(f"?model={embedded}")
    visitor.click("judge-go")
    assert "Write a question first." in visitor.judged("judge")
    visitor.fill("judge-question", "What is 2 + 2?")
    visitor.fill("judge-answer1", HOSTILE)
    visitor.fill("judge-answer2", "2 + 2 is 4: two and two more make four.")
    visitor.click("judge-go")
    visitor.page.wait_for_selector("#judge-picture .bar")
    said = visitor.judged("judge")
    assert "in both orders" in said or "does not survive the swap" in said
    assert "imitate the markers" not in said, "the marker does not stand at the beginning of a line"
    assert visitor.page.locator("#judge-picture .bar").count() == 4
    for name in ("judge-forward", "judge-reversed"):
        scores = visitor.value(name).split("\n")[0].split(" ")
        assert len(scores) == 2
        assert all(0 <= float(score) <= 10 for score in scores)
    visitor.fill("judge-followup", "Why? <b>Tell me</b>")
    visitor.page.press("#judge-followup textarea", "Enter")
    visitor.until(lambda: visitor.page.inner_text("#judge-chat .judge") not in ("", "…"))
    assert "<b>Tell me</b>" in visitor.text("judge-chat")
    visitor.click("judge-upvote")
    visitor.until(lambda: "upvote noted" in visitor.text("judge-noted"))
    vote = votes(servers)[-1]
    assert (vote["vote"], vote["request"]["samples"][0]["answers"][0]) == ("upvote", HOSTILE)
    assert vote["result"]["judgements"][0]["text"] == visitor.value("judge-forward")
    with visitor.page.expect_download() as download:
        visitor.click("judge-download")
    taken = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    assert taken["result"] == vote["result"]
    assert visitor.page.title() == "JudgeLM"
    visitor.click("judge-clear")
    visitor.until(lambda: visitor.value("judge-question") == visitor.value("judge-forward") == "")


@pytest.mark.parametrize("slug", TABS)
def test_each_tab_judges_its_example(slug: str, visit: Callable[..., Visitor]) -> None:
    titles = {
        "judge": "Judge",
        "judge-reference": "Judge with reference",
        "multi": "Multiple answers",
        "multi-reference": "Multiple answers with reference",
        "single": "Single answer",
        "multimodal": "Multimodal answers",
    }
    visitor = visit()
    if not SCREENSHOTS:
        # reasons are a test's own above, and half a minute of a judge
        visitor.page.get_by_label("Scores only").check()
    visitor.choose(titles[slug])
    visitor.page.locator(f"#{slug}-examples tr.tr-body").first.click()
    visitor.until(lambda: visitor.value(f"{slug}-question") != "")
    if slug.startswith("multi-") or slug == "multi":
        visitor.click(f"{slug}-more")
        visitor.fill(f"{slug}-answer3", "I do not know.")
    visitor.click(f"{slug}-go")
    visitor.page.wait_for_selector(f"#{slug}-picture .bar")
    answers = 3 if slug in ("multi", "multi-reference") else 2
    orders = 1 if slug == "single" else 2
    if slug == "single":
        assert visitor.judged(slug).startswith("The answer gets ")
    assert visitor.page.locator(f"#{slug}-picture .bar").count() == answers * orders
    visitor.picture(slug)


def test_criteria_are_chosen_and_their_aspects_stand_side_by_side(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    visitor.page.get_by_label("Scores only").check()
    visitor.page.get_by_role("button", name="Criteria").first.click()
    visitor.page.locator("#criteria-sets button", has_text="concise").click()
    visitor.until(lambda: visitor.value("criteria").startswith("name: concise"))
    visitor.page.locator("#judge-examples tr.tr-body").first.click()
    visitor.until(lambda: visitor.value("judge-question") != "")
    visitor.click("judge-go")
    visitor.page.wait_for_selector("#judge-picture .mean")
    heads = visitor.page.locator("#judge-picture tbody th").all_inner_texts()
    assert [head.split()[0] for head in heads] == ["Brevity", "Substance", "Weighted"]
    assert visitor.page.locator("#judge-picture .bar").count() == 3 * 2 * 2
    assert visitor.page.evaluate("document.documentElement.scrollWidth") <= 1280
    visitor.picture("criteria")
    visitor.choose("Grade one answer")
    visitor.fill("grade-question", "What is 2 + 2?")
    visitor.fill("grade-answer1", "4")
    visitor.click("grade-go")
    visitor.page.wait_for_selector("#grade-picture .mean")
    assert re.match(r"The answer gets [0-9.]+ of 5\.", visitor.judged("grade"))


def test_probabilities_are_one_bar_and_many_answers_stand_in_all_places(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    visitor.page.get_by_label("Probabilities").check()
    visitor.page.locator("#judge-examples tr.tr-body").first.click()
    visitor.until(lambda: visitor.value("judge-question") != "")
    visitor.click("judge-go")
    visitor.page.wait_for_selector("#judge-picture .outcomes")
    parts = visitor.page.locator("#judge-picture .outcomes > div").evaluate_all(
        "parts => parts.map(part => part.getBoundingClientRect().width)"
    )
    whole = visitor.page.locator("#judge-picture .outcomes").bounding_box()
    assert whole is not None
    assert sum(parts) == pytest.approx(whole["width"], rel=0.02)
    assert "with a probability of" in visitor.judged("judge")
    visitor.picture("probabilities")
    visitor.page.get_by_label("Scores only").check()
    visitor.page.get_by_label("Multiple answers: judge all rotations").check()
    visitor.choose("Multiple answers")
    visitor.page.locator("#multi-examples tr.tr-body").first.click()
    visitor.until(lambda: visitor.value("multi-question") != "")
    visitor.click("multi-go")
    visitor.page.wait_for_selector("#multi-picture .bar")
    assert visitor.page.locator("#multi-picture .bar").count() == 2
    assert visitor.value("multi-reversed").startswith("[answers rotated by 1]")


def test_replies_to_a_dialogue_are_judged_in_both_orders(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    visitor.page.get_by_label("Scores only").check()
    visitor.choose("Dialogue")
    visitor.page.locator("#dialogue-examples tr.tr-body").first.click()
    visitor.until(lambda: visitor.value("dialogue-question").startswith("System: "))
    visitor.click("dialogue-go")
    visitor.page.wait_for_selector("#dialogue-picture .bar")
    assert visitor.page.locator("#dialogue-picture .bar").count() == 4
    visitor.picture("dialogue")
    visitor.fill("dialogue-question", "User: Hello.\nAssistant: Hello.")
    visitor.click("dialogue-go")
    visitor.until(lambda: "A dialogue ends in the user's question" in visitor.judged("dialogue"))


@pytest.mark.parametrize("width", [1280, 820, 390])
def test_no_label_runs_under_its_copy_button(width: int, visit: Callable[..., Visitor]) -> None:
    visitor = visit(viewport={"width": width, "height": 900})
    visitor.page.get_by_label("Scores only").check()
    for name in ("question", "answer1", "answer2"):
        visitor.fill(f"judge-{name}", name)
    visitor.click("judge-go")
    visitor.page.wait_for_selector("#judge-picture .bar")
    for box in ("judge-forward", "judge-reversed"):
        label = visitor.page.locator(f"#{box} [data-testid=block-info]").bounding_box()
        button = visitor.page.locator(f"#{box} button[title=Copy]").bounding_box()
        assert label["x"] + label["width"] <= button["x"]
        assert label["height"] < 40, "one line"
    visitor.choose("Batch")
    outcome = visitor.page.locator("#batch-table th", has_text="outcome").first.bounding_box()
    assert outcome["width"] > 70


def test_an_answer_can_be_added_and_removed(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    visitor.choose("Multiple answers")
    for count in range(3, 11):
        visitor.click("multi-more")
        visitor.page.wait_for_selector(f"#multi-answer{count}", state="visible")
    visitor.click("multi-fewer")
    visitor.page.wait_for_selector("#multi-answer10", state="hidden")


def test_a_judgement_streams_and_stop_ends_it(visit: Callable[..., Visitor], servers: Stack) -> None:
    visitor = visit("?model=random-llama")
    assert visitor.page.input_value("#model input") == "random-llama"
    visitor.click("both")
    begin_a_long_one(visitor)
    first = visitor.value("judge-forward")
    visitor.until(lambda: len(visitor.value("judge-forward")) > len(first))
    visitor.click("judge-stop")
    visitor.until(lambda: queued(servers.random) == 0)


def test_the_page_closed_ends_a_generation(visit: Callable[..., Visitor], servers: Stack) -> None:
    visitor = visit("?model=random-llama")
    begin_a_long_one(visitor)
    visitor.page.close()
    end = time.monotonic() + PATIENCE_S
    while queued(servers.random):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_file_is_checked_judged_and_measured(visit: Callable[..., Visitor], tmp_path: Path) -> None:
    examples = (ROOT / "examples" / "pairs.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in examples.splitlines()][:6]
    good, bad = tmp_path / "pairs.jsonl", tmp_path / "bad.jsonl"
    good.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    bad.write_text(json.dumps({"question_id": 1, "question_body": 5}) + "\n", encoding="utf-8")
    visitor = visit()
    if not SCREENSHOTS:
        visitor.page.get_by_label("Scores only").check()
    visitor.choose("Batch")
    visitor.upload("batch-file", bad)
    visitor.click("batch-check")
    visitor.until(lambda: visitor.value("batch-status").startswith("bad.jsonl:1"))
    visitor.page.click("#batch-file button[aria-label='Remove this file'], #batch-file button[aria-label='Clear']")
    visitor.upload("batch-file", good)
    visitor.upload("batch-teacher", good)
    visitor.click("batch-check")
    visitor.until(lambda: "6 samples" in visitor.value("batch-status"))
    visitor.click("batch-go")
    visitor.until(lambda: visitor.value("batch-status").startswith("6 judged"))
    assert "agreement" in visitor.value("batch-metrics")
    assert "berlin wall" in visitor.text("batch-table").lower()
    with visitor.page.expect_download() as download:
        visitor.page.locator("#batch-results a").first.click()
    judged = [json.loads(line) for line in Path(download.value.path()).read_text(encoding="utf-8").splitlines()]
    assert [row["question_id"] for row in judged] == [row["question_id"] for row in rows]
    assert {row["pred_order"] for row in judged} == {"forward"}
    visitor.picture("batch")


def test_a_file_that_is_stopped_gives_what_was_judged(visit: Callable[..., Visitor], tmp_path: Path) -> None:
    row = {"question_body": "Why?", "answer1_body": "Because of that.", "answer2_body": "So."}
    path = write_jsonl(tmp_path / "many.jsonl", [{"question_id": k, **row} for k in range(400)])
    visitor = visit()
    visitor.choose("Batch")
    visitor.upload("batch-file", path)
    visitor.click("batch-go")
    visitor.until(lambda: re.match("[1-9][0-9]* of 400 judged", visitor.value("batch-status")) is not None)
    visitor.click("batch-stop")
    visitor.until(lambda: visitor.value("batch-status").startswith("Stopped after "))
    count = int(visitor.value("batch-status").split()[2])
    with visitor.page.expect_download() as download:
        visitor.page.locator("#batch-results a").first.click()
    judged = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert 0 < len(judged) == count < 400


def test_a_long_answer_is_shortened_and_the_page_says_so(visit: Callable[..., Visitor]) -> None:
    visitor = visit("?model=random-llama")
    visitor.page.get_by_label("Scores only").check()
    visitor.fill("judge-question", "Which one?")
    visitor.fill("judge-answer1", "word " * 10_000)
    visitor.fill("judge-answer2", "short")
    visitor.click("judge-go")
    assert re.search(r"it shortened answer 1 by [0-9]{4,} tokens", visitor.judged("judge"))


@pytest.mark.parametrize("path", ["/etc/passwd", "https://example.com/pairs.jsonl"])
def test_a_client_cannot_name_a_file_that_it_did_not_upload(path: str, servers: Stack) -> None:
    config = servers.page.get("/config").json()
    check = next(part["id"] for part in config["components"] if part["props"].get("elem_id") == "batch-check")
    number = next(job["id"] for job in config["dependencies"] if [check, "click"] in job["targets"])
    given = {"path": path, "meta": {"_type": "gradio.FileData"}}
    body = {"data": [given, None, "pair"], "fn_index": number, "session_hash": "stranger"}
    assert servers.page.post("/gradio_api/queue/join", body).status_code == 200
    said = servers.page.get("/gradio_api/queue/data?session_hash=stranger").text
    done = [json.loads(line[6:]) for line in said.splitlines() if '"process_completed"' in line]
    assert [event["success"] for event in done] == [False]
    assert "root:" not in said
    assert "Traceback" not in said
    if path.startswith("https"):
        assert "files are uploaded here, not fetched from elsewhere" in servers.page.log.read_text()


class Moderation(QuietHandler):
    """A moderation service that flags one word."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        answer = json.dumps({"results": [{"flagged": "forbidden" in body["input"]}]}).encode()
        self.send_response(200 if self.headers["authorization"] == "Bearer secret-key" else 401)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        pass


def test_moderation_refuses_what_it_flags(window: Any, tmp_path: Path, servers: Stack) -> None:
    with LocalServer(Moderation) as service:
        flags = ("--controller-url", servers.controller.url, "--moderate", "--log-dir", tmp_path)
        env: dict[str, Any] = {
            "OPENAI_API_KEY": "secret-key",
            "OPENAI_BASE_URL": f"{service.root}/v1",
        }
        more = ("--model-list-mode", "once")
        page = Server("gradio_web_server_judgelm", tmp_path, *flags, *more, imported=["gradio"], **env)
        with running(page):
            page.wait(lambda: page.get("/").status_code == 200)
            visitor = Visitor(window, page.url + "/?model=tiny")
            visitor.choose("Multiple answers")
            for name in ("question", "answer1", "answer2"):
                visitor.fill(f"multi-{name}", name)
            visitor.click("multi-go")
            visitor.page.wait_for_selector("#multi-picture .bar")
            visitor.fill("multi-answer2", "a forbidden word")
            visitor.click("multi-go")
            visitor.until(lambda: "against the moderation rules" in visitor.text("multi-picture"))
            visitor.close()
        service.shutdown()
    assert "secret-key" not in page.log.read_text()


def test_mistakes_in_the_flags_of_the_page_end_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from judgelm.serve.gradio_web_server_judgelm import main

    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    logins = tmp_path / "logins"
    logins.write_text("ada:lovelace\nsecret-without-colon\n")
    for flags, said in (
        (["--gradio-auth-path", logins], f"{logins}:2: expected user:password"),
        (["--gradio-auth-path", tmp_path / "none"], "cannot be read"),
        (["--controller-url", "ftp://x"], "expected an address such as"),
        (["--moderate"], "expected a key in OPENAI_API_KEY"),
    ):
        with pytest.raises(SystemExit) as ended:
            main([str(flag) for flag in flags])
        printed = capsys.readouterr().err.strip()
        assert (ended.value.code, len(printed.splitlines())) == (2, 1), printed
        assert said in printed
        assert "secret-without" not in printed


def test_a_lost_worker_is_told_and_the_page_recovers(visit: Callable[..., Visitor], servers: Stack) -> None:
    extra = servers.start_worker("tiny-base", "passing", **servers.quick)
    with running(extra):
        servers.controller.wait(lambda: "passing" in models_of(servers.controller))
        visitor = visit("?model=passing")
        for name in ("question", "answer1", "answer2"):
            visitor.fill(f"judge-{name}", name)
        extra.process.send_signal(signal.SIGSTOP)
        visitor.click("judge-go")
        visitor.until(lambda: "reading" in visitor.text("judge-picture"))
        extra.stop(signal.SIGKILL)
        assert "worker" in visitor.judged("judge")
    visitor.click("refresh")
    visitor.until(lambda: visitor.page.input_value("#model input") != "passing")
    visitor.page.goto(servers.page.url + "/?model=tiny")
    visitor.page.wait_for_selector("#judge-question textarea")
    visitor.until(lambda: visitor.page.input_value("#model input") == "tiny")
    for name in ("question", "answer1", "answer2"):
        visitor.fill(f"judge-{name}", name)
    visitor.click("judge-go")
    visitor.page.wait_for_selector("#judge-picture .bar")


def test_the_page_fits_a_phone_and_a_dark_room(visit: Callable[..., Visitor]) -> None:
    visitor = visit("?model=tiny&__theme=dark", viewport={"width": 390, "height": 844})
    assert visitor.page.evaluate("document.body.classList.contains('dark')")
    assert visitor.page.evaluate("document.documentElement.scrollWidth") <= 390
    visitor.page.locator("#judge-examples tr.tr-body").first.click()
    visitor.until(lambda: visitor.value("judge-question") != "")
    visitor.click("judge-go")
    visitor.page.wait_for_selector("#judge-picture .bar")
    visitor.picture("phone-dark")


def test_visitors_log_in_where_the_page_asks_for_it(browser: Any, tmp_path: Path, servers: Stack) -> None:
    logins = tmp_path / "logins"
    logins.write_text("ada:lovelace\ngrace:hopper\n")
    flags = ("--controller-url", servers.controller.url, "--gradio-auth-path", logins, "--log-dir", tmp_path)
    page = Server("gradio_web_server_judgelm", tmp_path, *flags, imported=["gradio"])
    with running(page):
        page.wait(lambda: page.get("/").status_code < 500)
        opened = browser.new_page()
        opened.goto(page.url)
        opened.wait_for_selector("input[type=password]")
        assert opened.query_selector("#judge-question") is None
        opened.locator("input, textarea").first.fill("grace")
        opened.fill("input[type=password]", "hopper")
        opened.get_by_role("button", name="Login").click()
        opened.wait_for_selector("#judge-question textarea")
        opened.close()
    assert "hopper" not in page.log.read_text()
