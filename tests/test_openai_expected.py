"""Scoring `expected` by a server's logprobs: ours against the model itself, and others' forms by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import build_model, make_samples, train_byte_tokenizer, train_sentencepiece_tokenizer, write_jsonl
from judging import run_command
from local_server import LocalServer, QuietHandler
from played import QUICK
from serving import Address, local_stack

from judgelm.criteria import Aspect, Criteria, Scale
from judgelm.engine.openai import lines
from judgelm.engine.openai.engine import OpenAIEngine
from judgelm.engine.openai.lines import Walk
from judgelm.engine.openai.logprobs import read_likeliest
from judgelm.engine.openai.server import Server
from judgelm.engine.score_line import score_pieces
from judgelm.errors import InputError
from judgelm.judge.judge import Judge
from judgelm.judgement import Outcome
from judgelm.sample import Sample

FIVE = Scale(1, 5)
EXAM = Criteria(
    "exam", (Aspect("Truth", "It is true.", 3.0, (), FIVE), Aspect("Brevity", "It is short.", 1.0, (), FIVE))
)


def build_likely(folder: Path, tokenizer: Any) -> Path:
    """A random model that finds the tokens of score lines likelier than all others."""
    from transformers import AutoModelForCausalLM

    build_model(folder, tokenizer)
    model = AutoModelForCausalLM.from_pretrained(folder)
    # what all texts have in common, by which these tokens are always among the 20 that a server names
    embeddings, head = model.get_input_embeddings().weight.data, model.get_output_embeddings().weight.data
    embeddings *= 5
    embeddings[:, 0] = 12.0
    head[:, 0] = 0.0
    head[[token for token, text in score_pieces(tokenizer).items() if len(text) == 1], 0] = 24.0
    model.save_pretrained(folder)
    return folder


def train_tokenizer_of_digits() -> Any:
    """Llama's kind, each digit a token of its own: a score line is written in one way only.

    Over a server all ways count in which a line can be written, and in this process the tokenizer's own alone.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    document = json.loads(train_sentencepiece_tokenizer().backend_tokenizer.to_str())
    merges = document["model"]["merges"]
    document["model"]["merges"] = [pair for pair in merges if not any(map(str.isdigit, "".join(pair)))]
    built = Tokenizer.from_str(json.dumps(document))
    return PreTrainedTokenizerFast(
        tokenizer_object=built, bos_token="<s>", eos_token="</s>", unk_token="<unk>", clean_up_tokenization_spaces=False
    )


@pytest.fixture(scope="module", params=["byte", "sentencepiece"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = train_byte_tokenizer() if request.param == "byte" else train_tokenizer_of_digits()
    return build_likely(tmp_path_factory.mktemp("likely") / f"likely-{request.param}", made)


@pytest.fixture(scope="module")
def api(folder: Path) -> Iterator[Address]:
    with local_stack(folder) as (_, _, started):
        yield started


def test_expected_scores_over_our_server_are_those_of_the_model_itself(
    folder: Path, api: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a random model finds all lines likely, and none is to be left out
    monkeypatch.setattr(lines, "LEAST_SHARE", 0.0)
    here = Judge.load(str(folder), dtype="float32", device="cpu")
    engine = OpenAIEngine(Server(api.url + "/v1", folder.name), QUICK)
    there = Judge(engine)
    samples = make_samples(2)
    alone = [Sample(sample.question_id, sample.question, sample.answers[:1]) for sample in samples]
    asked: tuple[tuple[list[Sample], dict[str, Any]], ...] = (
        (samples[:1], {}),
        (alone, {"task": "grade"}),
        (samples[:1], {"criteria": EXAM}),
        (samples, {"task": "single"}),
    )
    for given, settings in asked:
        local = here.judge(given, scoring="expected", **settings)
        for ours, theirs in zip(local, there.judge(given, scoring="expected", **settings), strict=True):
            assert theirs.scores == pytest.approx(ours.scores, abs=1e-4)
            if ours.probabilities is not None:
                assert theirs.probabilities == pytest.approx(ours.probabilities, abs=1e-4)
            assert ours.scores
            assert len({round(score, 2) for score in ours.scores} | {5.5, 3.0}) > 2
    assert engine.description["prompt_tokens"] > engine.description["generated_tokens"] > 100


def test_many_answers_are_followed_by_their_likeliest_beginnings(
    folder: Path, api: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LEAST_SHARE", 0.0)
    sample = Sample("m", "2 + 2?", ("4", "5", "four"))
    three = Criteria("three", (Aspect("A", "B.", 1.0, (), Scale(1, 3)),))
    here = Judge.load(str(folder), dtype="float32", device="cpu")
    there = Judge(OpenAIEngine(Server(api.url + "/v1", folder.name), QUICK))
    settings: dict[str, Any] = {"task": "multi", "scoring": "expected", "criteria": three}
    (ours,), (theirs,) = (judge.judge([sample], **settings) for judge in (here, there))
    assert theirs.scores == pytest.approx(ours.scores, abs=1e-4)


def test_our_completions_give_logprobs(folder: Path, api: Address) -> None:
    body = {"model": folder.name, "prompt": "One", "max_tokens": 5, "temperature": 0}
    plain = api.post("/v1/completions", body).json()["choices"][0]
    assert plain["logprobs"] is None
    choice = api.post("/v1/completions", body | {"logprobs": 3}).json()["choices"][0]
    assert choice["text"] == plain["text"]
    said = choice["logprobs"]
    assert {name: len(each) for name, each in said.items()} == dict.fromkeys(said, 5)
    assert "".join(said["tokens"]) == choice["text"]
    for token, log_prob, top, offset in zip(*(said[name] for name in (
        "tokens", "token_logprobs", "top_logprobs", "text_offset")), strict=True):  # fmt: skip
        # greedy: the likeliest is the one that was written
        assert (next(iter(top)), max(top.values())) == (token, log_prob)
        assert choice["text"][offset:].startswith(token)
        assert len(top) <= 3
        assert sum(map(math.exp, top.values())) <= 1
    drawn = api.post("/v1/completions", body | {"logprobs": 0, "temperature": 2, "seed": 1}).json()["choices"][0]
    assert [list(top) for top in drawn["logprobs"]["top_logprobs"]] == [
        [token] for token in drawn["logprobs"]["tokens"]
    ]


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"logprobs": 21}, 422, "logprobs"),
        ({"logprobs": True}, 422, "logprobs"),
        ({"logprobs": 2, "max_tokens": 5000}, 400, "max_tokens"),
        ({"logprobs": 2, "max_tokens": None}, 400, "max_tokens"),
    ],
)
def test_logprobs_that_are_not_given_are_refused_by_name(
    change: dict[str, Any], status: int, param: str, folder: Path, api: Address
) -> None:
    response = api.post("/v1/completions", {"model": folder.name, "prompt": "One", **change})
    assert (response.status_code, response.json()["error"]["param"]) == (status, param)


Tops = Mapping[str, Mapping[str, float]]
"""after each beginning of a line the probabilities of tokens"""


class Told(LocalServer):
    """A server whose probabilities a test tells it, in the form of one that there is."""

    def __init__(self, tops: Tops, form: Callable[[Mapping[str, float]], Any], fail_first: int = 0) -> None:
        super().__init__(_Handler)
        self.tops, self.form, self.fail_first = tops, form, fail_first
        self.url = f"{self.root}/v1"
        self.asked: list[str] = []
        self.bodies: list[dict[str, Any]] = []


class _Handler(QuietHandler):
    server: Told

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        begun = body["prompt"].rpartition("### Response:")[2]
        self.server.bodies.append(body)
        self.server.asked.append(begun)
        if len(self.server.asked) <= self.server.fail_first:
            return self.send_error(503)
        choice = {"index": 0, "text": "x", "finish_reason": "length"}
        choice["logprobs"] = self.server.form(self.server.tops.get(begun, {"?": 1.0}))
        content = json.dumps({"choices": [choice], "usage": {"prompt_tokens": 50, "completion_tokens": 1}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def legacy(top: Mapping[str, float]) -> Any:
    """vLLM's form and OpenAI's."""
    logs = {text: math.log(p) if p else -9999.0 for text, p in top.items()}
    return {"tokens": ["x"], "token_logprobs": [-1.0], "top_logprobs": [logs], "text_offset": [0]}


def without_space(top: Mapping[str, float]) -> Any:
    """The same where a token is decoded by itself: SentencePiece's space at its beginning is gone."""
    return legacy({text.removeprefix(" "): p for text, p in top.items()})


def spelled(top: Mapping[str, float]) -> Any:
    """The same with tokens by their names, as older vLLM had it."""
    return legacy({text.replace(" ", "Ġ").replace("\n", "Ċ"): p for text, p in top.items()})


def llama_cpp(top: Mapping[str, float]) -> Any:
    listed = [
        {"id": 1, "token": text, "bytes": [*text.encode()], "logprob": math.log(p)} for text, p in top.items() if p
    ]
    return {"content": [{"id": 1, "token": "x", "bytes": [120], "logprob": -1.0, "top_logprobs": listed}]}


# "10" is the tokens "1" and "0"; a space and a score are one token after 8, two after 7
PAIR: Tops = {
    "": {"8": 0.5, "7": 0.3, "1": 0.1, "A": 0.1, "2": 0.0},
    "8": {" 6": 0.4, " 8": 0.4, "\n": 0.2},
    "7": {" ": 0.9, ".": 0.1},
    "7 ": {"9": 1.0},
    "1": {"0": 1.0},
    "10": {" 1": 0.5, " 2": 0.5},
    "8 6": {"\n": 1.0},
    "8 8": {"\n": 0.75, "/": 0.25},
    "7 9": {"\n": 0.5, ".": 0.5},
    "10 1": {"0": 0.5, "\n": 0.5},
    "10 10": {"\n": 1.0},
    "10 2": {"\n": 1.0},
}
LINES = {(8, 6): 0.2, (8, 8): 0.15, (7, 9): 0.135, (10, 1): 0.025, (10, 10): 0.025, (10, 2): 0.05}


@pytest.mark.parametrize("form", [legacy, without_space, spelled, llama_cpp])
def test_lines_are_followed_whatever_the_servers_form_and_tokens(form: Callable[[Mapping[str, float]], Any]) -> None:
    with Told(PAIR, form, fail_first=1) as server:
        engine = OpenAIEngine(Server(server.url, "m", prices=(10.0, 20.0)), QUICK)
        (verdict,) = Judge(engine).judge(make_samples(1), scoring="expected")
    mass = sum(LINES.values())
    assert verdict.scores == pytest.approx([sum(p * line[k] for line, p in LINES.items()) / mass for k in (0, 1)])
    assert verdict.probabilities == pytest.approx(
        {Outcome.WIN: 0.275 / mass, Outcome.TIE: 0.175 / mass, Outcome.LOSE: 0.135 / mass}
    )
    # each beginning once, and the first again after it had failed
    assert sorted(server.asked) == sorted(["", *PAIR])
    assert {(body["max_tokens"], body["logprobs"], body["temperature"]) for body in server.bodies} == {(1, 20, 1.0)}
    assert (engine.description["prompt_tokens"], engine.description["generated_tokens"]) == (12 * 50, 12)
    assert engine.description["cost"] == pytest.approx((12 * 50 * 10 + 12 * 20) / 1e6)


def test_the_command_writes_the_mass_and_the_tokens_and_says_what_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    questions = write_jsonl(tmp_path / "q.jsonl", [make_samples(1)[0].to_record()])
    for tops, name in ((PAIR, "good"), ({"": {"A": 0.5, "\n": 0.5}}, "none")):
        with Told(tops, legacy) as server:
            argv = [
                "judge",
                "--engine",
                "openai",
                "--base-url",
                server.url,
                "--model",
                "m",
                "--question-file",
                questions,
            ]
            argv += ["--scoring", "expected", "--output-dir", tmp_path / name, "--orders", "forward"]
            assert run_command([str(word) for word in argv]) == 0
    good, none = (json.loads((tmp_path / name / "forward.jsonl").read_text()) for name in ("good", "none"))
    assert good["pred_score_line_mass"] == pytest.approx(sum(LINES.values()))
    assert (good["pred_text"], good["pred_finish_reason"]) == ("8 6", "stop")
    assert (good["pred_prompt_tokens"], good["pred_tokens"]) == (600, 12)
    assert (none["pred_scores"], none["pred_parse"], none["pred_finish_reason"]) == (None, "failed", "refused")
    assert "question_id 0 is refused: no score line is among what is likeliest" in caplog.text


def top(**changes: Any) -> Any:
    return {"top_logprobs": [{"8": -0.5, **changes}]}


@pytest.mark.parametrize(
    "logprobs",
    [
        top(x=float("nan")),
        top(x=0.5),
        top(x="-1"),
        top(x=True),
        top(x=None),
        top(x=-0.1, y=-0.1),
        {"top_logprobs": []},
        {"top_logprobs": [None]},
        {"top_logprobs": {"8": -1}},
        {"tokens": ["8"]},
        {"content": [{"token": "8", "logprob": -1}]},
        {"content": [{"top_logprobs": [{"token": 8, "logprob": -1}]}]},
        {"content": [{"top_logprobs": ["8"]}]},
        {"content": ["8"]},
        {"content": []},
        [],
        "8",
        7,
    ],
)
def test_what_are_no_probabilities_is_refused_in_one_line(logprobs: Any) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        read_likeliest(logprobs)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("logprobs", [top(x=float("nan")), {"content": [{"token": "8", "logprob": -1}]}, 7])
def test_an_answer_without_probabilities_ends_a_run_of_many_in_one_line(logprobs: Any) -> None:
    with Told({}, lambda _: logprobs) as server:
        judge = Judge(OpenAIEngine(Server(server.url, "m"), QUICK))
        with pytest.raises(InputError, match="gives no usable answer"):
            judge.judge(make_samples(64), scoring="expected")


def test_minus_infinity_is_no_probability_and_rounding_is_none_too_many() -> None:
    assert read_likeliest(top(x=float("-inf"), y=-9999)) == {"8": pytest.approx(math.exp(-0.5)), "x": 0, "y": 0}
    assert read_likeliest({"top_logprobs": [{"8": 1e-6}]}) == {"8": 1.0}
    assert read_likeliest(None) is None


def test_a_server_without_logprobs_and_a_chat_end_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = write_jsonl(tmp_path / "q.jsonl", [sample.to_record() for sample in make_samples(2)])
    with Told(PAIR, lambda _: None) as server:
        argv = ["judge", "--engine", "openai", "--base-url", server.url, "--model", "m", "--scoring", "expected"]
        argv += ["--question-file", str(questions), "--output-dir", str(tmp_path / "out")]
        assert run_command(argv) == 2
        assert (
            "its answers have no logprobs, which --scoring expected needs" in capsys.readouterr().err.splitlines()[-1]
        )
        assert run_command([*argv, "--api", "chat", "--output-dir", str(tmp_path / "chat")]) == 2
        said = capsys.readouterr().err.strip().splitlines()
        assert len(said) == 1
        assert "it needs --api completions" in said[0]
    assert not (tmp_path / "chat").exists()


def test_what_is_unlikely_is_not_followed() -> None:
    walk = Walk({"": {"8": 0.01, "9": 0.000005, "A": 0.9}})
    wanted = ["8 1\n", "9 1\n"]
    assert walk.unknown(wanted) == ["8"]
    walk.likeliest["8"] = {" 1\n": 1.0}
    assert walk.unknown(wanted) == []
    assert walk.log_probs(wanted) == pytest.approx((math.log(0.01), -math.inf))


def test_a_digit_is_taken_for_a_space_and_a_digit_only_where_no_token_has_a_space() -> None:
    lines_after = ["8 1\n", "8 2\n"]
    kept = Walk({"": {"8": 1.0}, "8": {" ": 0.5, "1": 0.25}, "8 ": {"1": 0.5, "2": 0.5}})
    assert {"8 1", "8 "} <= set(kept.reached(lines_after))
    assert kept.reached(lines_after)["8 1"] == 0.25
    left_out = Walk({"": {"8": 1.0}, "8": {"": 0.5, "1": 0.25}, "8 ": {"1": 0.5, "2": 0.5}})
    assert left_out.reached(lines_after)["8 1"] == 0.5


def test_two_ways_to_write_a_score_add_up() -> None:
    walk = Walk({"": {"1": 0.5, "10": 0.25}, "1": {"0": 0.5, "\n": 0.5}, "10": {"\n": 1.0}})
    found = walk.log_probs(["1\n", "10\n"])
    assert [math.exp(value) for value in found] == pytest.approx([0.25, 0.5])
