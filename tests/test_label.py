"""Labels from people: what a person is shown, what is kept of what they say, and who may say it."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import write_jsonl
from judging import run_command
from serving import HTTP, Process, free_port, running, served
from test_evaluate import write_run

from judgelm.appended import AppendedFile
from judgelm.errors import InputError
from judgelm.evaluation import evaluate
from judgelm.labelling import Labelling, LabelSettings, invite, open_labelling
from judgelm.labelling.people import People
from judgelm.labelling.picking import BLOCK, pick_blocks
from judgelm.labelling.rows import arrange, read_rows
from judgelm.samples import read_samples
from judgelm.serve.hosts import read_hosts
from judgelm.serve.label.app import create_app

Record = dict[str, Any]


def pair(key: int | str, **more: Any) -> Record:
    texts = {"answer1_body": f"left {key}", "answer2_body": f"right {key}"}
    models = {"answer1_model_id": "model-of-left", "answer2_model_id": "model-of-right"}
    return {"question_id": key, "question_body": f"Question {key}?", **texts, **models, **more}


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "pairs.jsonl", [pair(f"secret-{k}") for k in range(12)])


class Person:
    """Somebody with the page open, who reads texts to know which answer is the file's first."""

    def __init__(self, url: str, authorization: str) -> None:
        self.url = url
        self.headers = {"Authorization": authorization}

    def see(self, query: str = "") -> Any:
        answer = HTTP.get(f"{self.url}/api/row{query}", headers=self.headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def send(self, body: Any, **settings: Any) -> httpx.Response:
        return HTTP.post(f"{self.url}/api/vote", json=body, headers=self.headers, **settings)

    def say(self, row: Record, choice: Any, reason: str = "") -> Any:
        answer = self.send({"row": row["row"], "choice": choice, "reason": reason})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def find(self, question: str) -> Record:
        """The row of a question, wherever it stands among this person's."""
        first = self.see()["row"]
        while first["number"] > 1:
            first = self.see(f"?row={first['row']}&steps=-1")["row"]
        row: Record | None = first
        while row is not None and question_of(row) != question:
            row = self.see(f"?row={row['row']}&steps=1")["row"]
        assert row is not None
        return row

    def prefer(self, question: str, better: str, reason: str = "") -> Any:
        """`better` is how the better answer begins."""
        row = self.find(question)
        return self.say(row, 1 + [text_of(each).startswith(better) for each in row["answers"]].index(True), reason)


def text_of(answer: Record) -> str:
    return "".join(part["text"] for part in answer["parts"])


def question_of(row: Record) -> str:
    return text_of(row["dialogue"][-1])


@contextlib.contextmanager
def page(settings: LabelSettings) -> Iterator[tuple[str, People, Labelling]]:
    with open_labelling(settings) as labelling:
        people = invite(settings)
        with served(create_app(labelling, people, read_hosts([], "127.0.0.1"))) as url:
            yield url, people, labelling


def labels_of(output: Path) -> dict[Any, Record]:
    records = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    return {record["question_id"]: record for record in records}


def test_people_see_texts_alone_in_an_order_of_their_own_that_lasts(pairs: Path, tmp_path: Path) -> None:
    settings = LabelSettings(pairs, tmp_path / "L.jsonl")
    seen: dict[str, list[list[tuple[str, str]]]] = {"anna": [], "bert": []}
    for _ in range(2):
        with page(settings) as (url, _, _):
            for name, starts in seen.items():
                person, rows = Person(url, f"Name {name}"), []
                answer = person.see()
                while answer["row"] is not None:
                    assert "secret" not in json.dumps(answer).replace("Question secret", "").replace(
                        "left secret", ""
                    ).replace("right secret", "")
                    assert "model" not in json.dumps(answer)
                    rows.append((question_of(answer["row"]), text_of(answer["row"]["answers"][0]).split()[0]))
                    answer = person.see(f"?row={answer['row']['row']}&steps=1")
                starts.append(rows)
    for starts in seen.values():
        assert starts[0] == starts[1]
        assert sorted(question for question, _ in starts[0]) == sorted(f"Question secret-{k}?" for k in range(12))
        # neither side is always the first one
        assert {first for _, first in starts[0]} == {"left", "right"}
    assert [row for row, _ in seen["anna"][0]] != [row for row, _ in seen["bert"][0]]
    assert dict(seen["anna"][0]) != dict(seen["bert"][0])


def test_labels_are_of_the_files_order_and_evaluate_reads_them(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "D", [("9 1", "1 9"), ("2 8", "8 2"), ("5 5", "4 6"), ("7 3", "6 4")])
    output = tmp_path / "L.jsonl"
    with page(LabelSettings(folder / "forward.jsonl", output, people=("anna", "bert", "Carla"))) as (url, people, _):
        anna, bert, carla = (Person(url, f"Bearer {token}") for token in people.tokens.values())
        anna.prefer("Question 0?", "left", "  it is right\n")
        bert.prefer("Question 0?", "left")
        carla.prefer("Question 0?", "right")
        anna.prefer("Question 1?", "left")
        bert.say(bert.find("Question 1?"), 0)
        for person in (anna, bert):
            person.say(person.find("Question 2?"), 0)
        carla.say(carla.find("Question 2?"), "skip")
    found = labels_of(output)
    assert found[0] == {
        "question_id": 0,
        "label": 1,
        "annotators": [2, 1, 1],
        "annotator_names": ["Carla", "anna", "bert"],
        "reasons": [None, "it is right", None],
        "skipped": [],
    }
    assert (found[1]["label"], found[1]["annotators"]) == (None, [1, 0])
    assert (found[2]["label"], found[2]["annotators"], found[2]["skipped"]) == (0, [0, 0], ["Carla"])
    assert (found[3]["label"], found[3]["annotators"]) == (None, [])
    rates = evaluate(folder, output).summary.rates
    # question 0 is won and 2 a tie, as the judge said of both
    assert (rates["agreement"].value, rates["agreement"].count) == (1.0, 2)
    assert rates["human_agreement"].value == pytest.approx((1 / 3 + 0 + 1) / 3)


def test_the_last_word_counts_also_from_two_tabs_and_all_is_kept(pairs: Path, tmp_path: Path) -> None:
    output = tmp_path / "L.jsonl"
    with page(LabelSettings(pairs, output)) as (url, _, _):
        one_tab, other_tab = Person(url, "Name anna"), Person(url, "Name%20ANNA".replace("%20", " "))
        row = one_tab.see()["row"]
        assert other_tab.see()["row"]["row"] == row["row"]
        after = one_tab.say(row, 1, "first thought")
        assert after["row"]["row"] != row["row"]
        assert (after["progress"]["done"], after["progress"]["last"]) == (1, row["row"])
        other_tab.say(row, 2)
        assert one_tab.see(f"?row={row['row']}")["row"]["choice"] == 2
        skipped = one_tab.say(after["row"], "skip")
        assert (skipped["progress"]["done"], skipped["progress"]["skipped"]) == (2, 1)
        assert one_tab.see("?skipped=true")["row"]["row"] == after["row"]["row"]
        # taken back: the same row is open again
        again = one_tab.say(after["row"], None)
        assert (again["row"]["row"], again["row"]["choice"]) == (after["row"]["row"], None)
        assert (again["progress"]["done"], again["progress"]["last"]) == (1, row["row"])
        assert one_tab.see()["row"]["row"] == after["row"]["row"]
    votes = [json.loads(line) for line in (tmp_path / "L.jsonl.votes").read_text().splitlines()]
    assert [vote["annotator"] for vote in votes] == ["anna"] * 4
    assert [vote["label"] for vote in votes[2:]] == ["skip", None]
    # the second is the first with the answers exchanged
    assert sorted(vote["label"] for vote in votes[:2]) == [1, 2]
    (labelled,) = (each for each in labels_of(output).values() if each["annotators"])
    assert (labelled["annotators"], labelled["reasons"]) == ([votes[1]["label"]], [None])


def test_dialogues_references_and_images_are_shown(tmp_path: Path) -> None:
    image = "data:image/png;base64,iVBORw0KGgo="
    content = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": image}}]
    talks = {
        f"conversation{k}": [
            {"role": "user", "content": "Begin"},
            {"role": "assistant", "content": f"early {word}"},
            {"role": "user", "content": "Go on"},
            {"role": "assistant", "content": f"late {word}"},
        ]
        for k, word in enumerate(("left", "right"), start=1)
    }
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": content}]
    rows = [
        {"question_id": 1, "messages": said, "answer1_body": "left", "answer2_body": "right"},
        {"question_id": 2, **talks},
        pair(3, reference={"text": "known"}),
    ]
    with page(LabelSettings(write_jsonl(tmp_path / "rows.jsonl", rows), tmp_path / "L.jsonl")) as (url, _, _):
        person = Person(url, "Name anna")
        shown, answer = [], person.see()
        while answer["row"] is not None:
            shown.append(answer["row"])
            answer = person.say(answer["row"], 0)
    by_kind = {
        ("image" if "image" in json.dumps(row["dialogue"][:2]) and row["dialogue"][1:] else len(row["dialogue"])): row
        for row in shown
    }
    asked = by_kind["image"]["dialogue"]
    assert [turn["role"] for turn in asked] == ["system", "user"]
    assert asked[1]["parts"][0] == {"text": "What is it?\n[image 1]", "image": image}
    whole = by_kind[0]["answers"]
    for each in whole:
        word = text_of(each).removeprefix("late ")
        assert [text_of(turn) for turn in each["turns"]] == ["Begin", f"early {word}", "Go on"]
    assert by_kind[1]["reference"] == [{"text": "known", "image": None}]


def test_only_links_let_in_where_people_are_named(pairs: Path, tmp_path: Path) -> None:
    settings = LabelSettings(pairs, tmp_path / "L.jsonl", people=("anna", "bert"))
    with page(settings) as (url, people, _):
        tokens = dict(people.tokens)
        for wrong in ("", "Bearer", "Bearer x", "Name anna", f"Basic {tokens['anna']}", f"Bearer {tokens['anna']}x"):
            refused = HTTP.get(f"{url}/api/row", headers={"Authorization": wrong})
            assert refused.status_code == 401
            assert "link" in refused.json()["error"]["message"]
        assert HTTP.get(f"{url}/open").json() == {"open": False}
        assert Person(url, f"Bearer {tokens['bert']}").see()["progress"]["name"] == "bert"
    # the same links after a restart, also beside a new person; nobody else can read what they are made of
    assert {
        name: token
        for name, token in invite(
            LabelSettings(pairs, tmp_path / "L.jsonl", people=("bert", "carl", "anna"))
        ).tokens.items()
        if name != "carl"
    } == tokens
    assert (tmp_path / "L.jsonl.secret").stat().st_mode & 0o77 == 0
    assert invite(LabelSettings(pairs, tmp_path / "M.jsonl", people=("anna",))).tokens["anna"] != tokens["anna"]


def test_an_open_page_asks_for_a_name(pairs: Path, tmp_path: Path) -> None:
    with page(LabelSettings(pairs, tmp_path / "L.jsonl")) as (url, _, _):
        for wrong in ("", "Name", "Name %20", "Name %FF", "Name " + "x" * 61, "Bearer anna"):
            assert HTTP.get(f"{url}/api/row", headers={"Authorization": wrong}).status_code == 401
        assert Person(url, "Name J%C3%BCrgen%0A%20K").see()["progress"]["name"] == "Jürgen K"


def test_strange_requests_are_refused_and_change_nothing(pairs: Path, tmp_path: Path) -> None:
    with page(LabelSettings(pairs, tmp_path / "L.jsonl")) as (url, _, labelling):
        person = Person(url, "Name anna")
        row = person.see()["row"]["row"]
        bodies: list[tuple[Any, int]] = [
            ({"row": row}, 422),
            ({"row": row, "choice": 3}, 422),
            ({"row": row, "choice": True}, 422),
            ({"row": row, "choice": "1"}, 422),
            ({"row": row, "choice": 1, "reason": 7}, 422),
            ({"row": row, "choice": 1, "reason": "x" * 2001}, 422),
            ({"row": row, "choice": 1, "name": "bert"}, 422),
            ({"row": "no such row", "choice": 1}, 404),
            ({"row": "x" * 65, "choice": 1}, 422),
            ([], 422),
            ({"row": row, "choice": 1, "reason": "x" * (64 << 10)}, 413),
        ]
        for body, status in bodies:
            assert person.send(body).status_code == status, body
        good = json.dumps({"row": row, "choice": 1, "reason": "."})
        sent: list[tuple[str, Record, int]] = [
            ("{", {}, 422),
            (good.replace('"."', '"\\ud800"'), {}, 422),
            (good, {"Host": "evil.example"}, 403),
            (good, {"Origin": "http://evil.example"}, 403),
            (good, {"Sec-Fetch-Site": "cross-site"}, 403),
        ]
        for content, headers, status in sent:
            given = {"Content-Type": "application/json", **person.headers, **headers}
            assert HTTP.post(f"{url}/api/vote", content=content, headers=given).status_code == status, (
                content,
                headers,
            )
        twice = [("Authorization", "Name"), ("Authorization", "Name anna")]
        assert HTTP.get(f"{url}/api/row", headers=twice).status_code == 401
        assert HTTP.get(f"{url}/", headers={"Host": "evil.example"}).status_code == 403
        assert HTTP.get(f"{url}/../pairs.jsonl").status_code == 404
        assert HTTP.get(f"{url}/docs").status_code == 404
        assert person.see(f"?row={row}&steps=-1")["row"] is None
        assert labelling.votes.people == []
    assert (tmp_path / "L.jsonl.votes").read_bytes() == b""
    assert not (tmp_path / "L.jsonl").exists()


def test_the_page_lets_nothing_in_and_loads_nothing_from_elsewhere(pairs: Path, tmp_path: Path) -> None:
    with page(LabelSettings(pairs, tmp_path / "L.jsonl")) as (url, _, _):
        for path in ("/", "/label.js", "/label.css", "/open"):
            answer = HTTP.get(url + path)
            assert answer.status_code == 200
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "http:" not in answer.text
            assert "https:" not in answer.text
        assert "innerHTML" not in HTTP.get(f"{url}/label.js").text


def start(folder: Path, *args: object, port: int | None = None) -> Process:
    port = port or free_port()
    words = ["-m", "judgelm", "label", *map(str, args), "--output", str(folder / "L.jsonl"), "--port", str(port)]
    server = Process("label", folder, port, *words)
    server.wait(lambda: server.get("/open").status_code == 200)
    return server


def test_a_killed_page_loses_nothing_that_it_called_saved(tmp_path: Path) -> None:
    pairs = write_jsonl(tmp_path / "pairs.jsonl", [pair(k) for k in range(200)])
    server = start(tmp_path, pairs)
    saved: dict[str, dict[str, Any]] = {"anna": {}, "bert": {}}
    enough = threading.Event()

    def label(name: str) -> None:
        person, draw = Person(server.url, f"Name {name}"), random.Random(name)
        with contextlib.suppress(httpx.TransportError):
            answer = person.see()
            while answer["row"] is not None:
                row, choice = answer["row"]["row"], draw.choice([0, 1, 2, "skip"])
                answer = person.say(answer["row"], choice)
                saved[name][row] = choice
                if all(len(each) >= 25 for each in saved.values()):
                    enough.set()

    threads = [threading.Thread(target=label, args=(name,)) for name in saved]
    with running(server):
        for thread in threads:
            thread.start()
        assert enough.wait(600)
        server.stop(signal.SIGKILL)
        for thread in threads:
            thread.join()
    votes = tmp_path / "L.jsonl.votes"
    with votes.open("ab") as file:
        # what a machine that went off may leave
        file.write(b'{"question_id": 7, "annot')
    server = start(tmp_path, pairs)
    with running(server):
        for name, said in saved.items():
            person = Person(server.url, f"Name {name}")
            # one that was on its way may have been kept too
            assert len(said) <= person.see()["progress"]["done"] <= len(said) + 1
            for row, choice in said.items():
                assert person.see(f"?row={row}")["row"]["choice"] == choice
            person.say(person.see()["row"], 1)
        assert server.stop(signal.SIGTERM) == 0
    records = [json.loads(line) for line in votes.read_text().splitlines()]
    given = sum(isinstance(record["label"], int) for record in records)
    assert sum(len(label["annotators"]) for label in labels_of(tmp_path / "L.jsonl").values()) == given


def test_a_full_disk_is_told_and_leaves_whole_lines(tmp_path: Path) -> None:
    kept = AppendedFile(tmp_path / "votes", "what was labelled")
    kept.append(b'{"a": 1}\n')

    class Full:
        """Takes half a line and no more."""

        def __init__(self, file: Any) -> None:
            self.file = file
            self.written = 0

        def write(self, line: bytes) -> int:
            if self.written:
                raise OSError(28, "No space left on device")
            self.written = self.file.write(line[:4])
            return self.written

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    real = kept._file
    kept._file = Full(real)  # type: ignore[assignment]
    with pytest.raises(InputError, match="No space left on device"):
        kept.append(b'{"b": 2}\n')
    kept._file = real
    kept.append(b'{"c": 3}\n')
    kept.sync()
    kept.close()
    assert (tmp_path / "votes").read_bytes() == b'{"a": 1}\n{"c": 3}\n'


def test_rows_on_which_judges_disagree_or_are_unsure_come_first(tmp_path: Path) -> None:
    count = 3 * BLOCK
    texts = [("9 1", "1 9")] * count
    other = list(texts)
    other[4] = ("1 9", "9 1")  # another outcome
    other[7] = ("9 1", "9 1")  # the judge contradicts itself: a tie, and unsure
    other[9] = ("none", "1 9")  # nothing that could be read
    bodies = {"answer1_body": "left", "answer2_body": "right"}
    rows = [{"question_id": k, "question_body": f"Question {k}?", **bodies} for k in range(count)]
    folders = [write_run(tmp_path / "a", texts), write_run(tmp_path / "b", other)]
    settings = LabelSettings(write_jsonl(tmp_path / "rows.jsonl", rows), tmp_path / "L.jsonl", pick=tuple(folders))
    with open_labelling(settings) as labelling:
        blocks = pick_blocks(labelling.rows, folders, labelling.votes)
        first = {row.sample.key for row in labelling.rows if blocks[row.token] == 0}
        assert len(first) == BLOCK
        assert {"4", "7", "9"} < first
        for person in ("anna", "bert"):
            asked = arrange(labelling.rows, blocks, person)
            assert {row.sample.key for row in asked[:BLOCK]} == first
            assert labelling.open_row(person).row is asked[0]  # type: ignore[union-attr]


def test_models_without_labels_come_first(tmp_path: Path) -> None:
    rows = [pair(k) for k in range(2 * BLOCK)]
    for row in rows[:3]:
        row |= {"answer1_model_id": "newcomer"}
    folder = write_run(tmp_path / "D", [("9 1", "1 9")])
    pairs = write_jsonl(
        tmp_path / "rows.jsonl",
        [
            {**pair("x"), "question_id": 0, "answer1_body": "left", "answer2_body": "right"},
            *({**row, "question_id": f"r{k}"} for k, row in enumerate(rows)),
        ],
    )
    with open_labelling(LabelSettings(pairs, tmp_path / "L.jsonl", pick=(folder,))) as labelling:
        for other in labelling.rows[10:13]:
            place = labelling.place("anna", other.token)
            assert place is not None
            labelling.save("anna", place, 1, "")
        blocks = pick_blocks(labelling.rows, (folder,), labelling.votes)
        assert {blocks[one.token] for one in labelling.rows[1:4]} == {0}


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


OTHER = {"texts": "0" * 16, "annotator": "a", "label": 1, "reason": None, "shown": "forward", "time": 1.0}


@pytest.mark.parametrize(
    ("files", "flags", "said"),
    [
        ({"pairs.jsonl": ""}, [], "pairs.jsonl: the file is empty, expected one JSON object a line"),
        (
            {"pairs.jsonl": '{"question_id": 1, "question_body": "q", "answer1_body": "a"}\n'},
            [],
            "pairs.jsonl:1: field 'answer2_body' is missing (found: question_id, question_body, answer1_body)",
        ),
        ({"pairs.jsonl": json.dumps(pair(1, pred_order="reversed"))}, [], "found a reversed judgement"),
        (
            {"L.jsonl.votes": json.dumps({"question_id": "secret-1", **OTHER}) + "\n"},
            [],
            "L.jsonl.votes:1: a vote on other texts of question_id secret-1: expected a row of sha256 0000000000000000,"
            " found one of sha256 ",
        ),
        ({"L.jsonl.votes": json.dumps({"question_id": 5, **OTHER}) + "\n"}, [], "found no row of that id"),
        (
            {"L.jsonl.votes": json.dumps({"question_id": 5, **OTHER, "label": True}) + "\n"},
            [],
            "L.jsonl.votes:1: not a vote of judgelm label (label",
        ),
        ({"L.jsonl": json.dumps(pair(1)) + "\n"}, [], "L.jsonl.votes beside it, found another file"),
        ({"L.jsonl": '{"question_id": 1, "annotator_names": []}\n'}, [], "found labels without their votes"),
        ({"L.jsonl.secret": "short"}, ["--people", "anna"], "L.jsonl.secret: expected 64 hexadecimal digits"),
        ({}, ["--people", "anna", "bert", " Anna"], "--people: Anna is named twice; expected each person once"),
        ({}, ["--people", "anna", "\x07"], "--people: expected a name of 1 to 60 characters, found ''"),
        ({}, ["--pick", "D"], "D: no forward.jsonl or reversed.jsonl there"),
        ({}, ["--output", "pairs.jsonl"], "--output pairs.jsonl: expected another file than the pairs"),
        ({}, ["--port", "99999"], "--port 99999: cannot listen there (no such host or port)"),
        ({}, ["--allowed-hosts", "a b"], "--allowed-hosts a b: expected a host such as"),
    ],
)
def test_bad_input_is_one_line(
    files: dict[str, str],
    flags: Sequence[str],
    said: str,
    pairs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in files.items():
        write(tmp_path / name, text)
    before = {name: (tmp_path / name).read_text() for name in files}
    assert run_command(["label", "pairs.jsonl", "--output", "L.jsonl", "--port", "0", *flags]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
    assert {name: (tmp_path / name).read_text() for name in files} == before


def test_a_port_that_is_taken_and_a_second_page_are_told(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with page(LabelSettings(pairs, tmp_path / "L.jsonl")) as (url, _, _):
        command = ["label", str(pairs), "--port", url.rpartition(":")[2], "--output"]
        assert run_command([*command, str(tmp_path / "other" / "L.jsonl")]) == 2
        assert "cannot listen there (Address already in use)" in capsys.readouterr().err
        assert run_command([*command, str(tmp_path / "L.jsonl")]) == 2
        assert "another run is writing there" in capsys.readouterr().err


def test_judgements_of_other_answers_pick_nothing(pairs: Path, tmp_path: Path) -> None:
    rows = read_rows(pairs)
    renamed = write_jsonl(tmp_path / "p.jsonl", [pair(k) for k in range(2)])
    folder = write_run(tmp_path / "D", [("9 1", "1 9")] * 2)
    with (
        pytest.raises(InputError, match="found none of their ids"),
        open_labelling(LabelSettings(pairs, tmp_path / "L.jsonl", pick=(folder,))),
    ):
        pass
    with (
        pytest.raises(InputError, match="question_id 0 was judged with other answers"),
        open_labelling(LabelSettings(renamed, tmp_path / "M.jsonl", pick=(folder,))),
    ):
        pass
    assert len(rows) == 12


def vote_line(vote: str, outcome: str | None, task: str = "pair", **sample: Any) -> Record:
    """As the page of `judgelm serve` writes one."""
    given = {
        "question_id": "page",
        "question": None,
        "answers": None,
        "messages": None,
        "conversations": None,
        "reference": None,
    }
    request = {"model": "tiny", "samples": [{**given, **sample}], "task": task, "orders": "both"}
    return {
        "time": 1.5,
        "vote": vote,
        "request": request,
        "result": {"outcome": outcome, "scores": [8.0, 7.0]},
        "turns": [],
    }


def test_votes_of_the_page_are_labels_where_the_judgement_was_found_good(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Q"},
    ]
    talks = [[*asked, {"role": "assistant", "content": word}] for word in ("left", "right")]
    texts: Record = {"question": "Q", "answers": ["left", "right"]}
    lines = [
        vote_line("upvote", "win", **texts, reference="known"),
        vote_line("downvote", "win", **texts),
        vote_line("upvote", "lose", messages=asked, answers=["left", "right"]),
        vote_line("upvote", "tie", conversations=talks),
        vote_line("upvote", None, task="multi", question="Q", answers=["a", "b", "c"]),
    ]
    votes = write_jsonl(tmp_path / "votes.jsonl", lines)
    samples = list(read_samples(votes, end=4))
    assert [sample.answers for sample in samples] == [("left", "right")] * 4
    assert [sample.record["label"] for sample in samples] == [1, None, 2, 0]
    assert samples[0].record["reference"] == {"text": "known"}
    assert [bool(sample.dialogue) for sample in samples] == [False, False, True, True]
    folder = write_run(tmp_path / "D", [("9 1", "1 9")] * 5)
    for order in ("forward", "reversed"):
        records = [json.loads(line) for line in (folder / f"{order}.jsonl").read_text().splitlines()]
        write_jsonl(
            folder / f"{order}.jsonl", [{**record, "question_id": k} for k, record in enumerate(records, start=1)]
        )
    rates = evaluate(folder, votes).summary.rates
    assert (rates["agreement"].value, rates["agreement"].count) == (1 / 3, 3)
    without: list[Record] = [{"request": {}}, {"result": None}, {"request": {"samples": [], "task": "pair"}}]
    for damaged in without:
        write_jsonl(votes, [{**lines[0], **damaged}])
        assert run_command(["evaluate", str(folder), "--teacher", str(votes)]) == 2
        assert "votes.jsonl:1: expected a vote of the page of judgelm serve" in capsys.readouterr().err
