"""FastChat's files of judgements: FastChat's own code writes them for us, and reads what we write."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE_S, ROOT, write_jsonl
from judging import run_command

from judgelm.fastchat.layout import Texts, read_prompt, write_prompt

# FastChat's code asks a vendor for its judgements: here it is told what they are, and no client or model is loaded
PLAY = """
import json, sys, types
from fastchat.conversation import get_conv_template
names = {"get_conversation_template": lambda _: get_conv_template("chatgpt"), "ANTHROPIC_MODEL_LIST": ()}
adapter = types.SimpleNamespace(**names, OPENAI_MODEL_LIST=("gpt-4",))
sys.modules["fastchat.model.model_adapter"] = adapter
sys.modules |= dict.fromkeys(("anthropic", "openai", "fastchat.model"), types.SimpleNamespace())
from fastchat.llm_judge import common
common.chat_completion_openai = lambda *_, **__: said.pop(0)
for row in json.load(open(sys.argv[1])):
    said = row["said"]
    question = {"question_id": row["id"], "turns": row["questions"]}
    answers = [{"choices": [{"turns": turns}]} for turns in row["answers"]]
    several = len(row["questions"]) > 1
    known = {"choices": [{"turns": row["known"]}]} if row.get("known") else None
    judge = common.Judge("gpt-4", row["prompt"], multi_turn=several, ref_based=known is not None)
    pair = len(answers) == 2
    match = common.MatchPair if pair else common.MatchSingle
    play, file = (common.play_a_match_pair, "pair") if pair else (common.play_a_match_single, "single")
    play(match(question, *row["models"], *answers, judge, known, several), f"model_judgment/gpt-4_{file}.jsonl")
"""
PAIR = {
    "name": "pair-v2",
    "type": "pairwise",
    "system_prompt": "Judge.",
    "output_format": "[[A]]",
    "prompt_template": "[User Question]\n{question}\n\n[The Start of Assistant A's Answer]\n{answer_a}\n"
    "[The End of Assistant A's Answer]\n\n[The Start of Assistant B's Answer]\n{answer_b}\n"
    "[The End of Assistant B's Answer]",
}
TALKS = PAIR | {
    "name": "pair-v2-multi-turn",
    "prompt_template": "\n\n\n".join(
        f"<|The Start of Assistant {side}'s Conversation with User|>\n\n### User:\n{{question_1}}\n\n"
        f"### Assistant {side}:\n{{answer_{side.lower()}_1}}\n\n### User:\n{{question_2}}\n\n"
        f"### Assistant {side}:\n{{answer_{side.lower()}_2}}\n\n"
        f"<|The End of Assistant {side}'s Conversation with User|>"
        for side in "AB"
    ),
}
SINGLE = {
    "name": "single-math-v1",
    "type": "single",
    "system_prompt": "You are a helpful assistant.",
    "output_format": "[[rating]]",
    "prompt_template": "[Instruction]\nRate it.\n\n[Question]\n{question}\n\n[The Start of Reference Answer]\n"
    "{ref_answer_1}\n[The End of Reference Answer]\n\n[The Start of Assistant's Answer]\n{answer}\n"
    "[The End of Assistant's Answer]",
}
BAD, GOOD = "llama", "gpt"


def game(number: int, said: list[str], prompt: dict[str, Any] = PAIR, **more: Any) -> dict[str, Any]:
    """Of two models, of which the second is right."""
    texts = {"questions": [f"What is {number} + 1?"], "answers": [["no idea"], [f"{number + 1}.\n\nAs one follows."]]}
    return {"id": number, "models": [BAD, GOOD], "said": said, "prompt": prompt, **texts, **more}


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[Path, str], str]:
    """What FastChat's own show_result says of a file."""

    def said(path: Path, mode: str) -> str:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["show_result", "--input-file", str(path), "--mode", mode])
        runpy.run_module("fastchat.llm_judge.show_result", run_name="__main__")
        return capsys.readouterr().out

    return said


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


GAMES = [
    # the second model wins in both orders, in the first alone, not at all, and nobody knows
    game(81, ["B is better: [[B]]", "A is better: [[A]]"]),
    game(82, ["[[B]]", "[[B]]"]),
    game(83, ["[[A]]", "[[B]]"]),
    game(84, ["[[B]]", "I cannot say."]),
    game(
        85,
        ["[[B]]", "[[A]]"],
        TALKS,
        questions=["What is 85 + 1?", "And more?"],
        answers=[["86", "no idea"], ["86", "87"]],
    ),
]


KNOWN: dict[str, Any] = {"known": ["2"], "prompt": SINGLE}
GRADED = [
    game(1, ["Rating: [[3]]"], models=[BAD], answers=[["no idea"]], **KNOWN),
    game(1, ["Rating: [[9.5]]"], models=[GOOD], answers=[["2"]], **KNOWN),
    game(2, ["no rating"], models=[GOOD], answers=[["2"]], **KNOWN),
    # FastChat's own file has a row again where it was started again
    game(1, ["Rating: [[3]]"], models=[BAD], answers=[["no idea"]], **KNOWN),
]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of files that FastChat's own code writes of these games."""
    folder = tmp_path_factory.mktemp("fastchat")
    (folder / "games.json").write_text(json.dumps([*GAMES, *GRADED]), encoding="utf-8")
    command = [sys.executable, "-W", "ignore", "-c", PLAY, "games.json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    return folder / "model_judgment"


@pytest.fixture(scope="module")
def pairs(written: Path) -> Path:
    return written / "gpt-4_pair.jsonl"


def test_pairs_of_fastchat_become_a_judged_folder(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "gpt-4.1"
    assert run_command(["convert", str(pairs), str(folder)]) == 0
    said = capsys.readouterr().out
    assert "reversed: 5 judgements of gpt-4, 1 of them without a verdict" in said
    forward, back = (rows_of(folder / f"{order}.jsonl") for order in ("forward", "reversed"))
    assert [row["pred_outcome"] for row in forward] == ["lose", "lose", "win", "lose", "lose"]
    # as of the answers in the order shown
    assert [row["pred_outcome"] for row in back] == ["win", "lose", "lose", None, "win"]
    assert (back[0]["answer1_model_id"], back[0]["answer1_body"]) == (GOOD, "82.\n\nAs one follows.")
    assert back[0]["pred_text"] == "A is better: [[A]]"
    assert forward[-1]["conversation2"][-1] == {"role": "assistant", "content": "87"}
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert (run["finished"], run["settings"]["model_id"], run["counts"]["forward"]["lose"]) == (True, "gpt-4", 4)
    assert run_command(["rank", "--judgements", str(folder)]) == 0
    ranked = capsys.readouterr().out
    # of four that could be read: two wins, a contradiction and a loss
    assert re.search(r"gpt +4 +62\.5", ranked), ranked
    assert run_command(["evaluate", str(folder)]) == 0
    # three of five; the unread one is not consistent
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["consistency"] == 0.6


def test_grades_of_fastchat_become_a_judged_folder(
    written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], show: Callable[[Path, str], str]
) -> None:
    folder = tmp_path / "graded"
    assert run_command(["convert", str(written / "gpt-4_single.jsonl"), str(folder)]) == 0
    assert "left out 1 rows that judge the same once more" in capsys.readouterr().out
    found = {row["question_id"]: row for row in rows_of(folder / "forward.jsonl")}
    assert found["1/1/gpt"]["pred_scores"] == [9.5]
    assert found["2/1/gpt"]["pred_parse"] == "failed"
    assert found["1/1/gpt"]["reference"] == {"text": "2"}
    assert run_command(["evaluate", str(folder)]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["mean"] == 6.25
    back = tmp_path / "back_single.jsonl"
    assert run_command(["convert", str(folder), str(back)]) == 0
    assert re.search(r"gpt +1 +9\.5\n.*llama +1 +3\.0", show(back, "single"))


def test_what_was_read_is_written_again(pairs: Path, tmp_path: Path, show: Callable[[Path, str], str]) -> None:
    folder, back = tmp_path / "judged", tmp_path / "again_pair.jsonl"
    assert run_command(["convert", str(pairs), str(folder)]) == 0
    assert run_command(["convert", str(folder), str(back)]) == 0
    names = ("question_id", "turn", "model_1", "model_2", "g1_winner", "g2_winner", "g1_judgment", "g2_user_prompt")
    first, second = ([{name: row[name] for name in names} for row in rows_of(path)] for path in (pairs, back))
    assert second == first
    assert show(back, "pairwise-all").splitlines()[2:] == show(pairs, "pairwise-all").splitlines()[2:]
    assert rows_of(back)[-1]["judge"] == ["gpt-4", "judgelm-pair-multi-turn"]


def test_the_example_reads_ranks_and_writes(
    pairs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    show: Callable[[Path, str], str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["fastchat_files.py", str(pairs), str(tmp_path / "gpt-4")])
    runpy.run_path(str(ROOT / "examples" / "integrations" / "fastchat_files.py"), run_name="__main__")
    assert re.search(r"^gpt 0\.625 \(", capsys.readouterr().out, re.MULTILINE)
    # a tie counts a half there too, and the unread one is left out
    assert re.search(r"gpt +2 +1 +1 +.* 0\.625", show(tmp_path / "gpt-4" / "again.jsonl", "pairwise-all"))


def test_an_arena_is_shown_by_fastchat(tmp_path: Path, model_folder: Path, show: Callable[[Path, str], str]) -> None:
    answers = [
        write_jsonl(
            tmp_path / f"{name}.jsonl",
            [{"question_id": k, "question_body": f"Question {k}?", "text": text * k, "model": name} for k in (1, 2, 3)],
        )
        for name, text in (("a", "yes "), ("b", "no "))
    ]
    arena, target = tmp_path / "arena", tmp_path / "tiny_pair.jsonl"
    flags = ["--model", str(model_folder), "--device", "cpu", "--scoring", "expected", "--output-dir", str(arena)]
    assert run_command(["arena", "--answers", *map(str, answers), *flags]) == 0
    assert run_command(["convert", str(arena), str(target)]) == 0
    rows, records = rows_of(target), rows_of(arena / "forward.jsonl")
    assert [row["question_id"] for row in rows] == [1, 2, 3]
    winners = {"win": "model_1", "lose": "model_2", "tie": "tie"}
    likely = [max(record["pred_probabilities"], key=record["pred_probabilities"].get) for record in records]
    assert [row["g1_winner"] for row in rows] == [winners[each] for each in likely]
    ranked = {
        model["name"]: model["win_rate"]["value"]
        for model in json.loads((arena / "ranking.json").read_text())["models"]
    }
    shown = dict(re.findall(r"^([ab]) .* (\d\.\d+)$", show(target, "pairwise-all"), re.MULTILINE))
    agreed = all(row["g1_winner"] == row["g2_winner"] for row in rows)
    assert shown.keys() == ranked.keys()
    if agreed:
        assert {name: float(value) for name, value in shown.items()} == pytest.approx(ranked, abs=1e-5)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"g1_winner": "model_3"}, "expected g1_winner model_1, model_2, tie, error, found 'model_3'"),
        ({"judge": "gpt-4"}, "field 'judge' must be list"),
        ({"turn": {"number": 1}}, "field 'turn' must be int"),
        ({"g1_user_prompt": "Compare them."}, "no row whose texts can be told from its prompt"),
        ({"g2_user_prompt": "[User Question]\nx"}, "expected [The Start of Assistant A's Answer] once"),
    ],
)
def test_a_row_that_is_none_is_told(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], problem: str
) -> None:
    path = write_jsonl(tmp_path / "bad.jsonl", [rows_of(pairs)[0] | change])
    assert run_command(["convert", str(path), str(tmp_path / "judged")]) == 2
    error = capsys.readouterr().err
    assert problem in error
    assert "line 1" in error or "bad.jsonl:1" in error
    assert not (tmp_path / "judged").exists()


def test_a_folder_of_another_judge_is_left_alone(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jsonl(tmp_path / "judged" / "forward.jsonl", [{"question_id": 1}])
    assert run_command(["convert", str(pairs), str(tmp_path / "judged")]) == 2
    assert "holds other judgements" in capsys.readouterr().err
    assert rows_of(tmp_path / "judged" / "forward.jsonl") == [{"question_id": 1}]


def test_a_score_that_a_judge_made_up_is_not_read(
    written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of(written / "gpt-4_single.jsonl")[:2]
    path = write_jsonl(tmp_path / "graded.jsonl", [rows[0] | {"score": 42}, rows[1]])
    assert run_command(["convert", str(path), str(tmp_path / "judged")]) == 0
    assert "forward: 2 judgements of gpt-4, 1 of them without a verdict" in capsys.readouterr().out
    found = {row["question_id"]: row["pred_scores"] for row in rows_of(tmp_path / "judged" / "forward.jsonl")}
    assert found == {"1/1/llama": None, "1/1/gpt": [9.5]}
    path = write_jsonl(tmp_path / "bad.jsonl", [rows[0] | {"score": "9"}])
    assert run_command(["convert", str(path), str(tmp_path / "bad")]) == 2
    assert "expected score to be a number, found '9'" in capsys.readouterr().err


def test_a_calibrated_judges_outcomes_are_those_of_its_map(tmp_path: Path) -> None:
    """Of the answers in the file's order; a tie by the map's threshold."""
    for order, win, lose in (("forward", 0.6, 0.1), ("reversed", 0.1, 0.6)):
        record = {
            **{"question_id": 7, "question_body": "?", "answer1_body": "a", "answer2_body": "b"},
            **{"answer1_model_id": BAD, "answer2_model_id": GOOD, "pred_text": "8 7" if win > lose else "7 8"},
            **{"pred_scores": [8, 7] if win > lose else [7, 8], "pred_task": "pair", "pred_order": order},
            "pred_probabilities": {"win": win, "tie": 0.3, "lose": lose},
            "pred_calibrated": {
                "probabilities": {"win": win, "tie": 0.3, "lose": lose},
                **{"tie_threshold": 0.4, "map": "m"},
            },
        }
        write_jsonl(tmp_path / "judged" / f"{order}.jsonl", [record])
    assert run_command(["convert", str(tmp_path / "judged"), str(tmp_path / "x.jsonl")]) == 0
    (row,) = rows_of(tmp_path / "x.jsonl")
    assert (row["g1_winner"], row["g2_winner"]) == ("tie", "tie")
    for order in ("forward", "reversed"):
        path = tmp_path / "judged" / f"{order}.jsonl"
        write_jsonl(path, [{name: value for name, value in rows_of(path)[0].items() if name != "pred_calibrated"}])
    assert run_command(["convert", str(tmp_path / "judged"), str(tmp_path / "x.jsonl")]) == 0
    (row,) = rows_of(tmp_path / "x.jsonl")
    assert (row["g1_winner"], row["g2_winner"]) == ("model_1", "model_1")


def test_one_order_alone_is_no_file_of_fastchat(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = {"question_id": 1, "question_body": "?", "answer1_body": "a", "answer2_body": "b", "pred_text": "8 7"}
    write_jsonl(tmp_path / "judged" / "forward.jsonl", [record])
    assert run_command(["convert", str(tmp_path / "judged"), str(tmp_path / "x.jsonl")]) == 2
    assert "both orders of each pair, found one" in capsys.readouterr().err


HOSTILE = ["", "\n", "[User Question]", "a\n\n### User:\nb", "[The End of Assistant A's Answer]", "{question}"]


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("turns", [1, 2])
def test_a_text_that_imitates_the_layout_is_read_right_or_not_at_all(hostile: str, turns: int) -> None:
    texts = Texts((hostile,) * turns, (("a",) * turns, (hostile,) * turns))
    try:
        assert read_prompt(write_prompt(texts), 2) == texts
    except ValueError as error:
        assert "once" in str(error) or "cannot be told apart" in str(error)  # noqa: PT017
