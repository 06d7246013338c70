"""Files and batches of requests, through the API and OpenAI's own client."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import openai
import pytest
from conftest import PATIENCE_S
from scripted_worker import ScriptedWorker, scripted_worker
from serving import Address, Server, free_port, local_controller, running, served

from judgelm.errors import InputError
from judgelm.serve.api import create_app
from judgelm.serve.batches.lines import check_requests
from judgelm.serve.batches.records import Batch, BatchLimits
from judgelm.serve.batches.store import Page, Store

ENDED = ("completed", "failed", "expired", "cancelled")
NOBODY = ""


def request(number: int, name: str | None = None, **changes: Any) -> dict[str, Any]:
    sample = {"question_id": number, "question": f"Question {number}?", "answers": ["yes", "no"]}
    body = {"model": "scripted", "samples": [sample], "orders": "forward", **changes}
    return {"custom_id": name or f"row-{number}", "method": "POST", "url": "/v1/judgements", "body": body}


def jsonl(rows: Sequence[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def lines_of(client: Any, file: str | None) -> list[dict[str, Any]]:
    assert file is not None
    return [json.loads(line) for line in client.files.content(file).text.splitlines()]


def client_of(api: Address, key: str = "none") -> Any:
    """OpenAI's own client; Any, as its types know no routes of ours."""
    return openai.OpenAI(base_url=api.url + "/v1", api_key=key, max_retries=0)


def create(client: Any, rows: Sequence[Any] | bytes, **settings: Any) -> Any:
    content = rows if isinstance(rows, bytes) else jsonl(rows)
    file = client.files.create(file=("rows.jsonl", content), purpose="batch")
    asked: dict[str, Any] = {"endpoint": "/v1/judgements", "completion_window": "24h"}
    return client.batches.create(input_file_id=file.id, **asked | settings)


def until(client: Any, id: str, ready: Callable[[Any], bool]) -> Any:
    end = time.monotonic() + PATIENCE_S
    while not ready(batch := client.batches.retrieve(id)):
        assert time.monotonic() < end, batch
        time.sleep(0.05)
    return batch


def ended(client: Any, id: str) -> Any:
    return until(client, id, lambda batch: batch.status in ENDED)


@contextlib.contextmanager
def api_over(
    controller: Address,
    folder: Path,
    limits: BatchLimits | None = None,
    now: Callable[[], float] = time.time,
    **more: Any,
) -> Iterator[tuple[Address, Store]]:
    with (
        contextlib.closing(Store(folder, limits, now)) as store,
        served(create_app(controller.url, store=store, **more)) as url,
    ):
        yield Address(url), store


@pytest.fixture(scope="module")
def controller() -> Iterator[Address]:
    with local_controller() as started:
        yield started


@pytest.fixture(scope="module")
def worker(controller: Address) -> Iterator[ScriptedWorker]:
    with scripted_worker(controller) as started:
        yield started


def test_a_batch_outlives_a_killed_server_and_judges_nothing_twice(tmp_path: Path) -> None:
    port = free_port()
    with local_controller() as controller, scripted_worker(controller, held_from=5) as worker:
        flags = ("--controller-address", controller.url, "--batch-dir", tmp_path / "batches")
        first = Server("api", tmp_path, *flags, port=port)
        client = client_of(first)
        with running(first):
            first.wait(lambda: first.get("/health").status_code == 200)
            batch = create(client, [request(number) for number in range(1, 13)], metadata={"run": "1"})
            assert batch.status == "validating"
            until(client, batch.id, lambda found: found.request_counts.completed == 4)
            until(client, batch.id, lambda _: len(worker.asked) == 12)
            first.stop(signal.SIGKILL)
        worker.opened.set()
        second = Server("api", tmp_path, *flags, port=port)
        with running(second):
            second.wait(lambda: second.get("/health").status_code == 200)
            done = ended(client, batch.id)
            assert (done.status, done.metadata, done.errors) == ("completed", {"run": "1"}, None)
            assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (12, 12, 0)
            assert done.error_file_id is None
            found = lines_of(client, done.output_file_id)
    assert [line["custom_id"] for line in found] == [f"row-{number}" for number in range(1, 13)]
    for number, line in enumerate(found, start=1):
        assert (line["error"], line["response"]["status_code"]) == (None, 200)
        (result,) = line["response"]["body"]["data"]
        assert (result["question_id"], result["scores"], result["outcome"]) == (number, [8, 7], "win")
    times = Counter(worker.asked)
    assert [times[number] for number in range(1, 13)] == [1] * 4 + [2] * 8


def test_lines_that_the_api_refuses_are_in_the_error_file(
    tmp_path: Path, controller: Address, worker: ScriptedWorker
) -> None:
    with api_over(controller, tmp_path) as (api, _):
        client = client_of(api)
        bad = request(2, "no answers")
        bad["body"]["samples"][0]["answers"] = []
        odd = request(4, "half a \ud800 pair")
        rows = [request(1), bad, request(3, task="essay"), odd]
        done = ended(client, create(client, rows).id)
        assert (done.status, done.request_counts.completed, done.request_counts.failed) == ("completed", 2, 2)
        assert [line["custom_id"] for line in lines_of(client, done.output_file_id)] == ["row-1", "half a \ud800 pair"]
        errors = lines_of(client, done.error_file_id)
        assert [line["custom_id"] for line in errors] == ["no answers", "row-3"]
        said = [(line["response"]["status_code"], line["response"]["body"]["error"]["param"]) for line in errors]
        assert said == [(422, "samples.0.answers"), (422, "task")]
        text = api.get("/metrics").text
        assert 'judgelm_batch_lines_total{outcome="completed"} 2.0' in text
        assert 'judgelm_batch_lines_total{outcome="failed"} 2.0' in text


def test_the_example_judges_a_file_of_pairs(
    tmp_path: Path, controller: Address, worker: ScriptedWorker, run: Any
) -> None:
    rows = [
        {"question_id": k, "question_body": f"Question {k}?", "answer1_body": "a", "answer2_body": "b"} for k in (7, 8)
    ]
    (tmp_path / "pairs.jsonl").write_bytes(jsonl(rows))
    with api_over(controller, tmp_path / "batches") as (api, _):
        done = run("examples/integrations/batches.py", api.url + "/v1", str(tmp_path / "pairs.jsonl"))
    assert done.returncode == 0, done.stderr
    # both orders favour the answer shown first
    assert done.stdout.splitlines() == [
        "completed BatchRequestCounts(completed=2, failed=0, total=2)",
        "7 tie",
        "8 tie",
    ]


def test_completions_are_answered_too(tmp_path: Path, controller: Address, worker: ScriptedWorker) -> None:
    with api_over(controller, tmp_path) as (api, _):
        client = client_of(api)
        body = {"model": "scripted", "prompt": "Question 1", "max_tokens": 4}
        row = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": body}
        done = ended(client, create(client, [row], endpoint="/v1/completions").id)
        (line,) = lines_of(client, done.output_file_id)
        assert line["response"]["body"]["choices"][0]["text"] == "8 7\nGood."
        with pytest.raises(
            openai.BadRequestError, match="expected one of /v1/chat/completions, /v1/completions, /v1/j"
        ):
            create(client, [row], endpoint="/v1/embeddings")


@pytest.mark.parametrize(
    ("rows", "line", "message"),
    [
        (b"", None, "the file is empty"),
        (b"\n \n", None, "the file is empty"),
        (b"[1]\n", 1, "line 1: expected a JSON object, found list"),
        (jsonl([request(1)]) + b'{"custom_id": "b"', 2, "line 2: not JSON"),
        (b"\xff\n", 1, "line 1: not UTF-8"),
        (b"[" * 200 + b"\n", 1, "line 1: not JSON"),
        (jsonl([request(1), request(1)]), 2, "line 2: custom_id stands already in line 1"),
        (jsonl([request(1) | {"url": "/v1/files"}]), 1, "expected method POST and url /v1/judgements"),
        (jsonl([request(1) | {"method": "GET"}]), 1, "expected method POST"),
        (jsonl([request(1) | {"custom_id": ""}]), 1, "custom_id: expected a text of 1 to 512 characters"),
        (jsonl([request(1) | {"body": [1]}]), 1, "body: expected an object"),
        (jsonl([request(1) | {"\ud800": 1}]), 1, "expected the fields body, custom_id, method, url, found"),
        (jsonl([request(1, stream=True)]), 1, "a batch has no streams"),
        (jsonl([request(number) for number in range(6)]), None, "expected at most 5 requests"),
    ],
)
def test_a_file_that_holds_no_requests_is_told_of_in_one_line(
    rows: bytes, line: int | None, message: str, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_bytes(rows)
    _, (error,) = check_requests(tmp_path / "rows.jsonl", "/v1/judgements", 5)
    assert error["line"] == line
    assert message in error["message"]
    assert len(error["message"].splitlines()) == 1
    error["message"].encode()


def test_a_file_with_a_bad_line_fails_its_batch_and_none_is_asked(
    tmp_path: Path, controller: Address, worker: ScriptedWorker
) -> None:
    with api_over(controller, tmp_path, BatchLimits(lines=5)) as (api, _):
        client = client_of(api)
        asked = len(worker.asked)
        failed = ended(client, create(client, [request(1), request(2), request(1)]).id)
        assert (failed.status, failed.output_file_id, failed.error_file_id) == ("failed", None, None)
        assert [(error.line, error.message) for error in failed.errors.data] == [
            (3, "line 3: custom_id stands already in line 1")
        ]
        many = ended(client, create(client, [request(number) for number in range(6)]).id)
        assert many.errors.data[0].code == "too_many_requests"
        assert len(worker.asked) == asked


def test_a_cancelled_batch_keeps_what_it_has(tmp_path: Path, controller: Address) -> None:
    with (
        scripted_worker(controller, name="held", held_from=3) as worker,
        api_over(controller, tmp_path) as (api, _),
    ):
        client = client_of(api)
        batch = create(client, [request(number, model="held") for number in range(1, 30)])
        until(client, batch.id, lambda found: found.request_counts.completed == 2)
        with pytest.raises(openai.BadRequestError, match="which has not ended"):
            client.files.delete(batch.input_file_id)
        assert client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
        gone = ended(client, batch.id)
        assert (gone.status, gone.request_counts.total, gone.request_counts.completed) == ("cancelled", 29, 2)
        assert gone.cancelled_at >= gone.cancelling_at >= gone.created_at
        assert [line["custom_id"] for line in lines_of(client, gone.output_file_id)] == ["row-1", "row-2"]
        with pytest.raises(openai.BadRequestError, match="it is cancelled"):
            client.batches.cancel(batch.id)
        assert client.files.delete(batch.input_file_id).deleted
        asked = len(worker.asked)
        assert asked < 29
        worker.opened.set()
        # what was under way is given up, and nothing more is begun
        client.files.delete(gone.output_file_id)
        assert len(worker.asked) == asked


def test_files_and_batches_are_listed_page_by_page(tmp_path: Path, controller: Address, worker: ScriptedWorker) -> None:
    with api_over(controller, tmp_path) as (api, _):
        client = client_of(api)
        assert client.batches.list().data == client.files.list().data == []
        soon = client.files.create(file=b"{}", purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600})
        assert soon.expires_at - soon.created_at == 3600
        client.files.delete(soon.id)
        batches = [create(client, [request(number)]) for number in range(3)]
        for batch in batches:
            ended(client, batch.id)
        # the client asks for page after page by itself
        assert [batch.id for batch in client.batches.list(limit=1)] == [batch.id for batch in reversed(batches)]
        given = [file.id for file in client.files.list(purpose="batch", order="asc", limit=2)]
        assert given == [batch.input_file_id for batch in batches]
        assert len(client.files.list(purpose="batch_output").data) == 3
        for unknown in (client.batches.retrieve, client.batches.cancel, client.files.retrieve, client.files.content):
            with pytest.raises(openai.NotFoundError, match="there is no file or batch file-none"):
                unknown("file-none")
        with pytest.raises(openai.NotFoundError, match="there is no file or batch file-none"):
            client.files.list(after="file-none")


def test_names_of_clients_are_no_paths(tmp_path: Path, controller: Address) -> None:
    with api_over(controller, tmp_path / "batches") as (api, store):
        client = client_of(api)
        for name in ("../../evil.jsonl", "/etc/passwd", 'a"b\r\nx: y', "x" * 500):
            file = client.files.create(file=(name, b"{}\n"), purpose="batch")
            assert file.filename.isprintable()
            assert len(file.filename) <= 255
            answer = api.get(f"/v1/files/{file.id}/content")
            assert (answer.content, answer.headers["content-type"]) == (b"{}\n", "application/jsonl")
            assert answer.headers["content-disposition"] == f'attachment; filename="{file.id}.jsonl"'
            assert store.content(file.id).parent == tmp_path / "batches" / "files"
        for bad in ("..%2f..%2fbatches.sqlite", "%2e%2e", "batches.sqlite"):
            assert api.get(f"/v1/files/{bad}/content").status_code == 404
        assert {path.name for path in tmp_path.iterdir()} == {"batches"}
        assert (tmp_path / "batches").stat().st_mode & 0o077 == 0


def test_what_is_no_upload_is_refused_in_one_line(tmp_path: Path, controller: Address) -> None:
    with api_over(controller, tmp_path, BatchLimits(file_bytes=1000)) as (api, _):
        client = client_of(api)
        with pytest.raises(openai.UnprocessableEntityError, match="purpose"):
            client.files.create(file=b"{}", purpose="fine-tune")
        with pytest.raises(openai.BadRequestError, match="larger than 1,000 bytes"):
            client.files.create(file=b"x" * 1001, purpose="batch")
        with pytest.raises(openai.APIStatusError, match="the body is larger") as refused:
            client.files.create(file=b"x" * 100_000, purpose="batch")
        assert refused.value.status_code == 413
        assert api.post("/v1/files", {"purpose": "batch"}).status_code == 422
        with pytest.raises(openai.UnprocessableEntityError, match="input_file_id"):
            client.batches.create(input_file_id="../x", endpoint="/v1/judgements", completion_window="24h")
        with pytest.raises(openai.NotFoundError):
            client.batches.create(input_file_id="file-" + "0" * 32, endpoint="/v1/judgements", completion_window="24h")
        assert client.files.list().data == []
        assert list((tmp_path / "files").iterdir()) == []
        # other routes take JSON alone, as before
        assert api.get("/v1/models").status_code == 200
        assert api.post("/v1/judgements", 1, headers={"content-type": "text/plain"}).status_code == 415


def test_each_key_has_its_own_files(tmp_path: Path, controller: Address, worker: ScriptedWorker) -> None:
    with api_over(controller, tmp_path, keys=["one", "two"]) as (api, _):
        one, two = client_of(api, "one"), client_of(api, "two")
        batch = create(one, [request(1)])
        done = ended(one, batch.id)
        assert done.status == "completed"
        for asked in (two.batches.retrieve, two.batches.cancel):
            with pytest.raises(openai.NotFoundError):
                asked(batch.id)
        for asked in (two.files.retrieve, two.files.content, two.files.delete):
            with pytest.raises(openai.NotFoundError):
                asked(done.output_file_id)
        assert two.files.list().data == two.batches.list().data == []
        with pytest.raises(openai.NotFoundError):
            two.batches.create(input_file_id=batch.input_file_id, endpoint="/v1/judgements", completion_window="24h")
        with pytest.raises(openai.AuthenticationError):
            client_of(api, "three").files.list()


def test_a_batch_ends_with_its_window_and_all_goes_with_its_age(tmp_path: Path, controller: Address) -> None:
    clock, limits = [time.time()], BatchLimits()

    def served_api() -> contextlib.AbstractContextManager[tuple[Address, Store]]:
        return api_over(controller, tmp_path, limits, lambda: clock[0])

    with scripted_worker(controller, name="late", held_from=2) as worker:
        with served_api() as (api, _):
            client = client_of(api)
            batch = create(client, [request(number, model="late") for number in (1, 2, 3)])
            until(client, batch.id, lambda found: found.request_counts.completed == 1)
        clock[0] += limits.window_s + 1
        with served_api() as (api, store):
            client = client_of(api)
            done = ended(client, batch.id)
            assert (done.status, done.request_counts.completed, done.request_counts.failed) == ("expired", 1, 2)
            assert [line["custom_id"] for line in lines_of(client, done.output_file_id)] == ["row-1"]
            errors = lines_of(client, done.error_file_id)
            assert [(line["custom_id"], line["error"]["code"]) for line in errors] == [
                ("row-2", "batch_expired"),
                ("row-3", "batch_expired"),
            ]
            assert worker.asked.count(1) == 1
            clock[0] += limits.age_s + 1
            store.sweep()
            assert store.files(NOBODY, Page(10)) == ([], False)
            assert store.batches(NOBODY, Page(10)) == ([], False)
            assert list((tmp_path / "files").iterdir()) == []


def test_there_is_room_for_so_much(tmp_path: Path, controller: Address) -> None:
    with contextlib.closing(Store(tmp_path, BatchLimits(files=2, unfinished=1))) as store:
        file = store.add_file(NOBODY, "a", [b"{}\n"])
        store.add_batch(NOBODY, "/v1/judgements", file.id, {})
        with pytest.raises(InputError, match="there is no room: 1 batches"):
            store.add_batch(NOBODY, "/v1/judgements", file.id, {})
        other = store.add_file(NOBODY, "b", [b"{}\n"])
        with pytest.raises(InputError, match="there is no room: 2 files, 6 bytes"):
            store.add_file(NOBODY, "c", [b"{}\n"])
        store.remove_file(NOBODY, other.id)
        assert store.add_file(NOBODY, "c", [b"{}\n"], expires_s=3600).expires_at - time.time() <= 3600


def test_no_batch_is_taken_whose_results_have_no_room(tmp_path: Path) -> None:
    with contextlib.closing(Store(tmp_path, BatchLimits(files=3, all_bytes=1000))) as store:
        first = running_batch(store, [request(1)])
        store.add_result(first.id, 1, True, "x" * 990)
        with pytest.raises(InputError, match=r"there is no room: 1 files, 1,\d\d\d bytes"):
            store.add_batch(NOBODY, "/v1/judgements", first.input_file_id, {})
        assert store.excess(first.id) == "all files and results have more than 1,000 bytes; delete some"
        assert store.move(first, "finalizing")
        store.finish(store.batch(NOBODY, first.id), "completed")
        done = store.batch(NOBODY, first.id)
        assert done.output_file_id is not None
        store.remove_file(NOBODY, done.output_file_id)
        assert store.add_batch(NOBODY, "/v1/judgements", first.input_file_id, {}).status == "validating"
        for name in ("b", "c"):
            store.add_file(NOBODY, name, [b"{}\n"])
        with pytest.raises(InputError, match="there is no room: 3 files"):
            store.add_batch(NOBODY, "/v1/judgements", first.input_file_id, {})


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (BatchLimits(result_bytes=3000), "the results have more than 3,000 bytes"),
        (BatchLimits(all_bytes=12_000), "all files and results have more than 12,000 bytes; delete some"),
    ],
)
def test_results_that_grow_too_large_end_their_batch(
    limits: BatchLimits, said: str, tmp_path: Path, controller: Address, worker: ScriptedWorker
) -> None:
    with api_over(controller, tmp_path, limits) as (api, _):
        client = client_of(api)
        batch = ended(client, create(client, [request(number) for number in range(40)]).id)
        assert batch.status == "failed"
        assert [(error.code, error.message) for error in batch.errors.data] == [("results_too_large", said)]
        assert 0 < batch.request_counts.completed < 40
        assert len(lines_of(client, batch.output_file_id)) == batch.request_counts.completed


def test_a_worker_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    with local_controller() as controller, api_over(controller, tmp_path) as (api, _):
        client = client_of(api)
        sample = {"question": "Q?", "answers": ["a", "b"]}
        alone = api.post("/v1/judgements", {"model": "scripted", "samples": [sample]})
        assert (alone.status_code, alone.json()["error"]["code"]) == (503, "no_worker")
        batch = create(client, [request(1, model="scripted")])
        until(client, batch.id, lambda found: found.status == "in_progress")
        with scripted_worker(controller):
            assert ended(client, batch.id).request_counts.completed == 1


def test_a_folder_is_one_servers_and_no_others(tmp_path: Path) -> None:
    with contextlib.closing(Store(tmp_path)) as store:
        with pytest.raises(InputError, match="another server has this folder"):
            Store(tmp_path)
        kept = store.add_file(NOBODY, "a", [b"{}\n"])
    # what an upload left that was cut off
    (tmp_path / "files" / ("file-" + "1" * 32)).write_bytes(b"half")
    (tmp_path / "files" / "mine.txt").write_text("of somebody else")
    with contextlib.closing(Store(tmp_path)) as store:
        assert store.file(NOBODY, kept.id) == kept
        assert {path.name for path in (tmp_path / "files").iterdir()} == {kept.id, "mine.txt"}
    with contextlib.closing(sqlite3.connect(tmp_path / "batches.sqlite")) as db:
        db.execute("PRAGMA user_version = 7")
    with pytest.raises(InputError, match=r"expected a folder for batches \(batches.sqlite has format 7, expected 1\)"):
        Store(tmp_path)
    (tmp_path / "batches.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(InputError, match="expected a folder for batches"):
        Store(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="expected a folder for batches"):
        Store(tmp_path / "file")


def running_batch(store: Store, rows: Sequence[Any]) -> Batch:
    """One whose lines were looked at."""
    file = store.add_file(NOBODY, "a", [jsonl(rows)])
    batch = store.add_batch(NOBODY, "/v1/judgements", file.id, {})
    assert store.move(batch, "in_progress", total=len(rows))
    assert not store.move(batch, "in_progress", total=len(rows))
    return store.batch(NOBODY, batch.id)


def test_an_end_that_was_begun_takes_no_more_results_and_can_be_written_again(tmp_path: Path) -> None:
    with contextlib.closing(Store(tmp_path)) as store:
        batch = running_batch(store, [request(1), request(2)])
        assert store.add_result(batch.id, 1, True, '{"custom_id": "row-1"}\n')
        with pytest.raises(sqlite3.IntegrityError):
            store.add_result(batch.id, 1, True, "twice")
        running = store.batch(NOBODY, batch.id)
        assert (running.completed, running.result_bytes) == (1, 23)
        assert store.move(running, "finalizing")
        # it was still on its way
        assert not store.add_result(batch.id, 2, True, "late")
        # one that has come further meanwhile is left alone
        store.finish(running, "completed")
        (ending,) = store.unfinished()
        assert (ending.status, ending.completed, ending.output_file_id) == ("finalizing", 1, None)
        store.finish(ending, "expired", ['{"custom_id": "row-2"}\n'])
        gone = store.batch(NOBODY, batch.id)
        assert (gone.status, gone.completed, gone.failed) == ("expired", 1, 1)
        for file, name in ((gone.output_file_id, "row-1"), (gone.error_file_id, "row-2")):
            assert file is not None
            assert store.content(file).read_text() == f'{{"custom_id": "{name}"}}\n'
        assert len(list((tmp_path / "files").iterdir())) == 3
        assert not store.add_result(batch.id, 2, True, "too late")
        assert store.batch(NOBODY, batch.id) == gone


def test_a_batch_that_is_cancelled_after_it_was_listed_asks_nobody(
    tmp_path: Path, controller: Address, worker: ScriptedWorker
) -> None:
    class Late(Store):
        def unfinished(self) -> list[Batch]:
            listed = super().unfinished()
            for batch in listed:
                self.cancel(NOBODY, batch.id)
            return listed

    asked = len(worker.asked)
    with contextlib.closing(Late(tmp_path)) as store:
        batch = running_batch(store, [request(number) for number in range(9)])
        with served(create_app(controller.url, store=store)) as url:
            done = ended(client_of(Address(url)), batch.id)
    assert (done.status, done.request_counts.completed, len(worker.asked)) == ("cancelled", 0, asked)


def test_batches_whose_files_cannot_be_read_leave_their_places_to_others_and_end_with_their_window(
    tmp_path: Path, controller: Address, worker: ScriptedWorker
) -> None:
    clock, limits = [time.time()], BatchLimits()
    with api_over(controller, tmp_path, limits, lambda: clock[0]) as (api, store):
        client = client_of(api)
        lost = [running_batch(store, [request(1)]).id]
        for _ in range(5):
            file = store.add_file(NOBODY, "a", [jsonl([request(1)])])
            lost.append(store.add_batch(NOBODY, "/v1/judgements", file.id, {}).id)
        for path in (tmp_path / "files").iterdir():
            path.unlink()
        assert ended(client, create(client, [request(2)]).id).status == "completed"
        assert [batch.id for batch in store.unfinished()] == lost
    clock[0] += limits.window_s + 1
    with api_over(controller, tmp_path, limits, lambda: clock[0]) as (api, _):
        assert {ended(client_of(api), each).status for each in lost} == {"expired"}


def test_batches_with_many_samples_leave_room_for_who_waits(tmp_path: Path, controller: Address) -> None:
    def row(line: int) -> dict[str, Any]:
        samples = [{"question": f"Question {10 * line + k}?", "answers": ["yes", "no"]} for k in range(10)]
        return request(line, model="narrow", samples=samples)

    with (
        scripted_worker(controller, name="narrow", held_from=10) as worker,
        api_over(controller, tmp_path) as (api, _),
    ):
        client = client_of(api)
        batches = [create(client, [row(line) for line in range(1, 8)]) for _ in range(2)]
        api.wait(lambda: worker.waiting == 32)
        now = request(1, model="narrow")["body"]
        assert api.post("/v1/judgements", now).json()["data"][0]["scores"] == [8, 7]
        worker.opened.set()
        assert {ended(client, batch.id).request_counts.completed for batch in batches} == {7}
        assert worker.most_waiting == 32
