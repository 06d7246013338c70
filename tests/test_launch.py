from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import PATIENCE_S, ROOT
from forked import python
from serving import free_port

from judgelm.cli import main
from judgelm.errors import InputError
from judgelm.serve.client import APIError, Client


class Launched:
    """`judgelm serve` and what it printed."""

    def __init__(self, folder: Path, *flags: str | Path, cwd: Path = ROOT, **env: str) -> None:
        self.page, self.api, self.logs = free_port(), free_port(), folder / "logs"
        self.output = folder / "output"
        ports = ("--port", str(self.page), "--api-port", str(self.api), "--log-dir", str(self.logs))
        command = [python(), "-m", "judgelm", "serve", "--device", "cpu", *ports, *map(str, flags)]
        with self.output.open("wb") as output:
            settings: dict[str, Any] = {"cwd": cwd, "env": os.environ | {"PYTHONPATH": str(ROOT)} | env}
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, **settings)

    @property
    def text(self) -> str:
        return self.output.read_text(encoding="utf-8")

    def wait_until_ready(self) -> str:
        """The controller's address."""
        end = time.monotonic() + PATIENCE_S
        while "Ctrl-C stops" not in self.text:
            assert self.process.poll() is None, self.text
            assert time.monotonic() < end, self.text
            time.sleep(0.2)
        return next(line.split()[1] for line in self.text.splitlines() if line.startswith("controller"))


@contextmanager
def launched(folder: Path, *flags: str | Path, cwd: Path = ROOT, **env: str) -> Iterator[Launched]:
    started = Launched(folder, *flags, cwd=cwd, **env)
    try:
        yield started
    finally:
        started.process.send_signal(signal.SIGTERM)
        started.process.wait(PATIENCE_S)


def answers(url: str) -> bool:
    try:
        httpx.get(url, timeout=5, trust_env=False)
    except httpx.TransportError:
        return False
    return True


def gone(*urls: str) -> bool:
    end = time.monotonic() + PATIENCE_S
    while any(answers(url) for url in urls):
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def test_one_command_serves_two_models_until_ctrl_c(tmp_path: Path, model_folder: Path) -> None:
    other = tmp_path / "other"
    other.symlink_to(model_folder)
    flags = ("--served-model-name", "org/first", "org/other", "--drain-timeout", "900")
    with launched(tmp_path, "--model", model_folder, other, *flags) as started, ThreadPoolExecutor() as pool:
        controller = started.wait_until_ready()
        page, api = f"http://127.0.0.1:{started.page}", f"http://127.0.0.1:{started.api}"
        client = Client(api)
        assert client.models() == ["org/first", "org/other"]
        verdict = client.judge("2 + 2?", ["4", "5"], model="org/other", max_new_tokens=8, constrained=True)
        assert verdict["outcome"] in ("win", "tie", "lose")
        results = client.judge_all(
            [{"question_id": k, "question": f"{k}?", "answers": ["a", "b"]} for k in range(3)],
            model="org/first",
            max_new_tokens=4,
        )
        assert [result["question_id"] for result in results] == [0, 1, 2]
        assert httpx.get(page + "/config", trust_env=False).status_code == 200
        with pytest.raises(APIError, match="'model' is missing") as refused:
            client.judge("2 + 2?", ["4", "5"])
        assert (refused.value.status, refused.value.code) == (400, "invalid_request")
        names = {"controller.log", "worker-0-org-first.log", "worker-1-org-other.log", "api.log", "page.log"}
        assert {path.name for path in started.logs.iterdir()} == names
        # what runs ends, and nothing new is begun
        many = [{"question_id": k, "question": f"{k}?", "answers": ["a", "b"]} for k in range(12)]
        last = pool.submit(client.judge_all, many, model="org/first", max_new_tokens=200)
        wait_for(lambda: "judgelm_requests_in_progress 1.0" in httpx.get(api + "/metrics", trust_env=False).text)
        started.process.send_signal(signal.SIGINT)
        assert [len(result["judgements"]) for result in last.result(PATIENCE_S)] == [2] * 12
        assert started.process.wait(PATIENCE_S) == 0
        assert gone(page, api, controller)
    with pytest.raises(APIError, match="does not answer"):
        client.models()


def test_workers_join_the_controller_of_another_command_and_no_part_outlives_a_hurried_or_killed_one(
    tmp_path: Path, model_folder: Path
) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    second_model = tmp_path / "second-model"
    second_model.symlink_to(model_folder)
    with launched(tmp_path / "first", "--model", model_folder) as first:
        controller = first.wait_until_ready()
        flags = ("--workers-only", "--controller-address", controller, "--num-workers", "2", "--drain-timeout", "900")
        with launched(tmp_path / "second", "--model", second_model, *flags) as second, ThreadPoolExecutor() as pool:
            second_logs = second.logs
            end = time.monotonic() + PATIENCE_S
            while "Ctrl-C stops" not in second.text:
                assert time.monotonic() < end, second.text
                time.sleep(0.2)
            api = f"http://127.0.0.1:{first.api}"
            client = Client(api)
            assert client.models() == ["random-llama", "second-model"]
            # not more than are written at once
            many = [{"question_id": k, "question": f"{k}?", "answers": ["a", "b"]} for k in range(16)]
            lost = pool.submit(client.judge_all, many, model="second-model", max_new_tokens=1500)
            writing = re.compile(r'judgelm_worker_requests_running\{model="second-model",.*\} [1-9]')
            wait_for(lambda: writing.search(httpx.get(api + "/metrics", trust_env=False).text))
            second.process.send_signal(signal.SIGTERM)
            wait_for(lambda: client.models() == ["random-llama"])
            # the workers write to the end, but for who says it twice
            assert second.process.poll() is None
            second.process.send_signal(signal.SIGTERM)
            assert second.process.wait(PATIENCE_S) == 0
            with pytest.raises(APIError):
                lost.result(PATIENCE_S)
        names = {path.name for path in second_logs.iterdir()}
        assert names == {"worker-0-second-model.log", "worker-1-second-model.log"}
        first.process.kill()
        first.process.wait()
        # Linux alone tells a process that its parent has died
        if sys.platform == "linux":
            assert gone(f"http://127.0.0.1:{first.page}", f"http://127.0.0.1:{first.api}", controller)


def wait_for(ready: Any, seconds: float = PATIENCE_S) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.3)


def worker_of(port: str) -> int:
    """The process of the worker that listens there."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"judgelm.serve.model_worker" in command and port.encode() in command:
            return int(folder.name)
    raise AssertionError(f"nothing listens on {port}")


@pytest.mark.skipif(sys.platform != "linux", reason="finds a worker's process in /proc")
def test_a_killed_worker_comes_back_while_the_other_serves_and_no_part_asks_a_proxy(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # nobody listens there, and no library for SOCKS is needed
    dead = dict.fromkeys(("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"), "http://127.0.0.1:9")
    dead |= {"all_proxy": "socks5://127.0.0.1:9", "ALL_PROXY": "socks5://127.0.0.1:9", "no_proxy": "", "NO_PROXY": ""}
    # the folder that one stands in has a name too
    flags = ("--model", ".", "--num-workers", "2")
    with launched(tmp_path, *flags, cwd=model_folder, **dead) as started:
        controller = started.wait_until_ready()
        for name, value in dead.items():
            monkeypatch.setenv(name, value)
        client = Client(f"http://127.0.0.1:{started.api}")
        assert client.models() == ["random-llama"]
        assert httpx.get(f"http://127.0.0.1:{started.page}", trust_env=False).status_code == 200

        def health() -> Any:
            return httpx.get(f"http://127.0.0.1:{started.api}/health", trust_env=False).json()

        def addresses() -> set[str]:
            found = set()
            for _ in range(4):
                asked = httpx.post(controller + "/get_worker_address", json={"model": "random-llama"}, trust_env=False)
                found.add(asked.json()["address"])
            return found

        wait_for(lambda: len(addresses()) == 2)
        assert health()["status"] == "ok"
        first = sorted(addresses())[0]
        os.kill(worker_of(first.rsplit(":", 1)[1]), signal.SIGKILL)
        wait_for(lambda: health()["status"] == "degraded", 30)
        assert health()["missing"] == ["random-llama"]
        assert client.judge("2 + 2?", ["4", "5"], max_new_tokens=4)["judgements"]
        assert "ended with exit code -9" in started.text
        assert "it is started again in 1 s" in started.text
        wait_for(lambda: health()["status"] == "ok" and len(addresses()) == 2)
        assert first in addresses()


def test_mistakes_end_in_one_line_and_leave_nothing_running(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with launched(tmp_path, "--model", tmp_path / "nothing") as started:
        assert started.process.wait(PATIENCE_S) == 2
        assert "worker-0-nothing ended with exit code 2" in started.text.strip().splitlines()[-1]
        assert gone(f"http://127.0.0.1:{started.page}")
    for flags, said in (
        (["--workers-only"], "belong together"),
        (["--num-workers", "0"], "expected 1 or more"),
        (["--workers-only", "--controller-address", "http://192.0.2.1:21001"], "cannot reach that"),
        (["--model", "tiny", "tiny"], "each name may come once"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["serve", "--log-dir", str(tmp_path / "logs"), *flags])
        printed = capsys.readouterr().err.strip()
        assert (ended.value.code, len(printed.splitlines())) == (2, 1), printed
        assert said in printed


def test_each_worker_has_a_log_of_its_own() -> None:
    from judgelm.serve.launch import _log_name

    names = ["org/x", "org-x", "org/x", "../..", "é" * 200, "m" * 200]
    found = [_log_name(number, name) for number, name in enumerate(names)]
    assert found[:4] == ["worker-0-org-x", "worker-1-org-x", "worker-2-org-x", "worker-3-..-.."]
    assert found[4:] == ["worker-4--", "worker-5-" + "m" * 100]


def test_the_terminal_chat_judges_a_form_and_takes_questions(model_folder: Path) -> None:
    typed = "What is 2 + 2?\n\n\n4\nor four\n\n5\n\nWhy?\n/new\nAnd 3 + 3?\n\nSix.\n\n6\n\n7\n\n/quit\n"
    flags = ["--model-path", str(model_folder), "--device", "cpu", "--max-new-tokens", "24", "--both"]
    result = subprocess.run(
        [python(), "-m", "judgelm.serve.cli", *flags],
        input=typed,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("Scores:") == 2
    assert result.stdout.count("(answers 1 and 2 exchanged)") == 2
    assert result.stdout.count("You: Judge:") == 1
    assert "\x1b" not in result.stdout


def test_the_terminal_chat_takes_a_sample_of_a_file(model_folder: Path, run: Any) -> None:
    flags = ["--model-path", model_folder, "--device", "cpu", "--question-file", ROOT / "examples" / "pairs.jsonl"]
    result = run("-m", "judgelm.serve.cli", *flags, "--question-id", "3", "--max-new-tokens", "8")
    assert result.returncode == 0, result.stderr
    assert "Scores:" in result.stdout
    result = run("-m", "judgelm.serve.cli", *flags, "--question-id", "none")
    assert (result.returncode, result.stderr.strip().splitlines()[-1].endswith("no question_id none")) == (2, True)


def test_the_terminal_chat_grades_one_answer_by_criteria(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from judgelm.serve.cli import main

    flags = ["--model-path", str(model_folder), "--device", "cpu", "--max-new-tokens", "8", "--task", "grade"]
    by = ["--criteria", str(ROOT / "examples" / "criteria" / "helpful.yaml")]
    for more in ([], by):
        lines = iter(["What is 2 + 2?", "", "", "4", "", "Why?", "/quit"])
        monkeypatch.setattr("builtins.input", lambda _="", lines=lines: next(lines))
        with pytest.raises(SystemExit) as ended:
            main([*flags, *more])
        printed = capsys.readouterr()
        assert ended.value.code in (0, None), printed.err
        assert "Answer, ended by" in printed.out
        assert "Answer 2" not in printed.out
        assert printed.out.count("Scores: ") == 1
        aspects = [name for name in ("Task", "Use", "Clarity") if f"Judge ({name}): " in printed.out]
        assert aspects == (["Task", "Use", "Clarity"] if more else [])
        assert ("no one judgement to talk about" in printed.out) == bool(more)
    with pytest.raises(SystemExit) as ended:
        main(["--model-path", "none", "--task", "single", *by])
    assert ended.value.code == 2
    assert "criteria cannot be used with task single" in capsys.readouterr().err


def addresses_here() -> list[str]:
    """Of this machine, seen from others; an IPv4 one that a socket would speak from."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("192.0.2.1", 9))
        except OSError:
            return []
        return [asking.getsockname()[0]]


def test_a_controller_that_would_take_none_of_the_workers_ends_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from judgelm.serve.launch import _check_reach
    from judgelm.serve.settings import ServeSettings

    monkeypatch.delenv("JUDGELM_REGISTRATION_TOKEN", raising=False)
    for host in ("127.0.0.1", "0.0.0.0", "localhost"):
        _check_reach(ServeSettings(controller_host=host, worker_host="127.0.0.1"), None)
    for here in addresses_here():
        _check_reach(ServeSettings(controller_host=here, worker_host=here), None)
        for there, worker in ((here, "127.0.0.1"), ("127.0.0.1", here), ("0.0.0.0", here)):
            settings = ServeSettings(controller_host=there, worker_host=worker)
            with pytest.raises(InputError, match=f"-host {there} takes no worker of --worker-host {worker} without"):
                _check_reach(settings, None)
            monkeypatch.setenv("JUDGELM_REGISTRATION_TOKEN", "t")
            _check_reach(settings, None)
            monkeypatch.delenv("JUDGELM_REGISTRATION_TOKEN")
