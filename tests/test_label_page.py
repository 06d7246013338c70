"""The page of labels in a browser: by keys, by touch, in two tabs, and while its server is killed."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE_S, write_jsonl
from serving import running
from test_label import Record, labels_of, page, pair, start

from judgelm.labelling import LabelSettings

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield opened
        opened.close()


class Tab:
    """The page in a browser; what it says on its console and asks of other servers fails the test."""

    def __init__(self, context: Any, url: str, ready: str = "#row") -> None:
        self.page = context.new_page()
        self.page.set_default_timeout(1000 * PATIENCE_S)
        self.said: list[str] = []
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        server = "/".join(url.split("/")[:3])
        self.page.on(
            "request", lambda one: None if one.url.startswith((server, "data:")) else self.said.append(one.url)
        )
        self.page.goto(url)
        self.page.wait_for_selector(ready)

    def question(self) -> str:
        return str(self.page.inner_text("#dialogue .text >> nth=-1"))

    def first(self) -> str:
        return str(self.page.inner_text(".answer >> nth=0 >> .text >> nth=-1"))

    def press(self, key: str, said: str) -> None:
        """And wait for what the page says."""
        self.page.keyboard.press(key)
        self.page.wait_for_function("said => document.querySelector('#status').textContent.includes(said)", arg=said)
        # it hears the next key once it has shown the next row
        self.page.wait_for_function("!busy")

    def progress(self) -> str:
        return str(self.page.inner_text("#progress"))


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "pairs.jsonl", [pair(k) for k in range(4)])


def votes_of(folder: Path) -> list[Record]:
    return [json.loads(line) for line in (folder / "L.jsonl.votes").read_text(encoding="utf-8").splitlines()]


def test_rows_are_labelled_by_keys_alone(pairs: Path, tmp_path: Path, browser: Any) -> None:
    expected: dict[int, int] = {}
    with page(LabelSettings(pairs, tmp_path / "L.jsonl", people=("anna",))) as (url, people, _):
        context = browser.new_context()
        tab = Tab(context, f"{url}/#{people.tokens['anna']}")
        assert tab.progress() == "0 of 4 done"
        for key, said in (("1", "answer 1 is better"), ("2", "answer 2 is better"), ("0", "both are about equal")):
            number = int(tab.question().split()[1].rstrip("?"))
            straight = tab.first().startswith("left")
            expected[number] = int(key) if straight or key == "0" else 3 - int(key)
            if key == "2":
                # in the box for a reason keys are letters
                tab.page.keyboard.press("r")
                tab.page.keyboard.type("10 reasons, surely")
                tab.page.keyboard.press("Escape")
            tab.press(key, f"Saved: {said}.")
        assert tab.progress() == "3 of 4 done"
        tab.press("s", "Saved: skipped.")
        tab.page.wait_for_selector("#end")
        assert tab.progress() == "4 of 4 done, 1 of them skipped"
        # from the end on, with Tab and Enter: the focus can be seen
        for _ in range(10):
            tab.page.keyboard.press("Tab")
            if tab.page.evaluate("document.activeElement.id") == "skipped":
                break
        assert tab.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        tab.page.keyboard.press("Enter")
        tab.page.wait_for_selector("#row")
        assert tab.page.get_attribute("[data-choice=skip]", "aria-pressed") == "true"
        tab.press("0", "Saved: both")
        assert tab.progress() == "4 of 4 done"
        assert tab.said == []
        context.close()
    found = labels_of(tmp_path / "L.jsonl")
    assert {key: found[key]["label"] for key in expected} == expected
    assert [each for label in found.values() for each in label["reasons"] if each] == ["10 reasons, surely"]


def test_what_was_said_is_taken_back_changed_and_found_again(pairs: Path, tmp_path: Path, browser: Any) -> None:
    with page(LabelSettings(pairs, tmp_path / "L.jsonl", people=("anna",))) as (url, people, _):
        context = browser.new_context()
        tab = Tab(context, f"{url}/#{people.tokens['anna']}")
        tab.press("u", "Nothing to undo.")
        first = tab.question()
        tab.press("1", "Saved")
        second = tab.question()
        tab.press("2", "Saved")
        tab.press("u", "Taken back")
        assert (tab.question(), tab.progress()) == (second, "1 of 4 done")
        # also after the page was opened again
        tab.page.reload()
        tab.page.wait_for_selector("#row")
        assert tab.question() == second
        tab.press("ArrowLeft", "You said: answer 1 is better.")
        assert tab.question() == first
        assert tab.page.get_attribute("[data-choice='1']", "aria-pressed") == "true"
        tab.press("ArrowLeft", "This is your first row.")
        tab.press("0", "Saved: both are about equal.")
        assert (tab.question(), tab.progress()) == (second, "1 of 4 done")
        tab.page.reload()
        tab.page.wait_for_selector("#row")
        tab.press("u", "Taken back")
        assert (tab.question(), tab.progress()) == (first, "0 of 4 done")
        assert tab.said == []
        context.close()
    # in the person's own order the answers may be exchanged
    assert [vote["label"] in (1, 2) for vote in votes_of(tmp_path)] == [True, True, False, False, False]
    assert [vote["label"] for vote in votes_of(tmp_path)][2:] == [None, 0, None]


def test_two_tabs_and_a_dead_server_lose_nothing(pairs: Path, tmp_path: Path, browser: Any) -> None:
    server = start(tmp_path, pairs, "--people", "anna")
    link = next(word for word in server.log.read_text().split() if "/#" in word)
    with running(server):
        context = browser.new_context()
        one, other = Tab(context, link), Tab(context, link)
        same = one.question()
        assert other.question() == same
        one.press("1", "Saved")
        other.press("2", "Saved")
        assert other.progress() == "1 of 4 done"
        before = one.question()
        one.page.fill("#reason", "kept in the box")
        one.page.keyboard.press("Escape")
        server.stop(signal.SIGKILL)
        one.press("2", "Not saved, try again: the server does not answer")
        assert one.page.get_attribute("#status", "class") == "wrong"
        assert one.question() == before
        assert one.page.input_value("#reason") == "kept in the box"
        assert len(votes_of(tmp_path)) == 2
    again = start(tmp_path, pairs, "--people", "bert", "anna", port=server.port)
    with running(again):
        # the same tab goes on
        one.press("2", "Saved: answer 2 is better.")
        assert one.progress() == "2 of 4 done"
        assert (one.said, other.said) == ([], [])
        context.close()
        assert again.stop(signal.SIGINT) == 0
    votes = votes_of(tmp_path)
    assert len({vote["question_id"] for vote in votes}) == 2
    assert votes[2]["reason"] == "kept in the box"
    labelled = [label for label in labels_of(tmp_path / "L.jsonl").values() if label["annotators"]]
    assert sorted(label["label"] for label in labelled) == sorted(vote["label"] for vote in votes[1:])


def test_everybody_may_label_under_a_name(pairs: Path, tmp_path: Path, browser: Any) -> None:
    with page(LabelSettings(pairs, tmp_path / "L.jsonl")) as (url, _, _):
        context = browser.new_context()
        tab = Tab(context, url, "#join")
        assert tab.page.evaluate("document.activeElement.id") == "name"
        tab.page.keyboard.type("Zoë 1")
        tab.page.keyboard.press("Enter")
        tab.page.wait_for_selector("#row")
        tab.press("0", "Saved")
        # the browser knows the name again
        tab.page.reload()
        tab.page.wait_for_selector("#row")
        assert (tab.page.inner_text("#who"), tab.progress()) == ("Zoë 1", "1 of 4 done")
        tab.page.click("#leave")
        tab.page.fill("#name", "Max")
        tab.page.click("#join button")
        tab.page.wait_for_selector("#row")
        assert (tab.page.inner_text("#who"), tab.progress()) == ("Max", "0 of 4 done")
        assert tab.said == []
        context.close()
        # a link that is none
        with page(LabelSettings(pairs, tmp_path / "M.jsonl", people=("anna",))) as (closed, _, _):
            context = browser.new_context()
            lost = Tab(context, f"{closed}/#wrong", "#status:not(:empty)")
            assert "needs the link that you were given" in lost.page.inner_text("#status")
            assert not lost.page.is_visible("#row")
            context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_and_a_dark_room(tmp_path: Path, browser: Any, scheme: str) -> None:
    long = {"answer1_body": "word " * 400, "answer2_body": "x" * 900, "reference": {"text": "y" * 300}}
    pairs = write_jsonl(tmp_path / "pairs.jsonl", [pair("a" * 200, **long), pair(2)])
    with page(LabelSettings(pairs, tmp_path / "L.jsonl", people=("n" * 60,))) as (url, people, _):
        context = browser.new_context(**PHONE, color_scheme=scheme)
        tab = Tab(context, f"{url}/#{people.tokens['n' * 60]}")
        for done in (1, 2):
            assert tab.page.evaluate("document.documentElement.scrollWidth") == 360
            boxes = [each.bounding_box() for each in tab.page.locator("[data-choice]").all()]
            # large enough for a thumb, on the screen wherever the page is scrolled to
            assert all(box["height"] >= 44 and box["width"] >= 44 and box["y"] + box["height"] <= 740 for box in boxes)
            tab.page.tap("[data-choice='1']")
            tab.page.wait_for_function("done => progress.done === done", arg=done)
        back = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (back == "rgb(255, 255, 255)") == (scheme == "light")
        assert tab.said == []
        context.close()


def test_nothing_of_a_row_is_more_than_text(tmp_path: Path, browser: Any) -> None:
    evil = "<script>document.title='broken'</script><img src=x onerror=\"document.title='broken'\"></div>"
    address = "https://example.org/a.png"
    image = {"type": "image_url", "image_url": {"url": address}}
    said = [
        {"role": "user", "content": evil},
        {"role": "assistant", "content": evil},
        {"role": "user", "content": [{"type": "text", "text": evil}, image]},
    ]
    rows = [
        {"question_id": evil, "messages": said, "answer1_body": evil, "answer2_body": evil, "reference": {"text": evil}}
    ]
    pairs = write_jsonl(tmp_path / "pairs.jsonl", rows)
    with page(LabelSettings(pairs, tmp_path / "L.jsonl")) as (url, _, _):
        context = browser.new_context()
        tab = Tab(context, url, "#join")
        tab.page.fill("#name", "<b>anna</b>")
        tab.page.keyboard.press("Enter")
        tab.page.wait_for_selector("#row")
        texts = tab.page.locator(".text").all_inner_texts()
        assert [text.startswith(evil) for text in texts] == [True] * 6
        assert tab.page.inner_text("#who") == "<b>anna</b>"
        assert tab.page.title() == "Which answer is better?"
        assert (tab.page.locator("script").count(), tab.page.locator("img").count()) == (1, 0)
        link = tab.page.locator("a")
        assert (link.get_attribute("href"), link.get_attribute("rel")) == (address, "noopener noreferrer")
        assert tab.said == []
        context.close()
