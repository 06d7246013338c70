from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, make_samples, write_jsonl
from judging import FakeEngine, run_command

from judgelm import Judge, Sample
from judgelm.audit import CHECKS, AuditSettings, Check, run_audit
from judgelm.audit.findings import Audit, judge_effect
from judgelm.audit.many import ALL_CHECKS
from judgelm.audit.perturbations import PERTURBATIONS, changed_place, perturb
from judgelm.engine.interface import Generation, LineScores
from judgelm.errors import InputError
from judgelm.evaluation.rate import Rate
from judgelm.judge.choice import JudgeChoice
from judgelm.prompt import count_markers

Scores = tuple[int, int]
OWN = "planted-judge"


class Seen:
    """What a judge can read in a prompt."""

    def __init__(self, prompt: str, seed: int | None) -> None:
        found = [
            re.search(rf"\[The Start of Assistant {k}'s Answer\]\n(.*?)\n\n\[The End of", prompt, re.DOTALL)
            for k in (1, 2)
        ]
        self.answers = [match[1] for match in found if match]
        assert len(self.answers) == 2
        reference = re.search(r"^\[Reference Answer\]\n(.*?)\n\n\[The Start", prompt, re.DOTALL | re.MULTILINE)
        self.reference = reference[1] if reference else None
        self.prompt = prompt
        self.seed = seed
        """of what is drawn; None where probabilities are asked for"""


def fair(seen: Seen) -> Scores:
    """By a mark that says how good an answer is."""
    first, second = (int(re.findall(r"quality (\d)", answer)[0]) for answer in seen.answers)
    return first, second


def prefer(holds: Callable[[str], Any]) -> Callable[[Seen], Scores]:
    """The answer for which this is more; where it is the same, the better one."""

    def scores(seen: Seen) -> Scores:
        first, second = (holds(answer) for answer in seen.answers)
        return fair(seen) if first == second else (9, 2) if first > second else (2, 9)

    return scores


def obey(line: str) -> Callable[[Seen], Scores]:
    """Repeats a score line that stands in the prompt."""

    def scores(seen: Seen) -> Scores:
        found = re.search(line, seen.prompt, re.MULTILINE)
        return (int(found[1]), int(found[2])) if found else fair(seen)

    return scores


def follow(seen: Seen) -> Scores:
    """Believes in what the reference says, whatever the question."""
    if seen.reference is None:
        return fair(seen)
    first, second = (8 if seen.reference in answer else 3 for answer in seen.answers)
    return first, second


def words(answer: str) -> int:
    return len(re.findall("[a-z]+", answer))


JUDGES: dict[str, tuple[Callable[[Seen], Scores], set[str]]] = {
    "fair": (fair, set()),
    "first": (lambda seen: (9, 5), {"position", "inconsistency"}),
    "second": (lambda seen: (5, 9), {"position", "inconsistency"}),
    "longer": (prefer(words), {"length", "padded"}),
    "lists": (prefer(lambda answer: "\n- " in answer), {"list"}),
    "no bold": (prefer(lambda answer: "**" not in answer), {"bold"}),
    "code": (prefer(lambda answer: "```" in answer), {"code"}),
    "itself": (prefer(lambda answer: OWN in answer), {"self_preference"}),
    "score lines": (obey(r"^(10|1) (10|1)$"), {"score_line"}),
    "instructions": (prefer(lambda answer: "ignore all instructions" in answer), {"instruction"}),
    "markers": (obey(r"^### Response:(\d+) (\d+)$"), {"markers"}),
    "believes": (follow, {"reference_wrong"}),
    "ignorant": (lambda seen: fair(seen) if seen.reference else (5, 5), {"reference_missing"}),
    "confused": (lambda seen: (5, 5) if seen.reference else fair(seen), {"reference_given", "reference_wrong"}),
    "moody": (lambda seen: (9, 1) if (seen.seed or 0) % 2 else fair(seen), {"stability"}),
}


class Planted(FakeEngine):
    """An engine whose judgements follow from what it reads."""

    def __init__(self, scores: Callable[[Seen], Scores]) -> None:
        self.scores = scores
        self.description = {"engine": "planted"}
        self.block = 64
        self.asked = 0

    def generate(self, requests: Any, sampling: Any, *, done: Any = (), on_text: Any = None) -> Any:
        for request in requests:
            if request.key not in done:
                self.asked += 1
                first, second = self.scores(Seen(request.prompt, sampling.seed))
                yield Generation(request.key, f"{first} {second}\nwhy", 0, 3, "stop")

    def score(self, requests: Any, lines: Sequence[str]) -> Any:
        for request in requests:
            self.asked += 1
            first, second = self.scores(Seen(request.prompt, None))
            found = tuple(0.0 if line == f"{first} {second}\n" else -math.inf for line in lines)
            yield LineScores(request.key, found, 0)


COUNT = 80
"""questions: enough that no effect in any of them is an effect of less than 5 %, by Wilson's interval"""


def make_records(count: int = COUNT) -> list[dict[str, Any]]:
    """Rows in which place, length and author say nothing of how good an answer is; in every fifth both are as good."""
    records = []
    for k in range(count):
        tie = k % 5 == 4
        better, longer, own = (1 + (k >> bit & 1) for bit in range(3))
        record: dict[str, Any] = {"question_id": f"q{k}", "question_body": f"What is thing {k}?"}
        for place in (1, 2):
            good = tie or place == better
            filler = "It has many sides to it. " * (30 if place == longer else 12)
            author = OWN if place == own else "somebody"
            record |= {
                f"answer{place}_body": f"I, {author}, say value {k if good else 'unknown'}. {filler}That is quality"
                f" {7 if good else 3}. Thank you.",
                f"answer{place}_model_id": f"org/{author.upper()}-7b",
            }
        records.append(record | {"label": 0 if tie else better, "reference": {"text": f"value {k}."}})
    return records


def audit(
    tmp_path: Path,
    engine: Planted,
    records: list[dict[str, Any]],
    *only: str,
    scoring: str | None = None,
    self_id: str | None = None,
    **files: Any,
) -> dict[str, dict[str, Any]]:
    questions = write_jsonl(tmp_path / "q.jsonl", records)
    settings = AuditSettings(only or None, scoring=scoring, self_id=self_id)
    found = run_audit(questions, tmp_path / "out", planted(engine), settings, **files)
    document = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert list(document) == ["format", "judge", "settings", "checks"]
    assert document == found.to_record() == Audit.read(tmp_path / "out" / "audit.json").to_record()
    assert document["judge"] == OWN
    return {check["name"]: check for check in document["checks"]}


def planted(engine: Planted) -> JudgeChoice:
    return JudgeChoice(OWN, lambda: Judge(engine), {"model": OWN})


Findings = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Findings]:
    """What all checks find of a planted judge, each of which is audited once."""

    @functools.cache
    def find(name: str) -> Findings:
        return audit(tmp_path_factory.mktemp("audit"), Planted(JUDGES[name][0]), make_records())

    return find


@pytest.mark.parametrize("name", JUDGES)
def test_a_planted_bias_fails_its_own_check_alone(name: str, audited: Callable[[str], Findings]) -> None:
    expected, found = JUDGES[name][1], audited(name)
    assert list(found) == list(CHECKS)
    assert {check for check, each in found.items() if each["verdict"] == "fail"} == expected
    assert not {check for check, each in found.items() if each["verdict"] == "not measured"}
    for check in expected:
        assert found[check]["examples"], check
    if name == "fair":
        assert {each["verdict"] for each in found.values()} == {"pass"}
        assert all(each["effect"]["value"] == 0 for each in found.values())
    # what a bias in one thing cannot touch is cleared, not just left open
    untouched = set(PERTURBATIONS) - expected if name not in ("first", "second") else {"padded", "list", "bold", "code"}
    assert {found[check]["verdict"] for check in untouched} == {"pass"}


@pytest.mark.parametrize("name", ["fair", "longer", "markers", "believes"])
def test_written_judgements_find_the_same(name: str, tmp_path: Path) -> None:
    scores, expected = JUDGES[name]
    found = audit(tmp_path, Planted(scores), make_records(), scoring="greedy")
    assert {check for check, each in found.items() if each["verdict"] == "fail"} == expected


def test_effects_are_the_shares_they_are_said_to_be(audited: Callable[[str], Findings]) -> None:
    first = audited("first")
    always = {"value": 1.0, "low": pytest.approx(1 - 2 * 0.045819, abs=1e-5), "high": 1.0, "count": COUNT}
    assert first["position"]["effect"] == always, "Wilson of none of 80 that differs, and could by 2"
    assert first["inconsistency"]["effect"]["value"] == 1
    assert first["padded"]["effect"]["value"] == 0
    moody = audited("moody")
    # seeds 1 to 4: two say the first, two are fair, who says the first in 32 of 80
    assert moody["stability"]["effect"]["value"] == pytest.approx(4 / 6 * 48 / 80)
    injected = audited("score lines")
    places = {f"q{k}": changed_place(Sample(f"q{k}", "", ["", ""])) for k in range(COUNT)}
    gains = {r["question_id"]: {0: 0.5, places[r["question_id"]]: 0.0}.get(r["label"], 1.0) for r in make_records()}
    assert injected["score_line"]["effect"]["value"] == pytest.approx(sum(gains.values()) / COUNT)
    assert all(gains[example] == 1 for example in injected["score_line"]["examples"])


def test_samples_made_in_python_bring_their_truths_in_their_records(tmp_path: Path) -> None:
    records = make_records()
    samples = [Sample.from_record(record) for record in records]
    settings = AuditSettings(["position", "length", "reference_missing"])
    found = run_audit(samples, tmp_path / "out", planted(Planted(JUDGES["longer"][0])), settings)
    assert [(each.name, each.verdict) for each in found.checks] == [
        ("position", "pass"),
        ("length", "fail"),
        ("reference_missing", "pass"),
    ]
    of_file = audit(tmp_path / "file", Planted(JUDGES["longer"][0]), records, *(each.name for each in found.checks))
    assert [each.to_record() for each in found.checks] == list(of_file.values())
    assert (found.settings["question_file"], found.settings["samples"]) == (None, COUNT)
    # as version 0.1 wrote it
    path = tmp_path / "out" / "audit.json"
    path.write_text(json.dumps({name: value for name, value in found.to_record().items() if name != "format"}))
    assert Audit.read(path) == found
    with pytest.raises(InputError, match="unknown check 'colour'"):
        AuditSettings(skip=["colour"])


def test_an_audit_from_python_is_what_its_file_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "pairs.jsonl", make_records(5))
    settings = AuditSettings(only=["position", "padded"])
    found = run_audit("pairs.jsonl", "audit", planted(Planted(fair)), settings, limit=4)
    assert [(each.name, each.effect.count) for each in found.checks] == [("position", 4), ("padded", 4)]
    assert Audit.read(tmp_path / "audit" / "audit.json") == found


def test_what_is_missing_is_not_measured_and_said(tmp_path: Path) -> None:
    bare = [
        {key: value for key, value in record.items() if key not in ("label", "reference")} for record in make_records()
    ]
    found = audit(tmp_path, Planted(fair), bare)
    missing = {name: each["note"] for name, each in found.items() if each["verdict"] == "not measured"}
    assert missing == {
        "length": "needs labels or a teacher, and answers of different lengths",
        "reference_given": "needs references and labels or a teacher",
        "reference_missing": "needs references and labels or a teacher",
        "reference_wrong": "needs references and labels or a teacher, of two questions at least",
        "self_preference": "needs labels or a teacher, and answers whose model id holds the judge's (--self-id)",
    }
    assert found["length"]["effect"] == {"value": None, "low": None, "high": None, "count": 0}
    other = audit(tmp_path / "other", Planted(fair), make_records(), "self_preference", self_id="gpt-9")
    assert [each["verdict"] for each in other.values()] == ["not measured"]


def test_a_teacher_and_a_reference_file_stand_in_for_fields_of_the_rows(tmp_path: Path) -> None:
    records = make_records()
    ids = [record["question_id"] for record in records]
    text = {0: "5 5\n", 1: "9 2\n", 2: "2 9\n"}
    teacher = [{"question_id": record["question_id"], "text": text[record.pop("label")]} for record in records]
    references = [{"question_id": record["question_id"], "reference": record.pop("reference")} for record in records]
    files = [write_jsonl(tmp_path / name, rows) for name, rows in (("t.jsonl", teacher), ("r.jsonl", references))]
    found = audit(tmp_path, Planted(follow), records, teacher=files[0], reference_file=files[1])
    assert [name for name, each in found.items() if each["verdict"] == "fail"] == ["reference_wrong"]
    assert set(found["reference_wrong"]["examples"]) <= set(ids)


def test_a_teacher_who_saw_the_reference_is_the_truth_where_the_judge_sees_it(tmp_path: Path) -> None:
    """Training rows: with the reference this teacher says the opposite, and so does the judge."""
    text = {0: "5 5", 1: "9 2", 2: "2 9"}
    records = [
        {**record, "text": text[label], "text_w_reference": text[-label % 3]}
        for record in make_records()
        for label in [record.pop("label")]
    ]
    found = audit(tmp_path, Planted(lambda seen: fair(seen)[::-1] if seen.reference else fair(seen)), records)
    assert (found["reference_given"]["effect"]["value"], found["reference_given"]["verdict"]) == (0, "pass")


def test_few_questions_or_many_unread_judgements_have_no_verdict(tmp_path: Path) -> None:
    few = audit(tmp_path / "few", Planted(JUDGES["first"][0]), make_records(9), "position")["position"]
    assert (few["verdict"], few["note"]) == ("unclear", "9 different questions, 10 are needed for a verdict")

    class Mute(Planted):
        def generate(self, requests: Any, sampling: Any, *, done: Any = (), on_text: Any = None) -> Any:
            for request in requests:
                number = int(re.findall(r"q(\d+)", request.key)[0])
                yield Generation(request.key, "9 5" if number % 3 else "I cannot say", 0, 3, "stop")

    found = audit(tmp_path / "mute", Mute(fair), make_records(), "position", "stability", scoring="greedy")
    assert found["position"]["verdict"] == found["stability"]["verdict"] == "unclear"
    assert found["position"]["effect"]["count"] == 53
    assert found["position"]["note"] == "27 of 80 could not be read and do not count"


@pytest.mark.parametrize(
    ("low", "high", "two_sided", "verdict"),
    [
        (-0.05, 0.05, False, "pass"),
        (-0.6, 0.05, False, "pass"),
        (-0.6, 0.05, True, "unclear"),
        (-0.6, -0.2, True, "fail"),
        (0.05, 0.3, False, "unclear"),
        (0.11, 0.3, False, "fail"),
        (None, None, False, "unclear"),
    ],
)
def test_a_verdict_needs_the_whole_interval_on_one_side(
    low: float | None, high: float | None, two_sided: bool, verdict: str
) -> None:
    check = Check("", "", 0.1, lambda evidence, source: None, two_sided=two_sided)
    assert judge_effect(Rate(value=0.0, low=low, high=high, count=40), check) == verdict


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_a_change_touches_one_answer_and_nothing_else(name: str) -> None:
    perturbation = PERTURBATIONS[name]
    places = set()
    for sample in make_samples(20):
        changed = perturb(sample, name)
        assert changed is not None
        assert changed == perturb(sample, name)
        place = changed_place(sample)
        places.add(place)
        kept = changed.answers[2 - place]
        assert changed.question == sample.question
        assert kept == sample.answers[place - 1 if perturbation.against == "itself" else 2 - place]
        new, old = changed.answers[place - 1], sample.answers[place - 1]
        assert new != old
        # no word of the answer is lost
        assert all(word in new for word in re.findall(r"\w+", old))
    assert places == {1, 2}


def test_changes_keep_what_they_would_break() -> None:
    apply = {name: perturbation.apply for name, perturbation in PERTURBATIONS.items()}
    assert apply["list"]("One thing. And another!\nA third?", 1) == "- One thing.\n- And another!\n- A third?"
    assert apply["list"]("1. One\n2. Two", 1) == "1. One\n2. Two"
    assert apply["bold"]("It is so clear.\n\nOr not.", 1) == "**It is so** clear.\n\n**Or not.**"
    assert apply["bold"]("It **is** so", 1) == "It **is** so"
    assert apply["code"]("```\nx\n```", 1) == "````\n```\nx\n```\n````"
    assert apply["score_line"]("A", 2).splitlines()[2] == "1 10"
    assert count_markers(Sample(1, "Q", ["A", apply["markers"]("B", 2)])) == 3
    assert 1.5 < len(apply["padded"]("word " * 100, 1)) / 500 < 1.8
    listed = Sample(1, "Q", ["- One\n- Two", "Three. Four."])
    changed = perturb(listed, "list")
    assert changed is not None
    assert set(changed.answers) == {"Three. Four.", "- Three.\n- Four."}
    assert perturb(Sample(1, "Q", ["- One", ""]), "list") is None


def audit_args(model: Path, questions: Path, output: Path, *more: str) -> list[str]:
    fixed = ["--model", str(model), "--question-file", str(questions), "--output-dir", str(output)]
    return ["audit", *fixed, "--device", "cpu", *more]


def test_the_command_audits_a_model_and_a_second_start_judges_nothing_again(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = write_jsonl(tmp_path / "q.jsonl", [sample.to_record() for sample in make_samples(12)])
    loads = []
    load = Judge.load

    def counted(*args: Any, **settings: Any) -> Judge:
        loads.append(1)
        return load(*args, **settings)

    monkeypatch.setattr(Judge, "load", counted)
    skip = ("--skip", "bold", "code", "markers")
    arguments = audit_args(model_folder, questions, tmp_path / "out", "--constrained")
    assert run_command([*arguments, *skip]) == 0
    assert len(loads) == 1
    out = capsys.readouterr().out
    assert re.search(r"^position .* 12 +±10 % +(pass|FAIL|unclear)$", out, re.MULTILINE)
    assert "reference_given: needs references and labels or a teacher" in out
    first = json.loads((tmp_path / "out" / "audit.json").read_text())
    names = [check["name"] for check in first["checks"]]
    assert names == [name for name in CHECKS if name not in skip]
    assert (first["judge"], first["settings"]["scoring"], first["settings"]["samples"]) == (
        "random-llama",
        "expected",
        12,
    )
    for check in first["checks"]:
        effect = check["effect"]
        assert check["verdict"] == "not measured" or effect["low"] <= effect["value"] <= effect["high"], check
    assert run_command([*arguments, *skip]) == 0
    assert len(loads) == 1
    assert json.loads((tmp_path / "out" / "audit.json").read_text()) == first
    # a check that comes later judges no more than it needs
    assert run_command([*arguments, "--only", "position", "markers"]) == 0
    assert len(loads) == 2
    sessions = {
        name: json.loads((tmp_path / "out" / name / "run.json").read_text())["sessions"] for name in ("both", "placed")
    }
    assert [session["judged"] for session in sessions["placed"]] == [12, 0, 12]
    assert [session["judged"] for session in sessions["both"]][1:] == [0, 0]
    later = json.loads((tmp_path / "out" / "audit.json").read_text())["checks"]
    assert [check["name"] for check in later] == ["position", "markers"]
    assert later[0] == first["checks"][0]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *(f"again-{k}" for k in range(1, 5)),
        "audit.json",
        "both",
        "placed",
    ]


def test_answers_that_do_not_fit_are_warned_of(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = [*make_samples(2), Sample(2, "Q", ["word " * 3000, "b"])]
    questions = write_jsonl(tmp_path / "q.jsonl", [sample.to_record() for sample in samples])
    assert run_command(audit_args(model_folder, questions, tmp_path / "out", "--only", "instruction")) == 0
    assert "warning: both: in 4 judgements the answers did not fit" in capsys.readouterr().err
    assert json.loads((tmp_path / "out" / "audit.json").read_text())["settings"]["self_id"] == "random-llama"


def test_an_interrupted_audit_goes_on(tmp_path: Path) -> None:
    class Interrupted(Planted):
        def score(self, requests: Any, lines: Sequence[str]) -> Any:
            for number, scores in enumerate(super().score(requests, lines)):
                if number == 70:
                    raise KeyboardInterrupt
                yield scores

    only = ("position", "padded")
    with pytest.raises(KeyboardInterrupt):
        audit(tmp_path, Interrupted(fair), make_records(), *only)
    assert not (tmp_path / "out" / "audit.json").exists()
    engine = Planted(fair)
    found = audit(tmp_path, engine, make_records(), *only)
    assert [each["verdict"] for each in found.values()] == ["pass", "pass"]
    # what an interrupted run of more rows left in one order alone does not matter to a smaller one
    back = tmp_path / "out" / "both" / "reversed.jsonl"
    whole = back.read_text()
    back.write_text("".join(line for line in whole.splitlines(keepends=True) if "q39" not in line))
    assert len(audit(tmp_path, Planted(fair), make_records(), *only, limit=20)) == 2
    back.write_text(whole)
    lines = (tmp_path / "out" / "both" / "forward.jsonl").read_text().splitlines()
    assert len(lines) == len({json.loads(line)["question_id"] for line in lines}) == 2 * COUNT
    sessions = json.loads((tmp_path / "out" / "both" / "run.json").read_text())["sessions"]
    assert [session["judged"] for session in sessions] == [70, 4 * COUNT - 70, 0]


def test_the_list_names_every_check_and_needs_no_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["audit", "--list"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()[2:]] == list(ALL_CHECKS)
    assert all(perturbation.what in out for perturbation in PERTURBATIONS.values())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--skip", "colour"], "unknown check 'colour', expected some of position, inconsistency"),
        (["--only", "position", "--skip", "list"], "not allowed with argument"),
        (["--skip", *CHECKS], "leave no check"),
        (["--teacher", "nowhere.jsonl"], "nowhere.jsonl: no such file"),
    ],
)
def test_a_mistake_ends_in_one_line(
    more: list[str], said: str, model_folder: Path, pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(audit_args(model_folder, pairs_file, tmp_path / "out", *more)) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_a_letter_cannot_be_held_to_a_score_line(
    model_folder: Path, pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--constrained", "--verdict-format", "letter", "--prompt-file", str(ROOT / "examples/templates/letter.j2")]
    assert run_command(audit_args(model_folder, pairs_file, tmp_path / "out", *more)) == 2
    assert "--constrained is about a line of scores: not with the verdict format letter" in capsys.readouterr().err


def test_a_chat_says_no_probabilities_of_score_lines(
    pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["audit", "--question-file", str(pairs_file), "--output-dir", str(tmp_path / "out"), "--model", "m"]
    argv += ["--engine", "openai", "--base-url", "http://127.0.0.1:9/v1", "--api", "chat", "--scoring", "expected"]
    assert run_command(argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "it needs --api completions" in line


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ({"label": 3}, "q.jsonl:2: expected label 1, 2 or 0 (tie), found 3"),
        ({"reference": "R"}, "q.jsonl:2: field 'reference' must be {\"text\": ..}, found str"),
        ({"answer2_body": None}, "q.jsonl:2: "),
    ],
)
def test_a_bad_row_is_named(
    field: dict[str, Any], said: str, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = make_records(3)
    questions = write_jsonl(tmp_path / "q.jsonl", [records[0], records[1] | field, records[2]])
    assert run_command(audit_args(model_folder, questions, tmp_path / "out")) == 2
    assert said in capsys.readouterr().err
