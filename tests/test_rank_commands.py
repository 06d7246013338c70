"""`judgelm rank` and `judgelm arena`: what they read, refuse, write and go on with."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from conftest import write_jsonl
from test_audit import Planted, planted

from judgelm.cli import main
from judgelm.errors import InputError, SettingError
from judgelm.evaluation.results import read_folder
from judgelm.judge import JudgeSettings
from judgelm.ranking import RankSettings, make_pairs, run_arena
from judgelm.ranking import rank as rank_judged
from judgelm.ranking.ranking import Ranking


def judged(key: int, models: tuple[str | None, str | None], text: str, **more: Any) -> dict[str, Any]:
    bodies = {"question_body": f"Q{key}", "answer1_body": "x", "answer2_body": "y"}
    names = {f"answer{side}_model_id": name for side, name in enumerate(models, start=1) if name}
    return {"question_id": key, **bodies, **names, "pred_text": text, **more}


def command(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments])
    return int(ended.value.code or 0)


def test_rank_reads_folders_and_files_and_counts_what_it_cannot_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    write_jsonl(folder / "forward.jsonl", [judged(k, ("a", "b"), "9 4") for k in range(3)])
    back = [judged(k, ("b", "a"), text) for k, text in enumerate(["3 8", "8 3", "none"])]
    write_jsonl(folder / "reversed.jsonl", back)
    more = write_jsonl(tmp_path / "more.jsonl", [judged(k, ("a", "c"), "5 5") for k in range(2)])
    assert command("rank", "--judgements", folder, more, "--output-dir", tmp_path / "out") == 0
    document = json.loads((tmp_path / "out" / "ranking.json").read_text())
    assert list(document) == ["format", "rule", "length_controlled", "judgements", "unread", "models", "pairs", "notes"]
    assert document["notes"] == ["there are 2 questions only: too few for intervals to be relied on"]
    assert (document["rule"], document["length_controlled"]) == ("hard", False)
    assert (document["judgements"], document["unread"]) == (4, 1)
    assert set(document["models"][0]) == {"name", "judged", "win_rate", "bradley_terry", "elo"}
    pair = next(each for each in document["pairs"] if "b" in (each["first"], each["second"]))
    # both orders agree once and contradict once
    assert (pair["wins"], pair["ties"], pair["losses"]) == (1, 1, 0)
    assert set(pair) == {"first", "second", "wins", "ties", "losses", "win_rate", "told_apart", "more_needed"}
    assert set(pair["win_rate"]) == {"value", "low", "high", "count"}
    ET.parse(tmp_path / "out" / "ranking.svg")
    out = capsys.readouterr().out
    assert "4 judgements, 1 unread and left out; outcomes hard" in out
    assert "not told apart" in out


@pytest.mark.parametrize(
    ("record", "flags", "said"),
    [
        (judged(1, ("a", None), "9 4"), [], "question_id 1 has no answer2_model_id"),
        (judged(1, ("a", "a"), "9 4"), [], "question_id 1 compares a with itself"),
        (judged(1, ("a", "b"), "hm"), [], "no judgement has scores that can be read"),
        (judged(1, ("a", "b"), "9 4"), ["--outcomes", "soft"], "needs those that --scoring expected gives"),
    ],
)
def test_what_cannot_be_ranked_ends_in_one_line(
    record: dict[str, Any], flags: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_jsonl(tmp_path / "f.jsonl", [record])
    assert command("rank", "--judgements", path, *flags) == 2
    assert said in capsys.readouterr().err


def test_folders_files_and_samples_are_ranked_from_python_as_the_command_ranks_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    write_jsonl(folder / "forward.jsonl", [judged(k, ("a", "b"), "9 4") for k in range(3)])
    more = write_jsonl(tmp_path / "more.jsonl", [judged(k, ("a", "c"), "5 5") for k in range(2)])
    assert command("rank", "--judgements", folder, more, "--output-dir", tmp_path, "--seed", "3") == 0
    settings = RankSettings(seed=3)
    ranking = rank_judged([folder, str(more)], settings)
    path = tmp_path / "ranking.json"
    assert ranking.to_record() == json.loads(path.read_text())
    assert Ranking.read(path) == ranking
    assert rank_judged(read_folder(folder), settings) == rank_judged(folder, settings)
    # as version 0.1 wrote it
    path.write_text(json.dumps({name: value for name, value in ranking.to_record().items() if name != "format"}))
    assert Ranking.read(path) == ranking
    path.write_text(json.dumps(ranking.to_record() | {"unread": "none"}))
    with pytest.raises(InputError, match=r"ranking\.json: not a ranking \(unread: .* found none\)"):
        Ranking.read(path)
    with pytest.raises(SettingError, match="outcomes 'firm': expected hard or soft"):
        RankSettings("firm")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="gone"):
        rank_judged(tmp_path / "gone")
    capsys.readouterr()


def test_models_whose_names_are_numbers_are_ranked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [judged(1, (7, 8), "9 4"), judged(2, ("8", 7), "9 4"), judged(3, (True, 7), "9 4")]  # type: ignore[arg-type]
    assert command("rank", "--judgements", write_jsonl(tmp_path / "f.jsonl", rows), "--output-dir", tmp_path) == 0
    document = json.loads((tmp_path / "ranking.json").read_text())
    assert {model["name"]: model["judged"] for model in document["models"]} == {"7": 3, "8": 2, "true": 1}
    capsys.readouterr()


def test_control_characters_of_names_are_left_out_wherever_they_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Escape sequences, tabs and new lines, turned text, C1 controls, half a surrogate pair."""
    names = ("\x1b[31mred\t\n\x9b", "B\u202eevil\u200b\ud800")
    rows = [judged(k, names, "9 4") for k in range(3)]
    folder = tmp_path / "run"
    write_jsonl(folder / "forward.jsonl", rows)
    assert command("rank", "--judgements", folder, "--output-dir", folder) == 0
    assert command("report", folder) == 0
    out = capsys.readouterr().out
    shown = {path.suffix: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    for text in (out, *(shown[suffix] for suffix in (".svg", ".html", ".md"))):
        assert "[31mred" in text
        assert not {*"\x1b\x9b\u202e\u200b"} & {*text}
    assert "[31mred won all and Bevil lost all" in out
    ET.fromstring(shown[".svg"])
    assert [model["name"] for model in json.loads(shown[".json"])["models"]] == list(names)


def test_a_graded_answer_beside_the_right_one_is_no_ranking(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"question_id": 1, "question": "Q", "answer": "x", "answer1_body": "y", "answer1_model_id": "m"}
    path = write_jsonl(tmp_path / "f.jsonl", [row | {"pred_task": "mmvet", "pred_text": " 4"}])
    assert command("rank", "--judgements", path) == 2
    assert "question_id 1 grades one answer beside the right one" in capsys.readouterr().err


def answer_files(folder: Path, names: str = "abc", questions: int = 4) -> list[str]:
    return [
        str(write_jsonl(folder / f"{name}.jsonl", [answer(k, f"{name} says {k}. ") for k in range(questions)]))
        for name in names
    ]


def answer(key: int, text: str, **more: Any) -> dict[str, Any]:
    return {"question_id": key, "question_body": f"What is {key}?", "text": text * (1 + key), **more}


def test_pairs_are_all_pairs_or_as_many_as_asked_for_drawn_by_the_seed(tmp_path: Path) -> None:
    files = answer_files(tmp_path, "abcd")
    records = make_pairs(files)
    assert len({record["question_id"] for record in records}) == len(records) == 4 * 6
    assert records[1]["question_id"] == "0/1-3"
    assert (records[1]["answer1_model_id"], records[1]["answer2_model_id"]) == ("a", "c")
    assert records[1]["answer2_body"] == "c says 0. "
    few = make_pairs(files, 2, seed=1)
    assert len(few) == 8
    assert few == make_pairs(files, 2, seed=1) != make_pairs(files, 2, seed=2)


def test_answer_files_that_do_not_fit_are_refused_by_id(tmp_path: Path) -> None:
    files = answer_files(tmp_path, "ab")
    short = write_jsonl(tmp_path / "short.jsonl", [answer(k, "s") for k in range(3)])
    with pytest.raises(InputError, match=r"short.jsonl has no answer for question_id 3"):
        make_pairs([*files, str(short)])
    same = write_jsonl(tmp_path / "same.jsonl", [answer(k, "s", model="a") for k in range(4)])
    with pytest.raises(InputError, match=r"a.jsonl and .*same.jsonl are both of model a"):
        make_pairs([*files, str(same)])
    mixed = write_jsonl(tmp_path / "mixed.jsonl", [answer(k, "s", model=f"m{k}") for k in range(4)])
    with pytest.raises(InputError, match=r"mixed.jsonl:2: model is 'm1', in line 1 'm0'"):
        make_pairs([*files, str(mixed)])
    with pytest.raises(InputError, match="two or more answer files, found 1"):
        make_pairs(files[:1])


def test_an_arena_judges_ranks_and_goes_on(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    arguments: list[str | Path] = [
        "arena",
        "--answers",
        *answer_files(tmp_path),
        "--output-dir",
        output,
        "--model",
        model_folder,
    ]
    arguments += ["--scoring", "expected", "--outcomes", "soft", "--device", "cpu", "--length-control"]
    assert command(*arguments, "--limit", "5") == 0
    assert command(*arguments) == 0
    said = capsys.readouterr()
    assert "10 of 24 judgements are there already" in said.err
    assert "12 judgements, 0 unread and left out; outcomes soft" in said.out
    assert {path.name for path in output.iterdir() if not path.name.startswith(".")} == {
        *("questions.jsonl", "forward.jsonl", "reversed.jsonl", "run.json", "ranking.json", "ranking.svg")
    }
    document = json.loads((output / "ranking.json").read_text())
    assert document["length_controlled"] is True
    assert [model["judged"] for model in document["models"]] == [8, 8, 8]
    assert command(*arguments, "--pairs-per-question", "1") == 2
    assert "questions.jsonl holds other pairs" in capsys.readouterr().err


def test_an_arena_from_python_is_ranked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    answer_files(tmp_path)
    settings, soft = JudgeSettings(scoring="expected"), RankSettings(outcomes="soft")
    judge = planted(Planted(lambda seen: (9, 2)))
    arena = run_arena(["a.jsonl", "b.jsonl", "c.jsonl"], "arena", judge, settings, soft, limit=4)
    assert arena.num_pairs == arena.ranking.judgements == 4
    rank_judged("arena", RankSettings(length_control=True)).write("ranking.json")
    assert Ranking.read(tmp_path / "ranking.json").length_controlled


def test_soft_outcomes_are_refused_before_anything_is_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    files = answer_files(tmp_path)
    assert command("arena", "--answers", *files, "--output-dir", output, "--outcomes", "soft") == 2
    assert "needs --scoring expected" in capsys.readouterr().err
    assert not output.exists()
