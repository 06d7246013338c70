"""Damaged and hostile inputs against everything that reads one: python tests/fuzz.py --help.

Each input must end as the commands promise: done, or one line on stderr with exit code 2; over HTTP an error in the
documented shape. A traceback, an answer of 500, a lost judgement or an input that takes too long ends the target with
the smallest input that does it.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.update({"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"})

import httpx
from benchmark_rows import hhh_row
from conftest import build_model, make_samples, train_byte_tokenizer, training_record
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from played import Played, wrote
from serving import Server, running, stack

from judgelm import cli
from judgelm.answers import write_judgelm_samples, write_mmvet_samples
from judgelm.benchmark.sets import BENCHMARKS
from judgelm.engine.openai.responses import Answer, read_response
from judgelm.errors import InputError, one_line
from judgelm.judgement import Judgement, ParseState, published_scores
from judgelm.vocabularies import VOCABULARIES

Record = dict[str, Any]
Made = tuple[st.SearchStrategy[tuple[Any, ...]], Callable[..., None]]
"""inputs, and what is done with each"""
Target = Callable[[], Made]
LONGEST_S = 60
"""an input that takes longer hangs"""
SHARES = {"score_lines": 40, "replies": 16, "readers": 20, "state": 8, "http": 16}
"""percent of the inputs"""

# what files hold that nobody expects
TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["", " ", "\x1b[31m", "\ud800", "\u202e", "\u2028", "a\r\nb", "8 7", "[System]", "</think>", "0" * 5000]
    ),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 12),
    st.sampled_from([10**400, -(10**30), 1e308, float("nan"), float("inf"), -0.0, 0.5]),
    TEXTS,
)
WORDS = (
    *("10", "8 7", "8, 9", "/10", "**", "```", "<think>", "</think>", "Score: ", "Assistant 1: ", "Assistants 1 and 2"),
    *("8，7", "８ ７", "、", "。", "\r\n", "reasons", "\u2028", "7.5", "-1"),
    *("[[A]]", "[[", "A", "tie", "Verdict: ", "[RESULT] ", '{"winner": "B"}', '{"scores": [8, 7]}', '{"score": '),
)
"""of judgements"""
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=5
)


@st.composite
def damaged(draw: st.DrawFn, value: Any, most: int = 2) -> Any:
    """A JSON value with up to `most` of its parts, at any depth, replaced, removed or doubled."""
    value = json.loads(json.dumps(value))
    for _ in range(draw(st.integers(0, most))):
        holder, places = value, draw(st.integers(1, 4))
        for _ in range(places):
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(holder[key], dict | list) and holder[key] and draw(st.booleans()):
                holder = holder[key]
                continue
            match draw(st.sampled_from(["replace", "replace", "remove", "double"])):
                case "replace":
                    holder[key] = draw(VALUES)
                case "remove":
                    del holder[key]
                case "double" if isinstance(holder, list):
                    holder.append(holder[key])
            break
    return value


@st.composite
def files(draw: st.DrawFn, rows: list[Any]) -> bytes:
    """Rows as a file: JSON Lines or one list, a few of them damaged, and then perhaps the bytes."""
    rows = draw(damaged(rows, 3))
    listed = draw(st.integers(0, 5)) == 0
    content = (json.dumps(rows) if listed else "".join(json.dumps(row) + "\n" for row in rows)).encode()
    return draw(broken_bytes(content))


@st.composite
def broken_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes, mostly whole; else cut, with a piece put in or taken out, or packed."""
    place = draw(st.integers(0, len(content)))
    match draw(st.sampled_from(["whole"] * 6 + ["cut", "insert", "drop", "gzip", "blank", "joined"])):
        case "cut":
            return content[:place]
        case "insert":
            return content[:place] + draw(st.binary(min_size=1, max_size=4)) + content[place:]
        case "drop":
            return content[:place] + content[place + draw(st.integers(1, 30)) :]
        case "gzip":
            return gzip.compress(content)
        case "blank":
            return draw(st.sampled_from([b"", b"\n\n \n", b"\xef\xbb\xbf", b"\xef\xbb\xbf" + content]))
        case "joined":
            return content.replace(b"\n", b"", 1)
    return content


def judgement_text() -> st.SearchStrategy[str]:
    """Texts that look like judgements."""
    parts = st.sampled_from([*"0123456789 \n\n\t.,/*`[](){}:_-", *WORDS])
    return st.lists(st.one_of(parts, parts, parts, TEXTS), max_size=14).map("".join)


def score_lines() -> Made:
    """Judgement.parse and what builds on it."""

    def target(text: str, num_answers: int) -> None:
        found = Judgement.parse(text, num_answers)
        assert found.text == text
        assert (found.scores is None) is (found.state is ParseState.FAILED)
        assert published_scores(text) is not None
        assert isinstance(found.reasons, str)
        if found.scores is not None:
            assert len(found.scores) == num_answers
            assert all(0 <= score <= 10 for score in found.scores)
            back = found.swapped()
            assert back.scores == (found.scores[1], found.scores[0], *found.scores[2:])
            assert Judgement.parse(back.text, num_answers).scores == back.scores
            assert back.swapped().scores == found.scores
        for form, count in (("letter", 2), ("grade", 1), ("json", num_answers)):
            other = Judgement.parse(text, count, form=form)
            assert (other.scores is None) is (other.state is ParseState.FAILED)
            assert other.scores is None or len(other.scores) == count
            assert all(0 <= each <= 10 for each in other.scores or ())

    return st.tuples(judgement_text(), st.integers(2, 5)), target


def replies() -> Made:
    """What a server says."""
    message = {"role": "assistant", "content": "8 7\nok", "refusal": None, "reasoning_content": "long"}
    choice = {"index": 0, "text": "8 7\nok", "message": message, "finish_reason": "stop"}
    answer = {"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 5}}
    parts = answer | {"choices": [choice | {"message": message | {"content": [{"type": "text", "text": "8 7"}]}}]}
    failure = {"error": {"message": "context length", "code": "content_filter", "type": "x", "param": None}}
    bodies = st.one_of(*(damaged(body, 3) for body in (answer, parts, failure)))

    def target(body: Any, status: int, data: st.DataObject) -> None:
        content = data.draw(broken_bytes(json.dumps(body).encode()))
        headers = {"Retry-After": data.draw(TEXTS.filter(str.isascii)).strip("\x1b\r\n\0 ") or "1"}
        headers = {name: value for name, value in headers.items() if value.isprintable()}
        for api in ("completions", "chat"):
            response = httpx.Response(status, content=content, headers=headers)
            found = read_response(response, api, one_line)
            assert found is not None
            if isinstance(found, Answer):
                assert isinstance(found.text, str)
                assert 0 <= found.num_tokens < 2**53

    return st.tuples(
        bodies, st.sampled_from([200, 200, 200, 201, 204, 302, 400, 404, 418, 429, 500, 502]), st.data()
    ), target


class Ended(Exception):
    """A command did not end as it promises."""


def command(*arguments: str | Path, codes: tuple[int, ...] = (0, 2)) -> tuple[int, str]:
    """Run `judgelm` here: its exit code and what it wrote to stdout."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main([str(argument) for argument in arguments])
    except SystemExit as end:
        code = int(end.code or 0)
    if code not in codes:
        raise Ended(f"exit code {code}: {err.getvalue()}")
    last = err.getvalue().strip().splitlines()[-1:] or [""]
    if code == 2 and "error: " not in last[0]:
        raise Ended(f"no line says what is wrong: {err.getvalue()!r}")
    said = out.getvalue()
    if code == 0 and re.search(r"\bnan\b", said):
        raise Ended("nan in what was printed")
    if code == 0 and said.rstrip().rsplit("\n", 1)[-1].startswith("{"):
        strict_text(said.rstrip().rsplit("\n", 1)[-1])
    return code, said


def strict(path: Path) -> list[Record]:
    """The records of a file that we wrote, by the JSON standard alone."""

    def refuse(constant: str) -> None:
        raise Ended(f"{path.name} holds {constant}")

    return [json.loads(line, parse_constant=refuse) for line in path.read_text(encoding="utf-8").splitlines() if line]


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="judgelm-fuzz-") as name:
        yield Path(name)


def judged_record(number: int, order: str) -> Record:
    scores = [8, 7] if order == "forward" else [7, 8]
    return {
        **training_record(number),
        "label": 1,
        "answer1_model_id": "a" if order == "forward" else "b",
        "answer2_model_id": "b" if order == "forward" else "a",
        "pred_text": f"{scores[0]} {scores[1]}\nok",
        "pred_scores": scores,
        "pred_outcome": "win" if order == "forward" else "lose",
        "pred_parse": "ok",
        "pred_task": "pair",
        "pred_order": order,
        "pred_finish_reason": "stop",
        "pred_prompt_tokens": 10,
        "pred_tokens": 3,
        "pred_shortened": None,
        "pred_suspicious_markers": 0,
        "pred_probabilities": {"win": 0.6, "tie": 0.2, "lose": 0.2},
        "pred_expected_scores": [7.5, 6.5],
        "pred_score_line_mass": 0.9,
        "pred_id": f"{number:032x}",
        "pred_model_id": "judge",
        "tstamp": 1.0,
    }


RUN = {
    "settings": {"model": "m", "model_id": "judge", "task": "pair", "temperature": 0.2},
    "finished": True,
    "counts": {"forward": {"total": 3, "ok": 3}},
    "sessions": [{"started": 1.0, "judged": 6, "versions": {"judgelm": "0.1.0"}, "seconds": 1.0}],
    "machine": {"platform": "p", "python": "3", "cpus": 2},
}
RANKING = {"rule": "hard", "length_controlled": False, "judgements": 1, "unread": 0, "models": [], "pairs": []}
PANDALM = {"idx": 0, "motivation_app": "x", "cmp_key": "a_b", "instruction": "Do.", "input": "it"}
PANDALM |= {"response1": "one", "response2": "two", "annotator1": 1, "annotator2": 1, "annotator3": 2}
ROWS: dict[str, list[Any]] = {
    "pandalm": [PANDALM | {"idx": k} for k in range(3)],
    "judgebench": [
        {"pair_id": f"p{k}", "original_id": "o", "source": "s", "question": "Q?", "response_model": "m"}
        | {"response_A": "one", "response_B": "two", "label": "A>B"}
        for k in range(3)
    ],
    "llmbar": [{"input": f"Q{k}", "output_1": "one", "output_2": "two", "label": 1} for k in range(3)],
    "autoj": [
        {"scenario": "s", "label": 0, "prompt": f"Q{k}", "response 1": "one", "response 2": "two"} for k in range(3)
    ],
    "pairs": [training_record(k) | {"label": 1} for k in range(3)],
    "rewardbench": [
        {"prompt": f"Q{k}", "chosen": "one", "rejected": "two", "subset": "donotanswer", "id": k} for k in range(3)
    ],
    "hhh": [hhh_row(k) for k in range(3)],
}
PREDICTED = [{"question_id": k, "verdict": 1} for k in range(3)]
RESULTS = [
    {"subset": "Math", "id": "0", "results": 1},
    {"subset": "Ties", "id": "ref:0", "results": None, "scores": [3, 1], "num_correct": 1},
    {"subset": "Ties", "id": "tied:0", "results": None, "scores": [[3], [4], [1]], "num_correct": 2},
]


def readers() -> Made:
    """Every command that reads files of users and of others, without a model."""
    samples = [sample.to_record() for sample in make_samples(3)]
    references = [{"question_id": k, "reference": {"text": "R"}} for k in range(3)]
    teacher = [{"question_id": k, "text": "8 7\nok"} for k in range(3)]
    answers = [{"question_id": k, "question_body": f"Q{k}", "text": "one", "model": "a"} for k in range(3)]
    truth = {"v1_0": {"imagename": "i", "question": "Q", "answer": "a<OR>b<AND>c", "capability": ["ocr"]}}

    def prompts(data: st.DataObject, at: Path) -> None:
        questions, shown = at / data.draw(st.sampled_from(["q.jsonl", "q.json", "q.jsonl.gz", "q"])), at / "r.jsonl"
        questions.write_bytes(data.draw(files(samples)))
        shown.write_bytes(data.draw(files(references)))
        flags = data.draw(st.sampled_from([[], ["--task", "multi"], ["--reverse"], ["--task", "single"]]))
        command("prompt", "--question-file", questions, "--reference-file", shown, *flags)

    def judged(data: st.DataObject, at: Path) -> None:
        out = at / "out"
        out.mkdir()
        for order in ("forward", "reversed"):
            (out / f"{order}.jsonl").write_bytes(data.draw(files([judged_record(k, order) for k in range(3)])))
        (out / "run.json").write_bytes(data.draw(broken_bytes(json.dumps(data.draw(damaged(RUN))).encode())))
        (at / "teacher.jsonl").write_bytes(data.draw(files(teacher)))
        match data.draw(st.sampled_from(["evaluate", "evaluate", "rank", "report"])):
            case "evaluate":
                told = data.draw(st.sampled_from([[], ["--teacher", str(at / "teacher.jsonl")]]))
                code, said = command("evaluate", out, *told, "--output", at / "summary.json")
                if code == 0:
                    strict_json(at / "summary.json")
                    strict_text(said.strip().splitlines()[-1])
            case "rank":
                flags = data.draw(st.sampled_from([[], ["--outcomes", "soft"], ["--length-control"]]))
                code, _ = command("rank", "--judgements", out, "--output-dir", at / "rank", *flags)
                if code == 0:
                    strict_json(at / "rank" / "ranking.json")
            case "report":
                (out / "ranking.json").write_bytes(data.draw(broken_bytes(json.dumps(RANKING).encode())))
                code, _ = command("report", out)
                if code == 0:
                    assert "\x1b" not in (out / "report.html").read_text(encoding="utf-8")

    def benchmarks(data: st.DataObject, at: Path) -> None:
        name = data.draw(st.sampled_from(sorted(ROWS.keys() & BENCHMARKS.keys())))
        rows, said = at / data.draw(st.sampled_from(["d.json", "d.jsonl"])), at / "p.jsonl"
        rows.write_bytes(data.draw(files(ROWS[name])))
        said.write_bytes(data.draw(files(PREDICTED)))
        told = data.draw(st.sampled_from([[], *(["--vocabulary", word] for word in VOCABULARIES)]))
        command("benchmark", name, "--data", rows, "--predictions", said, *told, "--output-dir", at / "out")
        said.write_bytes(data.draw(files(RESULTS)))
        command("benchmark", "rewardbench2", "--predictions", said)

    def preprocess(data: st.DataObject, at: Path) -> None:
        (at / "in").mkdir()
        paths = [at / "in" / name for name in ("a.jsonl", "b.jsonl")]
        for path in paths:
            path.write_bytes(data.draw(files(answers)))
        (at / "truth.json").write_bytes(data.draw(broken_bytes(json.dumps(data.draw(damaged(truth))).encode())))
        (at / "said.json").write_bytes(data.draw(broken_bytes(json.dumps(data.draw(damaged({"v1_0": "a"}))).encode())))
        with contextlib.suppress(InputError):
            strict(Path(write_judgelm_samples([str(path) for path in paths])))
        with contextlib.suppress(InputError):
            strict(Path(write_mmvet_samples(str(at / "truth.json"), str(at / "said.json"))))

    def rows(data: st.DataObject, at: Path) -> None:
        (at / "train.jsonl").write_bytes(data.draw(files([training_record(k) for k in range(3)])))
        command("train-data", "check", at / "train.jsonl", codes=(0, 1, 2))

    ways = [prompts, prompts, judged, judged, judged, benchmarks, benchmarks, preprocess, rows]

    def target(way: Callable[[st.DataObject, Path], None], data: st.DataObject) -> None:
        with folder() as at:
            way(data, at)

    return st.tuples(st.sampled_from(ways), st.data()), target


def strict_json(path: Path) -> Any:
    """The one value of a file that we wrote."""
    return strict_text(path.read_text(encoding="utf-8"))


def strict_text(text: str) -> Any:
    """A JSON value by the standard alone."""

    def refuse(constant: str) -> None:
        raise Ended(f"{constant} in JSON")

    return json.loads(text, parse_constant=refuse)


def state() -> Made:
    """What a run left on disk, damaged, and the same command again: nothing that was judged is lost or double."""
    server = Played(lambda number, before: wrote())
    server.__enter__()
    work = Path(tempfile.mkdtemp(prefix="judgelm-fuzz-"))
    questions = work / "q.jsonl"
    questions.write_text("".join(json.dumps(s.to_record()) + "\n" for s in make_samples(4)), encoding="utf-8")
    judge = ("judge", "--engine", "openai", "--base-url", server.url, "--model", "m", "--question-file", questions)
    command(*judge, "--output-dir", work / "whole", codes=(0,))
    whole = {path.name: path.read_bytes() for path in (work / "whole").iterdir()}
    records = {
        name: [json.loads(line) for line in whole[name].splitlines()] for name in ("forward.jsonl", "reversed.jsonl")
    }
    run = json.loads(whole["run.json"])

    def target(data: st.DataObject) -> None:
        with folder() as at:
            out = at / "out"
            out.mkdir()
            for name, rows in records.items():
                cut = data.draw(st.integers(0, len(rows)))
                for path, part in ((out / name, rows[:cut]), (out / f"{name}.partial", rows[cut:])):
                    if part or bool(data.draw(st.booleans())):
                        content = "".join(json.dumps(row) + "\n" for row in part).encode()
                        if data.draw(st.booleans()) and part:
                            content = data.draw(files(part))
                        path.write_bytes(content)
            content = json.dumps(data.draw(damaged(run)) if data.draw(st.booleans()) else run).encode()
            (out / "run.json").write_bytes(data.draw(broken_bytes(content)))
            before = {path.name: path.read_bytes() for path in out.iterdir()}
            code, _ = command(*judge, "--output-dir", out)
            if code == 0:
                for name in records:
                    ids = [record["question_id"] for record in strict(out / name)]
                    assert sorted(map(str, ids)) == ["0", "1", "2", "3"], ids
                    assert not (out / f"{name}.partial").exists()
                strict_json(out / "run.json")
            else:
                kept = b"".join(path.read_bytes() for path in out.iterdir())
                lines = [line for name, content in before.items() if "jsonl" in name for line in content.split(b"\n")]
                for line in lines[:-1]:
                    # what may go is the half line of a killed process
                    assert line in kept or _unreadable(line), line[:300]

    return st.tuples(st.data()), target


def _unreadable(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return True
    return False


PAIR = {"question": "What is 2 + 2?", "answers": ["4", "5"], "reference": None}
_SCORE: Record = {"type": "number", "minimum": 1, "maximum": 5}
VERDICT: Record = {
    "type": "object",
    "properties": {
        "score1": _SCORE,
        "score2": _SCORE,
        "winner": {"enum": ["A", "B", "tie"]},
        "why": {"type": "string"},
    },
    "required": ["score1", "winner"],
}
BODIES: dict[tuple[str, str], Record] = {
    ("api", "/v1/judgements"): {"samples": [PAIR], "orders": "both", "max_new_tokens": 2, "temperature": 0},
    ("api", "/v1/rewards"): {"question": "What is 2 + 2?", "completions": ["4", "5", "4"], "reward": "score"},
    ("api", "/v1/chat/completions"): {
        **{"model": "random-llama", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2, "stream": False},
        **{"stop": ["x"], "n": 1, "seed": 1, "top_p": 1.0, "temperature": 0.5},
    },
    ("api", "/v1/completions"): {
        **{"model": "random-llama", "prompt": [[5, 6], [7]], "max_tokens": 2, "echo": True, "logprobs": 1, "n": 1},
    },
    ("api", "/v1/responses"): {
        **{"model": "random-llama", "input": json.dumps(PAIR), "max_output_tokens": 9, "temperature": 0},
        "text": {"format": {"type": "json_schema", "name": "v", "schema": VERDICT}},
    },
    ("controller", "/get_worker_address"): {"model": "random-llama"},
    ("controller", "/receive_heart_beat"): {"worker_name": "http://127.0.0.1:9", "queue_length": 0},
    ("controller", "/register_worker"): {
        **{"worker_name": "http://127.0.0.1:9", "check_heart_beat": True, "multimodal": False},
        "worker_status": {"model_names": ["m"], "speed": 1, "queue_length": 0},
    },
    ("worker", "/worker_generate"): {"model": "random-llama", "prompt": "Hi", "max_new_tokens": 2, "temperature": 0.5},
    ("worker", "/worker_generate_stream"): {"model": "random-llama", "prompt": "Hi", "max_new_tokens": 2},
    ("worker", "/count_token"): {"model": "random-llama", "prompt": "Hi"},
    ("worker", "/model_details"): {"model": "random-llama"},
    ("worker", "/worker_get_conv_template"): {"model": "random-llama"},
    ("worker", "/worker_get_status"): {},
}


def http() -> Made:
    """Bodies sent to a controller, a worker and an API that run."""
    work = Path(tempfile.mkdtemp(prefix="judgelm-fuzz-"))
    servers = STACK.enter_context(_serving(work))
    client = STACK.enter_context(httpx.Client(timeout=LONGEST_S, trust_env=False))
    routes = st.sampled_from(sorted(BODIES))

    def target(route: tuple[str, str], data: st.DataObject) -> None:
        name, path = route
        content = data.draw(broken_bytes(json.dumps(data.draw(damaged(BODIES[route], 3))).encode()))
        kind = data.draw(st.sampled_from(["application/json"] * 8 + ["text/plain", "multipart/form-data", ""]))
        if data.draw(st.integers(0, 19)) == 0:
            path = data.draw(st.sampled_from([path + "/x", "/" + path, path.upper(), "/v1/models/x", "/\u00e4"]))
        method = data.draw(st.sampled_from(["POST"] * 12 + ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"]))
        headers = {"Content-Type": kind} if kind else {}
        response = client.request(method, servers[name].url + path, content=content, headers=headers)
        # 503: a worker that only claimed to be one serves no model
        assert response.status_code not in (500, 501, 505), (response.status_code, response.text[:300])
        if response.status_code >= 400 and method != "OPTIONS":
            said = response.json()
            if name == "api" or "error" in said:
                # what stands in front of each server speaks as the API does
                assert set(said) == {"error"}, said
                assert isinstance(said["error"]["message"], str)
            else:
                assert said.get("error_code") or "detail" in said, said

    return st.tuples(routes, st.data()), target


@contextlib.contextmanager
def _serving(work: Path) -> Iterator[dict[str, Server]]:
    model = build_model(work / "random-llama", train_byte_tokenizer())
    servers = dict(zip(("controller", "worker", "api"), stack(work, model), strict=True))
    with running(*servers.values()):
        yield servers
        assert servers["api"].get("/v1/models").status_code == 200, "the API does not answer any more"
        assert all(server.process.poll() is None for server in servers.values()), "a server ended"


STACK = contextlib.ExitStack()
TARGETS: dict[str, Target] = {
    "score_lines": score_lines, "replies": replies, "readers": readers, "state": state, "http": http,
}  # fmt: skip


def hanging(_signal: int, _frame: Any) -> None:
    raise Ended(f"still busy after {LONGEST_S} s")


def run_target(name: str, count: int, seed: int) -> bool:
    """Whether `count` inputs of a target all ended as promised."""
    seen = 0
    inputs, target = TARGETS[name]()

    def check(given_inputs: tuple[Any, ...]) -> None:
        nonlocal seen
        seen += 1
        signal.alarm(LONGEST_S)
        try:
            target(*given_inputs)
        finally:
            signal.alarm(0)

    started, rounds = time.monotonic(), 0
    try:
        # rounds, so that what hypothesis remembers of earlier inputs stays small
        while seen < count:
            run = settings(
                max_examples=min(5000, count - seen),
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
                phases=(Phase.generate, Phase.shrink),
                print_blob=False,
            )
            run(seeded(seed + rounds)(given(inputs)(check)))()
            rounds += 1
    except Exception:  # noqa: BLE001 - whatever it is, it is shown and the next target is tried
        traceback.print_exc()
        print(f"{name}: FAILED after {seen} inputs", flush=True)
        return False
    print(f"{name}: {seen} inputs in {time.monotonic() - started:.0f} s, all ended as promised", flush=True)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"some of {', '.join(TARGETS)} (default: all)")
    parser.add_argument("--inputs", type=int, default=100_000, help="of all targets together (default: 100,000)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if unknown := set(args.targets) - set(TARGETS):
        parser.error(f"unknown target {', '.join(unknown)}")
    signal.signal(signal.SIGALRM, hanging)
    chosen = args.targets or list(TARGETS)
    share = sum(SHARES[name] for name in chosen)
    with STACK:
        ended = [run_target(name, args.inputs * SHARES[name] // share, args.seed) for name in chosen]
    for left in Path(tempfile.gettempdir()).glob("judgelm-fuzz-*"):
        shutil.rmtree(left, ignore_errors=True)
    sys.exit(0 if all(ended) else 1)


if __name__ == "__main__":
    main()
