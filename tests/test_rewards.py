"""A group in, rewards out: the numbers by hand, the route, a served judge, and the adapters that call them."""

from __future__ import annotations

import asyncio
import inspect
import os
import pickle
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE_S
from forked import run_forked
from played_judges import PlayedJudge, by_length
from rewarded import Lines, brevity, judging_api, planted, prefer_short
from serving import Address

from judgelm.adapters import verl
from judgelm.adapters.trl import AsyncJudgeReward, JudgeReward, PairwiseJudge
from judgelm.criteria import Aspect, Criteria, Scale
from judgelm.engine.openai.requests import Retries
from judgelm.errors import InputError
from judgelm.judge import JudgeSettings, ModelChoice, prepare
from judgelm.judge.rewards import Compared, Group, GroupJudge, compare_by
from judgelm.judgement import Outcome
from judgelm.models.devices import own_gpu
from judgelm.sample import Sample
from judgelm.serve.client import APIError, Client
from judgelm.serve.judgement_requests import MOST_SAMPLES
from judgelm.serve.reward_routes import MOST_COMPLETIONS
from judgelm.serve.served_pairs import ServedPairs

EXPECTED = JudgeSettings(scoring="expected")
SEVEN_TO_THREE = {"7 3": 0.6, "5 5": 0.2, "2 8": 0.2}
TABLE: Mapping[tuple[str, str], Lines] = {
    # P(win) + P(tie) / 2 of "a": 0.7 as given, 0.9 the other way round; its scores 5.6 and 8.2
    ("a", "b"): SEVEN_TO_THREE,
    ("b", "a"): {"2 9": 0.8, "5 5": 0.2},
    # "a" against "c": 0.5 in both
    ("a", "c"): {"6 6": 1.0},
    ("c", "a"): {"4 4": 1.0},
    # "b" against "c": 0 and 1, as of a judge that goes by the place
    ("b", "c"): {"1 10": 1.0},
    ("c", "b"): {"1 10": 1.0},
}
QUICK = Retries(attempts=3, first_wait_s=0.01, longest_wait_s=0.02)


def by_table(first: str, second: str) -> Lines:
    return TABLE[first, second]


def group_judge(likely: Any = by_table) -> tuple[GroupJudge, Any]:
    judge, engine = planted(likely)
    return GroupJudge(compare_by(judge, EXPECTED)), engine


def test_a_reward_is_the_mean_over_the_others_in_both_orders() -> None:
    judge, _ = group_judge()
    (found,) = judge.rewards([Group("Q?", ("c", "a", "b"))])
    a_b, c_b = (0.7 + 0.9) / 2, 0.5
    wins: Any = found.wins
    assert wins == (
        (None, pytest.approx(0.5), pytest.approx(c_b)),
        (pytest.approx(0.5), None, pytest.approx(a_b)),
        (pytest.approx(1 - c_b), pytest.approx(1 - a_b), None),
    )
    assert found.win == pytest.approx((0.5, (0.5 + a_b) / 2, (0.5 + 1 - a_b) / 2))
    # of "a": beside "b" 5.6 and 8.2, beside "c" 6 and 4
    beside_b = (0.6 * 7 + 0.2 * 5 + 0.2 * 2 + 0.8 * 9 + 0.2 * 5) / 2
    assert found.score[1] == pytest.approx((beside_b + 5) / 2)
    assert found.by("win") == found.win
    assert found.by("score") == found.score
    assert (found.best, found.unread) == (1, 0)
    assert sum(value for value in found.win if value is not None) / 3 == pytest.approx(0.5)


def test_equal_completions_are_judged_once_and_nothing_is_judged_again() -> None:
    judge, engine = group_judge()
    (found,) = judge.rewards([Group("Q?", ("a", "b", "a"))])
    assert sorted(engine.judged) == [("a", "b"), ("b", "a")]
    assert found.wins[0][2] == found.wins[2][0] == 0.5
    assert found.win == pytest.approx(((0.8 + 0.5) / 2, 0.2, (0.8 + 0.5) / 2))
    # in another order, and in another group with one that is new
    judge.rewards([Group("Q?", ("b", "a")), Group("Q?", ("a", "c", "b"))])
    assert len(engine.judged) == 2 + 4
    # another prompt, another reference: other pairs
    judge.rewards([Group("Q2?", ("a", "b")), Group("Q?", ("a", "b"), "ref")])
    assert len(engine.judged) == 6 + 4
    assert judge.rewards([Group("Q?", ("a", "a"))])[0].win == (0.5, 0.5)
    assert len(engine.judged) == 10


def test_only_so_many_pairs_are_remembered() -> None:
    choice, engine = planted(by_table)
    judge = GroupJudge(compare_by(choice, EXPECTED), most_kept=2)
    judge.rewards([Group("Q?", ("a", "b", "c"))])
    judge.rewards([Group("Q?", ("b", "c"))])
    assert len(engine.judged) == 6
    judge.rewards([Group("Q?", ("a", "b"))])
    assert len(engine.judged) == 8


def test_what_is_not_read_is_none_and_judged_another_time() -> None:
    short = {"b"}
    judge, engine = group_judge(lambda first, second: {} if short & {first, second} else by_table(first, second))
    (found,) = judge.rewards([Group("Q?", ("a", "b", "c", "b"))])
    # "b" has an equal one beside it, and no verdict
    win: Any = found.win
    assert win == (pytest.approx(0.5), None, pytest.approx(0.5), None)
    assert found.score == (5.0, None, 5.0, None)
    assert (found.unread, found.best) == (2, 0)
    short.clear()
    judged = len(engine.judged)
    assert judge.rewards([Group("Q?", ("a", "b", "c"))])[0].unread == 0
    assert len(engine.judged) == judged + 4
    (alone,) = judge.rewards([Group("Q?", ("a",))])
    assert (alone.win, alone.score, alone.best) == ((None,), (None,), None)


def test_one_order_alone_is_no_verdict() -> None:
    judge, _ = group_judge(lambda first, second: {} if first == "b" else by_table(first, second))
    (found,) = judge.rewards([Group("Q?", ("a", "b"))])
    assert (found.win, found.unread) == ((None, None), 1)


def test_hard_verdicts_win_tie_or_lose() -> None:
    assert Compared.of(None, Outcome.LOSE, (2.0, 8.0)) == Compared(0.0, (2.0, 8.0))
    assert Compared.of(None, Outcome.TIE, (5.0, 5.0)) == Compared(0.5, (5.0, 5.0))
    assert Compared.of(None, None, None) is None


def test_a_prompt_may_be_messages_and_thoughts_are_not_shown() -> None:
    talk = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Where is Oslo?"},
        {"role": "assistant", "content": "In Norway."},
        {"role": "user", "content": "And how big?"},
    ]
    group = Group.of(talk, ["<think>Long or short?</think>\nBig.", "Small."])
    assert group.completions == ("Big.", "Small.")
    (pair,) = group.pairs()
    assert pair.question == "And how big?"
    assert pair.dialogue is not None
    assert [turn.text for turn in pair.dialogue.turns] == ["Be brief.", "Where is Oslo?", "In Norway."]
    with pytest.raises(InputError, match="prompt: messages: expected the last one to be the user's"):
        Group.of(talk[:3], ["a", "b"])


# --- the adapter for TRL, called as its trainers call it


def columns(count: int, **more: Any) -> dict[str, Any]:
    """What GRPOTrainer passes beside prompts and completions."""
    return {"completion_ids": [[1]] * count, "trainer_state": None, "log_extra": None, **more}


def test_groups_are_found_however_a_trainer_lays_them_out() -> None:
    choice, _ = planted(prefer_short)
    reward = JudgeReward(choice, group=2)
    short, long = "x" * 4, "x" * 20
    # GRPO: a prompt's completions beside each other, and here the same prompt twice
    prompts, completions = ["p", "p", "p", "p", "q", "q"], [short, long, short, short, long, short]
    assert reward(prompts=prompts, completions=completions, **columns(6)) == [1, 0, 0.5, 0.5, 0, 1]
    # online DPO: one after the other, and here the same prompt twice
    assert reward(prompts=["p", "q", "p", "q"], completions=[short, long, long, short], **columns(4)) == [1, 0, 0, 1]
    completions = [short, short, short, long, long, short]
    assert reward(prompts=["p", "q", "p"] * 2, completions=completions, **columns(6)) == [1, 1, 0.5, 0, 0, 0.5]
    # an evaluation with smaller groups
    assert JudgeReward(choice, 4)(["p", "p", "q", "q"], [short, long, long, short], **columns(4)) == [1, 0, 0, 1]


def test_what_is_not_read_is_told_where_a_trainer_counts_nothing(caplog: pytest.LogCaptureFixture) -> None:
    choice, _ = planted(lambda first, second: {} if "?" in first + second else prefer_short(first, second))
    assert JudgeReward(choice, 2)(["p", "p"], ["?", "x"], **columns(2)) == [None, None]
    assert caplog.messages == ["judge_planted: no verdict of 2 of 2 completions"]


def test_groups_of_another_size_than_the_trainers_are_told() -> None:
    choice, engine = planted(prefer_short)
    with pytest.raises(InputError, match="group 4: expected the trainer's num_generations, found 6 completions of a"):
        JudgeReward(choice, 4)(["p"] * 6, ["x"] * 6, **columns(6))
    assert engine.judged == []


def test_completions_that_are_all_the_same_have_no_score_and_are_not_unread() -> None:
    choice, _ = planted(prefer_short)
    logged: list[tuple[str, float]] = []
    rewards = JudgeReward(choice, 2, reward="score")(
        ["p", "p"], ["x", "x"], log_metric=lambda *each: logged.append(each), **columns(2)
    )
    assert rewards == [None, None]
    assert logged == [("judge_planted/unread", 0.0)]


def test_conversations_are_rewarded_by_their_last_reply() -> None:
    choice, engine = planted(prefer_short)
    prompt = [{"role": "user", "content": "How long?"}]
    call = {"role": "assistant", "content": None, "tool_calls": [{"type": "function"}]}
    completions: list[Any] = [
        [{"role": "assistant", "content": "x" * 8}],
        [call, {"role": "tool", "content": "5 cm"}, {"role": "assistant", "content": [{"type": "text", "text": "x"}]}],
        [call],
    ]
    logged: list[tuple[str, float]] = []
    found = JudgeReward(choice, 3, reward="score")(
        [prompt] * 3, completions, log_metric=lambda *each: logged.append(each), **columns(3)
    )
    assert found == [brevity("x" * 8), brevity("x"), None]
    assert len(engine.judged) == 2
    assert dict(logged) == {"judge_planted/unread": pytest.approx(1 / 3), "judge_planted/score": (8 + 10) / 2}


def test_a_column_of_the_data_set_is_shown_as_the_reference() -> None:
    choice, engine = planted(prefer_short)
    reward = JudgeReward(choice, 2, reference="solution")
    reward(["p", "p"], ["a", "bbbbbb"], **columns(2, solution=["ref", "ref"]))
    assert [sample.reference for sample in engine.shown.values()] == ["ref", "ref"]
    with pytest.raises(InputError, match="the data set has no column 'solution', found"):
        reward(["p", "p"], ["a", "b"], **columns(2))
    with pytest.raises(InputError, match="expected texts in 'solution', row 1 has 3"):
        reward(["p", "p"], ["a", "b"], **columns(2, solution=["ref", 3]))


def test_a_reward_goes_to_another_process_and_is_awaited(model_folder: Path) -> None:
    given = ModelChoice(model_folder, device="cpu", dtype="float32")
    reward = JudgeReward(given, 2)
    completions = ["Four.", "Five, I think."]
    found = reward(["2 + 2?"] * 2, completions, **columns(2))
    assert found[0] is not None
    assert 0 < found[0] < 1
    assert sum(value or 0 for value in found) == pytest.approx(1)
    assert pickle.loads(pickle.dumps(reward))(["2 + 2?"] * 2, completions, **columns(2)) == pytest.approx(found)
    waiting = AsyncJudgeReward(given, 2)
    assert inspect.iscoroutinefunction(waiting.__call__)
    assert asyncio.run(waiting(["2 + 2?"] * 2, completions, **columns(2))) == pytest.approx(found)


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert own_gpu() is None
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert own_gpu() == "cuda:1"
    # a launcher may show each process its own GPU alone
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert own_gpu() == "cuda:0"


def test_metrics_are_named_after_judge_and_criteria(model_folder: Path) -> None:
    criteria = Path(__file__).parent.parent / "examples/criteria/concise.yaml"
    assert JudgeReward(model_folder, 2, criteria=criteria).__name__ == "judge_random-llama_concise"
    assert JudgeReward("http://127.0.0.1:1", 2, model="tiny").__name__ == "judge_tiny"
    assert JudgeReward("http://127.0.0.1:1", 2).__name__ == "judge_served"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"group": 1}, "group 1: expected a whole number from 2 on, the trainer's num_generations"),
        ({"reward": "best"}, "reward 'best': expected one of win, score"),
        ({"scoring": "sample"}, "scoring 'sample': rewards are read by expected or greedy"),
        ({"model": "tiny"}, "model is for the address of an API"),
        ({"judge": "http://127.0.0.1:x"}, "http://127.0.0.1:x: expected an address such as http://127.0.0.1:21003"),
        ({"judge": "http://[::1"}, "http://[::1: expected an address such as http://127.0.0.1:21003"),
        ({"judge": "/no/such/folder"}, "model /no/such/folder: no such folder"),
        (
            {"criteria": Criteria("w", (Aspect("A", "B", 1.0, (), Scale(0, 100)),))},
            "scoring expected reads 441 score lines at most",
        ),
    ],
)
def test_what_cannot_be_is_said_before_a_training_begins(settings: dict[str, Any], message: str) -> None:
    choice, _ = planted(prefer_short)
    with pytest.raises(InputError) as raised:
        JudgeReward(**{"judge": choice, "group": 2, **settings})
    assert message in str(raised.value)


def test_a_pairwise_judge_ranks_as_trl_once_did() -> None:
    choice, _ = planted(lambda first, second: {} if "?" in first + second else prefer_short(first, second))
    judge = PairwiseJudge(choice)
    completions: list[Any] = [["xxxxxxxx", "x"], ["x", "xxxxxxxx"], ["x", "x"], ["?", "x"], ["x" * 9, "x" * 5, "x"]]
    assert judge.judge(["p"] * 5, completions) == [1, 0, 0, -1, 2]
    assert judge.judge(["p"], [["xxxxxxxx", "x"]], shuffle_order=False) == [1]
    replies = [[{"role": "assistant", "content": "x" * 9}], [{"role": "assistant", "content": "x"}], [{"role": "tool"}]]
    talk = [{"role": "user", "content": "Q?"}]
    assert judge.judge([talk, talk], [replies[:2], replies[1:]]) == [1, -1]


# --- a served judge


@pytest.fixture(scope="module")
def local(model_folder: Path) -> GroupJudge:
    return GroupJudge(compare_by(prepare(ModelChoice(model_folder, device="cpu", dtype="float32")), EXPECTED))


COMPLETIONS = ["Four.", "Five, I think.", "Four.", "It is 4."]


def test_the_route_gives_the_rewards_of_the_model_itself(api: Address, local: GroupJudge) -> None:
    (expected,) = local.rewards([Group("2 + 2?", tuple(COMPLETIONS))])
    said = api.post("/v1/rewards", {"question": "2 + 2?", "completions": COMPLETIONS}).json()
    assert said["object"] == "rewards"
    assert said["model"] == "random-llama"
    assert said["rewards"] == pytest.approx(list(expected.win), abs=1e-4)
    assert said["scores"] == pytest.approx(list(expected.score), abs=1e-4)
    for row, found in zip(expected.wins, said["wins"], strict=True):
        assert found == [each if each is None else pytest.approx(each, abs=1e-4) for each in row]
    assert said["unread"] == 0
    assert said["usage"]["prompt_tokens"] > 0
    scored = Client(api.url).rewards("2 + 2?", COMPLETIONS, reward="score")
    assert scored["rewards"] == scored["scores"] == pytest.approx(said["scores"])
    same = Client(api.url).rewards("2 + 2?", ["4", "4"])
    assert (same["rewards"], same["usage"]["total_tokens"]) == ([0.5, 0.5], 0)


def test_the_route_takes_dialogues_references_and_criteria(api: Address, model_folder: Path) -> None:
    exam = Criteria("exam", (Aspect("Truth", "It is true.", 3.0), Aspect("Brevity", "It is short.")))
    settings = JudgeSettings(scoring="expected", criteria=exam)
    choice = prepare(ModelChoice(model_folder, device="cpu", dtype="float32"))
    talk = [
        {"role": "user", "content": "Hi."},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "2 + 2?"},
    ]
    (expected,) = GroupJudge(compare_by(choice, settings)).rewards([Group.of(talk, COMPLETIONS, "4")])
    said = Client(api.url).rewards(talk, COMPLETIONS, "4", criteria=exam)
    assert said["rewards"] == pytest.approx(list(expected.win), abs=1e-4)
    assert said["scores"] == pytest.approx(list(expected.score), abs=1e-4)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"completions": ["a", "b"]}, 422, "completions have a question or messages, found none"),
        (
            {"completions": ["a", "b"], "question": "Q?", "messages": [{"role": "user", "content": "Q?"}]},
            422,
            "completions have a question or messages, found both",
        ),
        (
            {"completions": ["a", "b"], "messages": [{"role": "assistant", "content": "A."}]},
            422,
            "messages: expected the last one to be the user's",
        ),
        ({"completions": ["a"], "question": "Q?"}, 422, "completions: List should have at least 2 items"),
        (
            {"completions": ["a"] * (MOST_COMPLETIONS + 1), "question": "Q?"},
            422,
            f"completions: List should have at most {MOST_COMPLETIONS} items",
        ),
        ({"completions": ["a", "b"], "question": "Q?", "orders": "both"}, 422, "orders: there is no such field"),
        ({"completions": ["a", "b"], "question": "Q?", "model": "gpt"}, 404, "gpt"),
        (
            {"completions": ["a", "b"], "question": "Q?",
             "criteria": {"name": "w", "scale": [0, 100], "aspects": [{"name": "A", "text": "B"}]}},
            400,
            "scoring expected reads 441 score lines at most: 0 to 100 is too much",
        ),
        (
            {"completions": ["a" * 100_000, *("b" * k for k in range(40))], "question": "Q" * 20_000},
            400,
            "the pairs of these completions have 20,431,200 characters, at most 16,000,000 are read",
        ),
    ],
)  # fmt: skip
def test_what_the_route_does_not_take_is_said_in_one_line(
    body: dict[str, Any], status: int, message: str, api: Address
) -> None:
    response = api.post("/v1/rewards", body)
    assert response.status_code == status
    assert message in response.json()["error"]["message"]


def test_the_largest_group_is_no_larger_a_request_than_others() -> None:
    assert (
        MOST_COMPLETIONS * (MOST_COMPLETIONS - 1) // 2 <= MOST_SAMPLES < (MOST_COMPLETIONS + 1) * MOST_COMPLETIONS // 2
    )


def test_several_processes_share_one_served_judge(api: Address, local: GroupJudge) -> None:
    groups = [[f"{word} {k}" for k in range(3)] for word in ("one", "two", "three", "four")]
    expected = [found.win for found in local.rewards([Group("Q?", tuple(each)) for each in groups])]
    rewards = [JudgeReward(api.url, 3, model="random-llama") for _ in groups]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda one: one[0](["Q?"] * 3, one[1], **columns(3)), zip(rewards, groups, strict=True)))
    for each, values in zip(found, expected, strict=True):
        assert each == pytest.approx(list(values), abs=1e-4)


def test_a_busy_server_is_waited_for_and_its_answers_are_checked(caplog: pytest.LogCaptureFixture) -> None:
    busy = {"error": {"message": "busy", "type": "server_error", "code": "overloaded"}}
    pairs = Group("Q?", ("x", "xxxxxxxx")).pairs()
    with judging_api((429, busy), (503, busy)) as (url, bodies):
        assert ServedPairs(Client(url), retries=QUICK)(pairs) == [Compared(1.0, (10.0, 8.0))]
        assert len(bodies) == 3
    # once for both waits
    assert [each.getMessage() for each in caplog.records if each.name == "judgelm.serve.asking"] == [
        "the judge: busy; trying again"
    ]
    with judging_api(*[(503, busy)] * 3) as (url, bodies), pytest.raises(APIError, match="busy"):
        ServedPairs(Client(url), retries=QUICK)(pairs)
    with judging_api((400, busy)) as (url, bodies), pytest.raises(APIError, match="busy"):
        ServedPairs(Client(url), retries=QUICK)(pairs)
    assert len(bodies) == 1
    good = {"question_id": pairs[0].key, "outcome": "win", "scores": [8.0, 2.0]}
    for data, message in (
        ([good | {"question_id": "other"}], "other samples"),
        ([], "other samples"),
        ([good | {"scores": [8.0]}], "no result of a judgement"),
        ([good | {"scores": [8.0, 1e9]}], "no result of a judgement"),
        ([good | {"probabilities": {"win": 2, "tie": 0, "lose": 0}}], "no result of a judgement"),
        (None, "not the answer of a judge that judgelm serves"),
    ):
        with judging_api((200, {"data": data})) as (url, _), pytest.raises(APIError, match=message):
            ServedPairs(Client(url), retries=QUICK)(pairs)
    with judging_api((200, {"data": [good | {"outcome": None, "scores": None}]})) as (url, _):
        assert ServedPairs(Client(url), retries=QUICK)(pairs) == [None]


def test_a_request_whose_time_ran_out_is_not_paid_for_again() -> None:
    asked, go = [], threading.Event()

    def rule(sample: Sample) -> list[float]:
        asked.append(sample)
        assert go.wait(PATIENCE_S)
        return by_length(sample)

    with PlayedJudge(rule) as judge:
        with pytest.raises(APIError, match="has not answered within 1 s") as raised:
            ServedPairs(Client(judge.url, timeout_s=1), retries=QUICK)(Group("Q?", ("a", "bb")).pairs())
        assert (raised.value.code, len(asked)) == ("timed_out", 1)
        go.set()


def test_the_key_of_a_served_judge_is_given_or_stands_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUDGELM_API_KEY", raising=False)
    with judging_api(key="secret") as (url, _):
        with pytest.raises(APIError, match="a key is needed"):
            JudgeReward(url, 2)(["p", "p"], ["x", "xxxxx"], **columns(2))
        assert JudgeReward(url, 2, key="secret")(["p", "p"], ["x", "xxxxx"], **columns(2)) == [1, 0]
        monkeypatch.setenv("JUDGELM_API_KEY", "secret")
        assert JudgeReward(url, 2)(["p", "p"], ["x", "xxxxx"], **columns(2)) == [1, 0]


def test_many_pairs_are_asked_about_in_parts() -> None:
    group = Group("Q?", tuple("x" * k for k in range(1, 13)))
    with judging_api() as (url, bodies):
        (found,) = GroupJudge(ServedPairs(Client(url))).rewards([group])
        long = Group("Q" * 600_000, ("a", "b", "c"))
        GroupJudge(ServedPairs(Client(url))).rewards([long])
    assert [len(body["samples"]) for body in bodies] == [64, 2, 1, 1, 1]
    assert found.unread == 0
    # 1 to 3 characters are as good, and so on
    assert found.win[0] == pytest.approx((2 * 0.5 + 9) / 11)


# --- the adapter for verl, called as its reward managers call it


@pytest.fixture
def served_short(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    with judging_api() as (url, bodies):
        monkeypatch.setenv(verl.URL_VARIABLE, url)
        yield bodies


def test_verl_rewards_one_completion_against_the_ground_truth(served_short: list[dict[str, Any]]) -> None:
    row: dict[str, Any] = {
        "data_source": "gsm8k",
        "ground_truth": "x" * 9,
        "extra_info": {"question": "Q?", "num_turns": 2},
    }
    assert verl.compute_score(solution_str="x", **row) == {"score": 1.0, "judge_unread": 0.0}
    assert verl.compute_score(solution_str="x" * 30, **row, reward_router_address=None) == {
        "score": 0.0,
        "judge_unread": 0.0,
    }
    assert served_short[0]["samples"][0]["question"] == "Q?"
    with pytest.raises(InputError, match="data_source gsm8k: expected a ground truth"):
        verl.compute_score(solution_str="x", **(row | {"ground_truth": None}))
    with pytest.raises(InputError, match=r"expected the question in extra_info\['question'\], found index"):
        verl.compute_score(solution_str="x", **(row | {"extra_info": {"index": 1}}))
    with pytest.raises(InputError, match=r"expected a text or messages in extra_info\['question'\], found 5"):
        verl.compute_score(solution_str="x", **(row | {"extra_info": {"question": 5}}))
    with pytest.raises(InputError, match=r"data_source a: expected a text as ground truth, found \['4', 'four'\]"):
        verl.compute_scores(["a"], ["x"], [["4", "four"]], [{"question": "Q?"}], show_ground_truth=True)  # type: ignore[list-item]


def test_verl_rewards_a_batch_by_its_groups(served_short: list[dict[str, Any]]) -> None:
    import numpy as np

    talk = np.array([{"role": "user", "content": "Q1?"}], dtype=object)
    found = verl.compute_scores(
        data_sources=np.array(["a"] * 5, dtype=object),
        solution_strs=["x", "x" * 30, "x" * 20, "x" * 8, "lonely"],
        ground_truths=["t", "t", "t", "t", "t"],
        extra_infos=np.array([{"prompt": each} for each in (talk, "Q2?", talk, "Q2?", "Q3?")], dtype=object),
        question_key="prompt",
        show_ground_truth=True,
        criteria=str(Path(__file__).parent.parent / "examples/criteria/concise.yaml"),
    )
    assert [each["score"] for each in found] == [1.0, 0.0, 0.0, 1.0, 0.5]
    assert [each["judge_unread"] for each in found] == [0.0, 0.0, 0.0, 0.0, 1.0]
    (body,) = served_short
    assert body["criteria"]["name"] == "concise"
    assert [sample["reference"] for sample in body["samples"]] == ["t", "t"]


def test_the_example_for_verl_runs_as_it_stands() -> None:
    script = Path(__file__).parent.parent / "examples/integrations/verl_reward.py"
    with judging_api() as (url, bodies):
        result = run_forked((script,), {**os.environ, "PYTHONPATH": str(script.parents[2]), verl.URL_VARIABLE: url})
    assert result.returncode == 0, result.stderr
    rows = [line.split(maxsplit=2) for line in result.stdout.splitlines()]
    # shorter is better here: the first is the longest, the last the shortest but for the ground truth
    assert [row[:2] for row in rows] == [["0.250", "0.000"], ["0.250", "0.000"], ["1.000", "0.000"]]
    assert [len(body["samples"]) for body in bodies] == [3, 1, 1, 1]
