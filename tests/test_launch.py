from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import ROOT
from serving import free_port

from judgelm.serve.client import APIError, Client


class Launched:
    """`judgelm serve` and what it printed."""

    def __init__(self, folder: Path, *flags: str | Path) -> None:
        self.page, self.api, self.logs = free_port(), free_port(), folder / "logs"
        self.output = folder / "output"
        ports = ("--port", str(self.page), "--api-port", str(self.api), "--log-dir", str(self.logs))
        command = [sys.executable, "-m", "judgelm", "serve", "--device", "cpu", *ports, *map(str, flags)]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)

    @property
    def text(self) -> str:
        return self.output.read_text(encoding="utf-8")

    def wait_until_ready(self) -> str:
        """The controller's address."""
        end = time.monotonic() + 120
        while "Ctrl-C stops" not in self.text:
            assert self.process.poll() is None, self.text
            assert time.monotonic() < end, self.text
            time.sleep(0.2)
        return next(line.split()[1] for line in self.text.splitlines() if line.startswith("controller"))


@contextmanager
def launched(folder: Path, *flags: str | Path) -> Iterator[Launched]:
    started = Launched(folder, *flags)
    try:
        yield started
    finally:
        started.process.send_signal(signal.SIGTERM)
        started.process.wait(30)


def answers(url: str) -> bool:
    try:
        httpx.get(url, timeout=5, trust_env=False)
    except httpx.TransportError:
        return False
    return True


def gone(*urls: str) -> bool:
    end = time.monotonic() + 20
    while any(answers(url) for url in urls):
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def test_one_command_serves_two_models_until_ctrl_c(tmp_path: Path, model_folder: Path) -> None:
    other = tmp_path / "other"
    other.symlink_to(model_folder)
    with launched(tmp_path, "--model", model_folder, other) as started:
        controller = started.wait_until_ready()
        page, api = f"http://127.0.0.1:{started.page}", f"http://127.0.0.1:{started.api}"
        client = Client(api)
        assert client.models() == ["other", "random-llama"]
        verdict = client.judge("2 + 2?", ["4", "5"], model="other", max_new_tokens=8, constrained=True)
        assert verdict["outcome"] in ("win", "tie", "lose")
        results = client.judge_all(
            [{"question_id": k, "question": f"{k}?", "answers": ["a", "b"]} for k in range(3)],
            model="random-llama",
            max_new_tokens=4,
        )
        assert [result["question_id"] for result in results] == [0, 1, 2]
        with pytest.raises(APIError, match="'model' is missing") as refused:
            client.judge("2 + 2?", ["4", "5"])
        assert (refused.value.status, refused.value.code) == (400, "invalid_request")
        names = {"controller.log", "worker-random-llama-0.log", "worker-other-0.log", "api.log", "page.log"}
        assert {path.name for path in started.logs.iterdir()} == names
        started.process.send_signal(signal.SIGINT)
        assert started.process.wait(30) == 0
        assert gone(page, api, controller)
    with pytest.raises(APIError, match="does not answer"):
        client.models()


def test_workers_join_the_controller_of_another_command(tmp_path: Path, model_folder: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    second_model = tmp_path / "second-model"
    second_model.symlink_to(model_folder)
    with launched(tmp_path / "first", "--model", model_folder) as first:
        controller = first.wait_until_ready()
        flags = ("--workers-only", "--controller-address", controller, "--num-workers", "2")
        with launched(tmp_path / "second", "--model", second_model, *flags) as second:
            second_logs = second.logs
            end = time.monotonic() + 60
            while "Ctrl-C stops" not in second.text:
                assert time.monotonic() < end, second.text
                time.sleep(0.2)
            assert Client(f"http://127.0.0.1:{first.api}").models() == ["random-llama", "second-model"]
        names = {path.name for path in second_logs.iterdir()}
        assert names == {"worker-second-model-0.log", "worker-second-model-1.log"}


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells a process that its parent has died")
def test_parts_do_not_outlive_a_killed_command(tmp_path: Path, model_folder: Path) -> None:
    started = Launched(tmp_path, "--model", model_folder)
    controller = started.wait_until_ready()
    started.process.kill()
    started.process.wait()
    assert gone(f"http://127.0.0.1:{started.page}", f"http://127.0.0.1:{started.api}", controller)


def test_mistakes_end_in_one_line_and_leave_nothing_running(tmp_path: Path, run: Any) -> None:
    with launched(tmp_path, "--model", tmp_path / "nothing") as started:
        assert started.process.wait(90) == 2
        assert "worker-nothing-0 ended with exit code 2" in started.text.strip().splitlines()[-1]
        assert gone(f"http://127.0.0.1:{started.page}")
    for flags, said in (
        (["--workers-only"], "belong together"),
        (["--num-workers", "0"], "expected 1 or more"),
        (["--workers-only", "--controller-address", "http://192.0.2.1:21001"], "cannot reach that"),
        (["--model", "tiny", "tiny"], "each name may come once"),
    ):
        result = run("-m", "judgelm", "serve", "--log-dir", tmp_path / "logs", *flags)
        assert (result.returncode, len(result.stderr.strip().splitlines())) == (2, 1), result.stderr
        assert said in result.stderr


def test_the_terminal_chat_judges_a_form_and_takes_questions(model_folder: Path) -> None:
    typed = "What is 2 + 2?\n\n\n4\nor four\n\n5\n\nWhy?\n/new\nAnd 3 + 3?\n\nSix.\n\n6\n\n7\n\n/quit\n"
    flags = ["--model-path", str(model_folder), "--device", "cpu", "--max-new-tokens", "24", "--both"]
    result = subprocess.run(
        [sys.executable, "-m", "judgelm.serve.cli", *flags],
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
