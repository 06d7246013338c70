from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE_S, ROOT, make_samples, write_jsonl
from forked import python
from judging import judge_args, lasting, run_command
from played import GREEDY, QUICK, TOO_LONG, Handler, Played, Reply, ask, failed, make_requests, wrote
from serving import Server as Process
from serving import running, stack

from judgelm import Judge
from judgelm.engine.interface import Generation, Sampling
from judgelm.engine.openai.engine import OpenAIEngine
from judgelm.engine.openai.requests import Retries, seed_of
from judgelm.engine.openai.server import Server, check_base_url
from judgelm.errors import InputError
from judgelm.prompt import render_prompt

pytestmark = pytest.mark.usefixtures("without_a_key")
KEY = "sk-secret-0123456789"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands wait for a server as little as `QUICK` does."""
    monkeypatch.setattr(OpenAIEngine.__init__, "__defaults__", (QUICK,))


def arguments(url: str, questions: Path, output: Path, *more: str) -> list[str]:
    fixed = ["--engine", "openai", "--model", "some/judge", "--question-file", str(questions)]
    return ["judge", *fixed, "--base-url", url, "--output-dir", str(output), "--orders", "forward", *more]


def kept_in(output: Path) -> list[int]:
    lines = (output / "forward.jsonl.partial").read_text().splitlines()
    return [json.loads(line)["question_id"] for line in lines]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Iterator[Process]:
    started = stack(tmp_path_factory.mktemp("servers"), model_folder, "--dtype", "float32")
    with running(*started):
        yield started[2]


@pytest.mark.parametrize("more", [["--orders", "both"], ["--scores-only"], ["--task", "single"]])
def test_a_server_judges_as_its_model_does_in_this_process(
    more: list[str], api: Process, model_folder: Path, pairs_file: Path, tmp_path: Path, run: Any
) -> None:
    assert run_command([*judge_args(model_folder, pairs_file, tmp_path / "hf", *more), "--dtype", "float32"]) == 0
    shared = ["--question-file", pairs_file, "--output-dir", tmp_path / "out", "--max-new-token", "24"]
    command = ["judge", "--engine", "openai", "--model", "random-llama", "--base-url", f"{api.url}/v1", *shared]
    result = run("-m", "judgelm", *command, "--temperature", "0", *more)
    assert result.returncode == 0, result.stderr
    names = [path.name for path in (tmp_path / "hf").glob("*.jsonl")]
    assert len(names) == (1 if "single" in more else 2)
    for name in names:
        assert lasting(tmp_path / "out" / name) == lasting(tmp_path / "hf" / name)
    settings = json.loads((tmp_path / "out" / "run.json").read_text())["settings"]
    assert settings["engine"] == "openai"
    assert (settings["base_url"], settings["api"]) == (f"{api.url}/v1", "completions")


def test_our_server_is_asked_by_chat_and_a_prompt_too_long_for_it_is_refused(api: Process, tmp_path: Path) -> None:
    records = [sample.to_record() for sample in make_samples(3)]
    records[1]["question_body"] = "why? " * 3000
    questions = write_jsonl(tmp_path / "q.jsonl", records)
    for kind in ("chat", "completions"):
        more = ("--model", "random-llama", "--api", kind, "--max-new-token", "8")
        assert run_command(arguments(f"{api.url}/v1", questions, tmp_path / kind, *more)) == 0
        reasons = [r["pred_finish_reason"] for r in lasting(tmp_path / kind / "forward.jsonl")]
        assert [reason == "refused" for reason in reasons] == [False, True, False]


def test_an_unknown_model_ends_the_run_in_one_line(
    api: Process, pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(arguments(f"{api.url}/v1", pairs_file, tmp_path)) == 2
    assert "does not know model some/judge" in capsys.readouterr().err
    assert run_command(arguments(api.url, pairs_file, tmp_path, "--model", "random-llama")) == 2
    assert "the base URL of most servers ends in /v1" in capsys.readouterr().err


def test_faults_that_pass_are_tried_again() -> None:
    faults = {
        0: failed(429, "slow down", Retry_After="0"),
        1: failed(500, "oops"),
        2: Reply(200, None),
        3: Reply(200, '{"choices": ['),
        4: Reply(200, {"choices": []}),
        5: failed(408, "too slow"),
        6: Reply(503, "<html>busy</html>"),
        7: Reply(200, "null"),
    }
    with Played(lambda number, before: faults[number] if before < 2 else wrote()) as server:
        found = ask(server, len(faults))
    assert {g.text for g in found.values()} == {"8 7\nreasons"}
    assert Counter(server.numbers()) == dict.fromkeys(range(len(faults)), 3)


def later(seconds: float, answer: Any) -> Any:
    time.sleep(seconds)
    return answer


def test_an_answer_that_takes_too_long_is_asked_for_again() -> None:
    with Played(lambda _, before: wrote() if before else later(0.5, wrote("late"))) as server:
        assert ask(server, 1, timeout_s=0.2)["0"].text == "8 7\nreasons"


NO_ANSWER: dict[str, Reply] = {
    "no choice": Reply(200, {"choices": [], "usage": {}}),
    "an error under 200": Reply(200, {"error": {"message": "Provider returned error", "code": 502}}),
    "no content": Reply(200, {"choices": [{"message": {"content": None}, "text": None, "finish_reason": "stop"}]}),
    "no message": Reply(200, {"choices": [{"index": 0}]}),
    "HTML": Reply(200, "<html>hello</html>"),
    "HTML of a gateway": Reply(502, "<html>Bad Gateway</html>"),
    "a body cut off": Reply(200, None),
    "a filtered prompt": failed(400, "triggering the content management policy", "content_filter"),
    "a filtered answer": wrote("", "content_filter"),
}


@pytest.mark.parametrize("api", ["chat", "completions"])
@pytest.mark.parametrize("kind", NO_ANSWER)
def test_one_prompt_without_a_usable_answer_is_refused_and_the_run_ends_well(
    kind: str, api: str, pairs_file: Path, tmp_path: Path, quick: None
) -> None:
    with Played(lambda number, _: NO_ANSWER[kind] if number == 3 else wrote()) as server:
        command = arguments(server.url, pairs_file, tmp_path, "--api", api)
        assert run_command(command) == 0
        asked = len(server.asked)
        assert run_command(command) == 0
        assert len(server.asked) == asked
    records = lasting(tmp_path / "forward.jsonl")
    assert {r["question_id"]: r["pred_finish_reason"] for r in records} == {
        k: "refused" if k == 3 else "stop" for k in range(12)
    }
    counts = json.loads((tmp_path / "run.json").read_text())["counts"]["forward"]
    assert (counts["total"], counts["refused"], counts["ok"]) == (12, 1, 11)


def test_an_unusable_answer_is_paid_for_three_times_at_most() -> None:
    with Played(lambda number, _: Reply(200, {"choices": []}) if number else wrote()) as server:
        ask(server, 2)
    assert server.numbers() == [0, 1, 1, 1]


def test_the_last_prompt_of_a_run_is_refused_though_nothing_else_is_answered_any_more(
    pairs_file: Path, tmp_path: Path, quick: None
) -> None:
    with Played(lambda *_: wrote()) as server:
        assert run_command(arguments(server.url, pairs_file, tmp_path, "--limit", "11")) == 0
        server.play = lambda *_: failed(500, "oops")
        assert run_command(arguments(server.url, pairs_file, tmp_path)) == 0
    reasons = [r["pred_finish_reason"] for r in lasting(tmp_path / "forward.jsonl")]
    assert reasons == ["stop"] * 11 + ["refused"]


def test_a_server_that_never_gave_a_usable_answer_ends_the_run_in_one_line(
    pairs_file: Path, tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with Played(lambda *_: Reply(200, {"choices": []})) as server:
        assert run_command(arguments(server.url, pairs_file, tmp_path)) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f"judgelm: error: {server.url} gives no usable answer (200, but there is no text")
    assert not (tmp_path / "forward.jsonl").exists()


def test_a_server_that_breaks_down_in_the_middle_ends_the_run_and_the_rest_is_not_refused() -> None:
    with Played(lambda number, before: wrote() if number < 9 else failed(500, "oops")) as server:
        engine = OpenAIEngine(Server(server.url, "m", max_concurrency=8), Retries(2, 0.01, 0.01))
        found: list[Generation] = []
        with pytest.raises(InputError, match=r"gives no usable answer \(500 oops, 2 times\); what was judged is kept"):
            found.extend(engine.generate(make_requests(120), GREEDY))
    # but those that had failed already while the last answers came
    assert sum(generation.finish_reason == "refused" for generation in found) <= 8
    assert len(found) >= 9


def test_no_credit_left_ends_the_run_in_one_line_and_what_was_judged_is_kept(
    pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = (0, 10, 11)
    quota = failed(429, "You exceeded your current quota", "insufficient_quota")
    with Played(lambda number, _: wrote() if number in first else quota) as server:
        assert run_command(arguments(server.url, pairs_file, tmp_path, "--max-concurrency", "1")) == 2
        assert capsys.readouterr().err.strip().splitlines()[-1] == (
            f"judgelm: error: {server.url} refuses all requests (429 You exceeded your current quota); what was"
            " judged is kept, the same command goes on"
        )
        assert len(server.asked) == 4
    assert kept_in(tmp_path) == list(first)


@pytest.mark.parametrize(
    ("message", "code", "hint"),
    [
        (
            "Unsupported value: 'temperature' does not support 0.2 with this model.",
            "unsupported_value",
            """try --temperature 1, or --request-fields '{"temperature": null}'""",
        ),
        (
            "temperature is deprecated for this model",
            None,
            """try --temperature 1, or --request-fields '{"temperature": null}'""",
        ),
        (
            "Use 'max_completion_tokens' instead of 'max_tokens'",
            "unsupported_parameter",
            """try --request-fields '{"max_tokens": null, "max_completion_tokens": 4096}'""",
        ),
        ("extra fields: seed", None, """try --request-fields '{"seed": null}'"""),
    ],
)
def test_a_field_that_the_server_does_not_take_is_told_with_the_flag_that_helps(
    message: str, code: str | None, hint: str
) -> None:
    with Played(lambda *_: failed(400, message, code)) as server, pytest.raises(InputError, match=re.escape(hint)):
        ask(server, 3)


def test_the_time_limit_holds_for_a_server_that_drips() -> None:
    class Dripping(Handler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(100):
                    self.wfile.write(b" ")
                    time.sleep(0.05)

    with Played(lambda *_: wrote()) as server:
        server.RequestHandlerClass = Dripping
        engine = OpenAIEngine(Server(server.url, "m", timeout_s=0.3), Retries(2, 0.01, 0.01))
        begun = time.monotonic()
        with pytest.raises(InputError, match=r"no whole answer within 0\.3 s, 2 times"):
            list(engine.generate(make_requests(1), GREEDY))
        assert time.monotonic() - begun < 4


def test_an_endless_answer_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("judgelm.engine.openai.requests._MOST_BYTES", 1 << 20)
    with Played(lambda number, _: wrote("8 " * (1 << 20)) if number else wrote()) as server:
        found = ask(server, 2)
    assert [found[key].finish_reason for key in "01"] == ["stop", "refused"]


def test_a_server_on_this_machine_is_asked_without_the_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with Played(lambda *_: wrote()) as server:
        assert ask(server, 1)["0"].text == "8 7\nreasons"
    monkeypatch.setenv("http_proxy", "nonsense://x")
    with pytest.raises(InputError, match="the proxy that the environment names cannot be used"):
        list(OpenAIEngine(Server("http://judge.example/v1", "m"), QUICK).generate(make_requests(1), GREEDY))


def test_retry_after_is_waited_for() -> None:
    with Played(lambda _, before: wrote() if before else failed(429, "slow down", Retry_After="1")) as server:
        ask(server, 1)
    (_, first), (_, second) = server.asked
    assert second - first >= 1


def test_waits_are_drawn_from_a_bound_that_doubles() -> None:
    retries, rng = Retries(first_wait_s=1, longest_wait_s=20), random.Random(0)
    for attempt, bound in ((1, 1), (2, 2), (3, 4), (5, 16), (6, 20), (50, 20)):
        waits = [retries.wait_s(attempt, None, rng) for _ in range(500)]
        assert 0 <= min(waits) < 0.05 * bound
        assert 0.95 * bound < max(waits) <= bound


def test_a_server_that_is_away_ends_the_run_after_so_many_attempts() -> None:
    with Played(lambda *_: failed(503, "no worker is there")) as server:
        with pytest.raises(InputError, match=r"no answer in 4 attempts \(503 no worker is there\)"):
            ask(server, 3)
        assert max(Counter(server.numbers()).values()) == 4
    with pytest.raises(InputError, match=r"no answer in 4 attempts \(ConnectError"):
        ask(server, 3)


def test_a_prompt_at_which_the_server_breaks_is_refused_while_others_are_answered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Played(lambda number, _: failed(500, "oops") if number == 1 else wrote(), 0.02) as server:
        found = ask(server, 4, max_concurrency=2)
    assert {key: g.finish_reason for key, g in found.items()} == {
        key: "refused" if key == "1" else "stop" for key in ("0", "1", "2", "3")
    }
    assert "question_id 1 is refused: 500 oops, 4 times" in caplog.text


def test_a_refused_prompt_is_recorded_and_counted_and_the_run_goes_on(
    pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    refusals = {3: TOO_LONG, 5: failed(400, "The prompt was flagged", "content_policy_violation")}
    refusals[7] = wrote("", "content_filter")
    with Played(lambda number, _: refusals.get(number) or wrote()) as server:
        assert run_command(arguments(server.url, pairs_file, tmp_path, "--max-new-token", "24")) == 0
    records = lasting(tmp_path / "forward.jsonl")
    assert [r["question_id"] for r in records if r["pred_finish_reason"] == "refused"] == [3, 5, 7]
    assert [r["pred_scores"] for r in records] == [None if k in refusals else [8, 7] for k in range(12)]
    assert server.numbers() == list(range(12))
    out = capsys.readouterr().out
    assert "forward: 12 judged, 3 unparsed, 3 refused" in out
    counts = json.loads((tmp_path / "run.json").read_text())["counts"]["forward"]
    assert (counts["refused"], counts["failed"]) == (3, 3)
    assert "question_id 3 is refused: 400 This model's maximum context length" in caplog.text


def test_a_judgement_gets_less_room_where_the_context_is_full() -> None:
    with Played(lambda _, before: wrote() if before > 1 else TOO_LONG) as server:
        found = ask(server, 1, Sampling(max_new_tokens=2048))
    assert found["0"].text == "8 7\nreasons"
    assert [body["max_tokens"] for body in server.bodies] == [2048, 1024, 512]


def test_a_request_that_the_server_never_takes_is_no_refused_prompt(
    pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Played(lambda *_: failed(422, "seed: extra fields are not permitted")) as server:
        assert run_command(arguments(server.url, pairs_file, tmp_path)) == 2
        assert "takes no request: 422 seed: extra fields are not permitted" in capsys.readouterr().err
        server.play = lambda *_: failed(400, "use max_completion_tokens", "unsupported_parameter")
        assert run_command(arguments(server.url, pairs_file, tmp_path)) == 2
        assert "refuses all requests (400 use max_completion_tokens)" in capsys.readouterr().err
    with Played(lambda *_: wrote()) as server:
        fields = '{"max_tokens": null, "max_completion_tokens": 9, "seed": null}'
        assert run_command(arguments(server.url, pairs_file, tmp_path, "--request-fields", fields)) == 0
    assert {frozenset(body) for body in server.bodies} == {
        frozenset({"model", "prompt", "max_completion_tokens", "temperature"})
    }


def test_a_bad_key_ends_the_run_in_one_line_that_does_not_show_it(
    pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    # prompts go out in the order of their texts
    first = (0, 10, 11)
    with Played(lambda number, _: wrote() if number in first else failed(401, f"Incorrect API key: {KEY}")) as server:
        one_by_one = ("--max-concurrency", "1")
        assert run_command(arguments(server.url, pairs_file, tmp_path, *one_by_one)) == 2
        said = capsys.readouterr()
        last = said.err.strip().splitlines()[-1]
        assert last.startswith(f"judgelm: error: {server.url} refuses the API key (401 Unauthorized)")
        assert server.keys == {f"Bearer {KEY}"}
        server.play = lambda *_: failed(403, f"no access for {KEY}")
        assert run_command(arguments(server.url, pairs_file, tmp_path, *one_by_one)) == 2
        said2 = capsys.readouterr()
        assert "refuses all requests (403 no access for ***)" in said2.err
        kept = kept_in(tmp_path)
        assert kept == list(first)
        server.play, server.asked, server.keys = lambda *_: wrote(), [], set()
        monkeypatch.setenv("MY_KEY", "other")
        assert run_command(arguments(server.url, pairs_file, tmp_path, "--api-key-variable", "MY_KEY")) == 0
    assert server.numbers() == list(range(1, 10))
    assert server.keys == {"Bearer other"}
    written = "".join(path.read_text() for path in tmp_path.iterdir() if path.is_file())
    assert KEY not in written + said.out + said.err + said2.out + said2.err
    assert KEY not in repr(Server("http://x", "m", key=KEY))


def test_no_more_requests_than_allowed_are_under_way() -> None:
    with Played(lambda *_: wrote(), 0.02) as server:
        assert len(ask(server, 20, max_concurrency=3)) == 20
    assert server.most == 3


def test_requests_are_spaced_over_the_minute() -> None:
    with Played(lambda _, before: wrote() if before else failed(500, "once")) as server:
        began = time.monotonic()
        ask(server, 5, requests_per_minute=1200)
    times = [at for _, at in server.asked]
    assert len(times) == 10
    # however slow the machine is, the last one does not leave before its turn
    assert max(times) - began > 9 * 0.05 - 0.01


def test_a_run_ended_by_ctrl_c_asks_only_for_the_rest(pairs_file: Path, tmp_path: Path) -> None:
    with Played(lambda *_: wrote(), 0.15) as server:
        command = arguments(server.url, pairs_file, tmp_path, "--max-concurrency", "2")
        # a shell that starts the tests in the background lets them ignore it
        process = subprocess.Popen(
            [python(), "-m", "judgelm", *command],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        while len(server.asked) < 5:
            time.sleep(0.01)
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 130, err
        assert "what was judged is kept" in err
        assert "Traceback" not in err
        kept = kept_in(tmp_path)
        assert 2 <= len(kept) < 12
        time.sleep(0.2)  # what was under way is heard of
        server.asked, server.pause_s = [], 0
        assert run_command(command) == 0
    assert server.numbers() == sorted(set(range(12)) - set(kept))
    assert [r["question_id"] for r in lasting(tmp_path / "forward.jsonl")] == list(range(12))


def test_closing_early_cancels_what_is_under_way() -> None:
    with Played(lambda *_: wrote()) as server:
        generations = OpenAIEngine(Server(server.url, "m", max_concurrency=2)).generate(make_requests(9), Sampling())
        server.play = lambda number, _: wrote() if number == 0 else later(3, wrote())
        assert next(iter(generations)).key == "0"
        begun = time.monotonic()
        generations.close()  # type: ignore[attr-defined]
        assert time.monotonic() - begun < 1
        time.sleep(0.3)
        assert len(server.asked) <= 3


def test_a_notebook_with_a_running_loop_can_judge() -> None:
    async def notebook() -> Any:
        return Judge(OpenAIEngine(Server(server.url, "m"), QUICK)).judge(make_samples(2), orders="both")

    with Played(lambda *_: wrote()) as server:
        assert [verdict.scores for verdict in asyncio.run(notebook())] == [(7.5, 7.5)] * 2


def test_what_is_sent_comes_from_the_settings_and_the_seed_from_the_id() -> None:
    sampling = Sampling(temperature=0.5, max_new_tokens=7, stop=("\n",), seed=3, top_p=0.9)
    with Played(lambda *_: wrote()) as server:
        assert ask(server, 1, sampling)["0"].text == "8 7"
        ask(server, 1, sampling, api="chat")
    prompt = render_prompt(make_samples(1)[0])
    shared = {"model": "m", "max_tokens": 7, "temperature": 0.5, "top_p": 0.9, "seed": seed_of(3, "0")}
    message = {"role": "user", "content": prompt}
    assert server.bodies == [{**shared, "prompt": prompt, "stop": ["\n"]}, {**shared, "messages": [message]}]
    seeds = {seed_of(seed, key) for seed in range(3) for key in ("0", "1", "half \ud83d")}
    assert len(seeds) == 9
    assert max(seeds) < 2**31


def test_tokens_are_recorded_and_the_cost_of_a_run_is_told_and_kept(
    pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prices = ("--price-per-million-tokens", "2.5", "10")
    with Played(lambda *_: wrote()) as server:
        assert run_command(arguments(server.url, pairs_file, tmp_path, *prices, "--limit", "5")) == 0
        assert run_command(arguments(server.url, pairs_file, tmp_path, *prices)) == 0
    # 12 x 100 tokens for 2.5 and 12 x 20 for 10
    assert "cost: 0.0054 (1200 prompt tokens, 240 generated tokens)" in capsys.readouterr().out
    records = lasting(tmp_path / "forward.jsonl")
    assert {(r["pred_prompt_tokens"], r["pred_tokens"], r["pred_model_id"]) for r in records} == {(100, 20, "judge")}
    sessions = json.loads((tmp_path / "run.json").read_text())["sessions"]
    assert [session["engine"]["prompt_tokens"] for session in sessions] == [500, 700]
    assert [session["engine"]["cost"] for session in sessions] == [0.00225, 0.00315]


def test_a_run_is_not_continued_with_another_server(
    pairs_file: Path, tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Played(lambda *_: wrote()) as server:
        assert run_command(arguments(server.url, pairs_file, tmp_path)) == 0
    for url, more, said in (
        ("http://127.0.0.1:9/v1", (), "base_url was"),
        (server.url, ("--api", "chat"), "api was 'completions', now 'chat'"),
        (server.url, ("--model", "b"), "model was 'some/judge', now 'b'"),
        (server.url, ("--request-fields", '{"top_k": 1}'), "request_fields was {}, now {'top_k': 1}"),
    ):
        assert run_command(arguments(url, pairs_file, tmp_path, *more)) == 2
        assert said in capsys.readouterr().err
    assert run_command(judge_args(model_folder, pairs_file, tmp_path, "--orders", "forward")) == 2
    assert "engine was 'openai', now 'hf'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--constrained"], "--constrained needs a model in this process"),
        (["--base-url", "127.0.0.1:8000"], "--base-url '127.0.0.1:8000': expected a URL such as"),
        (["--base-url", "http://h:1/v1/chat/completions"], "expected the part before /completions"),
        (["--base-url", "http://me:secret@h/v1"], "a key goes into a variable"),
        (["--base-url", "http://h:port/v1"], "expected a URL such as"),
        (["--base-url", "http://h:99999/v1"], "expected a URL such as"),
        (["--base-url", "http://xn--a/v1"], "expected a URL such as"),
        (["--base-url", "http://h\x7f/v1"], "expected a URL such as"),
        (["--api-key-variable", "NOT_THERE"], "the environment has no such variable"),
        (["--device", "cpu"], "--device is not for --engine openai"),
        (["--engine", "hf"], "--base-url is not for --engine hf"),
        (["--requests-per-minute", "0"], "expected a number above 0, found 0"),
        (["--request-fields", "[1]"], "expected a JSON object, found [1]"),
    ],
)
def test_flags_that_cannot_be_are_refused_before_anything_is_asked(
    more: list[str], said: str, pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(arguments("http://127.0.0.1:9/v1", pairs_file, tmp_path / "out", *more)) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "me:secret" not in err
    assert not (tmp_path / "out").exists()


def test_url_and_key_come_from_the_environment(
    pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["judge", "--engine", "openai", "--model", "m", "--question-file", str(pairs_file), "--output-dir"]
    assert run_command([*command, str(tmp_path / "out")]) == 2
    assert "needs --base-url URL, or OPENAI_BASE_URL in the environment" in capsys.readouterr().err
    monkeypatch.setenv("OPENAI_BASE_URL", "ftp://h")
    assert run_command([*command, str(tmp_path / "out")]) == 2
    assert "OPENAI_BASE_URL 'ftp://h': expected a URL" in capsys.readouterr().err
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\nHost: x")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9")
    assert run_command([*command, str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert "OPENAI_API_KEY holds characters that no API key has" in err
    assert KEY not in err
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")
    with Played(lambda *_: wrote()) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/")
        assert run_command([*command, str(tmp_path / "out")]) == 0
    assert server.keys == {f"Bearer {KEY}"}
    assert check_base_url("https://h/v1/", "--base-url") == "https://h/v1"


def test_asking_a_server_loads_neither_torch_nor_transformers(pairs_file: Path, tmp_path: Path, run: Any) -> None:
    code = (
        "import sys, atexit; from judgelm.cli import main;"
        "atexit.register(lambda: print(sorted({'torch', 'transformers', 'openai'} & set(sys.modules))));"
        "main(sys.argv[1:])"
    )
    with Played(lambda *_: wrote()) as server:
        result = run("-c", code, *arguments(server.url, pairs_file, tmp_path))
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "[]"
