"""What a collection may cost, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from collecting import Talking, arguments, models_file, questions_file, rows, said
from judging import run_command
from played import QUICK, Reply

from judgelm.collection import servers as collected_servers
from judgelm.jsonl import read_json

pytestmark = pytest.mark.usefixtures("without_a_key")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collected_servers, "PATIENT", QUICK)


def test_a_budget_is_never_exceeded_and_a_larger_one_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions_file(tmp_path, 30)
    with Talking(pause_s=0.01) as server:
        # a reply costs 100 + 20 x 10 = 300 millionths, and could cost above 400: no token is less than a byte
        priced = {"model": "a", "base_url": server.url, "price": [1, 10], "max_tokens": 20}
        models_file(tmp_path, priced | {"system": "Be brief, be kind, be right, and above all be brief."})
        assert run_command(arguments(tmp_path, "--max-cost", "0.0021")) == 2
        last = capsys.readouterr().err.strip().splitlines()[-1]
        assert last.endswith("max_cost 0.0021 has no room for more (cost so far 0.0018); 6 of 30 answers are there")
        assert len(server.asked) == 6
        assert not (tmp_path / "out" / "answers").exists()
        assert run_command(arguments(tmp_path, "--max-cost", "0.0021")) == 2
        assert len(server.asked) == 6
        assert run_command(arguments(tmp_path, "--max-cost", "1")) == 0
        assert len(server.asked) == 30
    assert read_json(tmp_path / "out" / "collect.json")["cost"] == 0.009


@pytest.mark.parametrize("usage", [None, {"prompt_tokens": 9}, {"completion_tokens": 9}, {"prompt_tokens": -1}])
def test_a_budget_needs_a_server_that_counts_and_what_it_said_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], usage: object
) -> None:
    questions_file(tmp_path, 9)
    with Talking(lambda *_: Reply(200, {"choices": said("4").body["choices"], "usage": usage}), pause_s=0.05) as server:
        models_file(tmp_path, {"model": "a", "base_url": server.url, "price": [1, 1], "max_concurrency": 4})
        assert run_command(arguments(tmp_path, "--max-cost", "1")) == 2
        num = len(server.asked)
        said_so = f"its answers have no usage, by which max_cost counts; {num} of 9 answers"
        assert said_so in capsys.readouterr().err
        assert 1 <= num <= 8
        # those that were under way are not asked for again
        assert run_command(arguments(tmp_path)) == 0
    assert server.numbers() == list(range(9))


def test_a_budget_sees_what_is_below_a_millionth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    questions_file(tmp_path, 9)
    with Talking() as server:
        # a reply costs 120 of a thousand millionths, and could cost some more
        priced = {"model": "a", "base_url": server.url, "price": [0.001, 0.001], "max_tokens": 20}
        models_file(tmp_path, priced)
        assert run_command(arguments(tmp_path, "--max-cost", "5e-7")) == 2
        assert "max_cost 5e-07 has no room for more (cost so far 3.6e-07)" in capsys.readouterr().err
        assert len(server.asked) == 3


def test_a_budget_counts_what_request_fields_ask_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    questions_file(tmp_path, 9)
    with Talking() as server:
        priced = {"model": "a", "base_url": server.url, "price": [1, 10], "max_tokens": 20, "max_concurrency": 1}
        for fields in ({"max_tokens": None}, {"n": 2}, {"max_completion_tokens": "5"}):
            models_file(tmp_path, priced | {"request_fields": fields})
            assert run_command(arguments(tmp_path, "--max-cost", "1")) == 2
            assert "model a: request_fields: max_cost needs a bound of an answer" in capsys.readouterr().err
        assert server.asked == []
        # it could cost 0.01, whatever max_tokens says
        models_file(
            tmp_path, priced | {"request_fields": {"max_tokens": None, "max_completion_tokens": 1000, "temperature": 1}}
        )
        assert run_command(arguments(tmp_path, "--max-cost", "0.009")) == 2
        assert "has no room for more (cost so far 0); 0 of 9" in capsys.readouterr().err
        assert server.asked == []
        assert run_command(arguments(tmp_path, "--max-cost", "0.02")) == 0
    # as it was asked
    assert {row["decoding_method"] for row in rows(tmp_path / "out/answers/a.jsonl")} == {"temperature 1"}
