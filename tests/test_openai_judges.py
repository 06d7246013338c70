"""Judges behind a server that think first, or answer in a chat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from played import Played, Reply, ask, make_requests, wrote

from judgelm.engine.interface import Sampling
from judgelm.engine.openai.engine import OpenAIEngine
from judgelm.engine.openai.server import Server
from judgelm.judgement import Judgement

pytestmark = pytest.mark.usefixtures("without_a_key")
SCORES_ONLY = Sampling(max_new_tokens=32, stop=("\n",), most_thoughts=2048)
THOUGHTS = "<think>\nLet me see.\nMaybe 3 4?\n</think>\n\n"


def played_model(text: str) -> Callable[[int, int], Reply]:
    """A model that writes `text`, as far as room and stop strings let it."""

    def play(_number: int, _before: int) -> Reply:
        body = server_of[0].bodies[-1]
        ends = [text.find(stop) for stop in body.get("stop") or [] if stop in text]
        written = text[: min(ends)] if ends else text
        short = body["max_tokens"] < 100
        # a short room ends in the middle of thoughts and reasons
        return wrote(written[:20], "length") if short and len(written) > 20 else wrote(written)

    return play


server_of: list[Played] = []


@pytest.mark.parametrize("api", ["chat", "completions"])
@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (f"{THOUGHTS}8 7\nFirst is fuller.", f"{THOUGHTS}8 7"),
        ("8 7\nFirst is fuller, and by far.", "8 7"),
    ],
)
def test_scores_only_reads_a_judge_that_thinks_first(text: str, kept: str, api: Any) -> None:
    with Played(played_model(text)) as server:
        server_of[:] = [server]
        found = ask(server, 6, SCORES_ONLY, api=api, max_concurrency=1)
    assert {(g.text, g.finish_reason) for g in found.values()} == {(kept, "stop")}
    rooms = [body["max_tokens"] for body in server.bodies]
    # once it is known, thoughts have their room from the start
    assert rooms == ([32, *[2080] * 6] if text.startswith("<") else [32] * 6)
    tokens = sorted(g.num_tokens for g in found.values())
    assert tokens == ([20] * 5 + [40] if text.startswith("<") else [20] * 6)


@pytest.mark.parametrize(
    ("text", "kept", "scores"),
    [
        ("**Scores:**\n8 7\nFirst is fuller.", "**Scores:**\n8 7", (8, 7)),
        ("Both are good, First is fuller.\n\n8 7", "Both are good, First is fuller.\n\n8 7", (8, 7)),
        ("Maybe 3 4?\n</think>\n8 7\nwhy", "Maybe 3 4?\n</think>\n8 7", (8, 7)),
        ("I cannot say which one\nis better.", "I cannot say which one\nis better.", None),
    ],
)
def test_scores_only_over_chat_keeps_a_text_up_to_its_scores(
    text: str, kept: str, scores: tuple[int, int] | None
) -> None:
    with Played(played_model(text)) as server:
        server_of[:] = [server]
        found = ask(server, 1, SCORES_ONLY, api="chat")["0"]
    assert (found.text, Judgement.parse(found.text).scores) == (kept, scores)


def test_thoughts_that_never_end_are_counted_as_length() -> None:
    with Played(lambda *_: wrote("<think>\nMaybe\n8 7", "length")) as server:
        found = ask(server, 1, SCORES_ONLY, api="chat")["0"]
    assert (found.finish_reason, Judgement.parse(found.text).scores) == ("length", None)


@pytest.mark.parametrize("text", ["8 7\nreasons", "\n\n8 7\nreasons", "8 7"])
def test_a_chat_that_begins_with_a_newline_still_writes_its_scores(text: str) -> None:
    with Played(lambda *_: wrote(text, "length")) as server:
        found = ask(server, 1, Sampling(stop=("\n",)), api="chat")["0"]
    assert (found.text, found.finish_reason) == ("8 7", "stop" if "reasons" in text else "length")


@pytest.mark.parametrize(
    ("text", "scores"),
    [
        (" 7\nreasons", (10, 7)),
        ("7\nreasons", (10, 7)),
        ("10 7\nreasons", (10, 7)),
        ("\n10 7\nreasons", (10, 7)),
        ("10, 7\nreasons", (10, 7)),
        ("10\nas good", (10, 10)),
        ("9 7\ngraded anew", None),
        ("**10 7**\nreasons", (10, 7)),
        ("**7**\nreasons", (10, 7)),
        ("Score: 7\nreasons", (10, 7)),
        ("Assistant 1: 10, Assistant 2: 7\nreasons", (10, 7)),
        ("As good.\n\n[10, 7]", (10, 7)),
        ("<think>\n3 4\n</think>\n\n10 7\nreasons", (10, 7)),
        ("<think>\n3 4\n</think>\n\n7\nreasons", (10, 7)),
        ("**9 7**\ngraded anew", None),
        ("I cannot say", None),
        ("", None),
    ],
)
def test_a_chat_may_go_on_after_the_prefill_or_begin_anew(text: str, scores: tuple[int, ...] | None) -> None:
    with Played(lambda *_: wrote(text)) as server:
        engine = OpenAIEngine(Server(server.url, "m", api="chat"))
        (found,) = engine.generate(make_requests(1, prefill="10"), Sampling())
    assert server.bodies[0]["messages"][0]["content"].endswith("### Response:10")
    assert Judgement.parse("10" + found.text).scores == scores
