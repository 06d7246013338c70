from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from forked import PATIENCE_S as PATIENCE_S
from forked import ROOT as ROOT
from forked import run_forked, start
from jaxtyping import install_import_hook

from judgelm.prompt import render_prompt
from judgelm.sample import Sample

SHARED = ROOT.parent / "shared"

# the environment of every test is without a hub: what is not on disk cannot be had
os.environ["HF_HUB_OFFLINE"] = "1"
# models of two layers: one thread is faster than two that wait for each other
os.environ["OMP_NUM_THREADS"] = "1"

SHAPES_CHECKED = ("judgelm.engine.hf", *(f"judgelm.train.{name}" for name in ("attention", "collator", "trainer")))
"""modules and packages whose annotated shapes are checked at each call, of which no part may be imported before"""
install_import_hook(SHAPES_CHECKED, "beartype.beartype")

# a slow machine is no fault of a test
hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("patient")

CHATML = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
"""a chat template"""
MANY_PROCESSES = (
    "test_training.py",
    "test_cluster.py",
    "test_page.py",
    "test_launch.py",
    "test_page_server.py",
    "test_serve.py",
)
"""files whose tests start many processes: one after the other, as two at once take each other's memory and time"""
LONGEST_FIRST = (
    *MANY_PROCESSES,
    "test_teaching_example.py",
    "test_tiny.py",
    "test_commands.py",
    "test_audit.py",
    "test_run.py",
    "test_docs.py",
)
"""files of minutes: begun last, one process would be left with them alone"""
SLOW = {
    "test_training.py": (
        "test_published_command_trains_with_fsdp_and_resumes_and_judges",
        "test_an_adapter_is_trained_with_fsdp",
        "test_other_architectures_are_trained",
        "test_a_judge_learns_to_grade_by_criteria_from_columns_of_other_names",
        "test_published_shell_script_trains",
        "test_batch_accumulation_and_ranks_are_interchangeable",
        "test_killed_and_resumed_equals_undisturbed",
    ),
    "test_swap_consistency.py": ("test_batch_accumulation_and_processes_are_interchangeable",),
    "test_dpo.py": (
        "test_the_margin_of_pairs_that_were_not_seen_rises",
        "test_an_adapter_is_killed_goes_on_and_is_trained_further",
    ),
    "test_cluster.py": (
        "test_two_replicas_of_the_published_script_give_the_bytes_of_one",
        "test_a_replica_that_is_killed_is_replaced_and_nothing_is_lost_or_double",
        "test_ctrl_c_leaves_no_process_and_another_number_of_replicas_goes_on",
        "test_a_model_that_no_replica_can_load_is_told_in_one_line",
        "test_ctrl_c_while_ray_starts_is_heard_and_leaves_no_process",
        "test_replicas_that_are_lost_again_and_again_end_the_run",
    ),
    "test_compiled.py": (
        "test_compiled_what_is_true_of_an_engine_stays_true",
        "test_compiled_texts_and_probabilities_are_those_of_the_model_as_it_is",
        "test_compiled_padded_rows_are_those_of_the_model_as_it_is",
        "test_compiled_layers_in_8_bits_say_the_same_and_do_not_ask_who_is_beside",
        "test_compiled_beside_its_work_a_served_model_says_the_same",
        "test_without_a_compiler_a_run_goes_on_with_one_line",
    ),
    "test_forms.py": ("test_a_table_is_judged_with_its_labels_and_a_second_start_judges_nothing",),
    "test_label_page.py": (
        "test_rows_are_labelled_by_keys_alone",
        "test_what_was_said_is_taken_back_changed_and_found_again",
        "test_two_tabs_and_a_dead_server_lose_nothing",
        "test_everybody_may_label_under_a_name",
        "test_the_page_fits_a_phone_and_a_dark_room",
        "test_nothing_of_a_row_is_more_than_text",
    ),
    "test_integrations_clients.py": (
        "test_litellm_langchain_and_instructor",
        "test_lm_evals_local_completions_finds_what_its_own_backend_finds",
    ),
    "test_launch.py": (
        "test_one_command_serves_two_models_until_ctrl_c",
        "test_a_killed_worker_comes_back_while_the_other_serves_and_no_part_asks_a_proxy",
        "test_workers_join_the_controller_of_another_command_and_no_part_outlives_a_hurried_or_killed_one",
    ),
    "test_lora.py": ("test_an_adapter_is_trained_and_judges_as_it_was_trained",),
    "test_openai_expected.py": ("test_expected_scores_over_our_server_are_those_of_the_model_itself",),
    "test_page.py": (
        "test_each_tab_judges_its_example",
        "test_criteria_are_chosen_and_their_aspects_stand_side_by_side",
        "test_probabilities_are_one_bar_and_many_answers_stand_in_all_places",
        "test_replies_to_a_dialogue_are_judged_in_both_orders",
        "test_no_label_runs_under_its_copy_button",
        "test_a_file_is_checked_judged_and_measured",
        "test_a_file_that_is_stopped_gives_what_was_judged",
        "test_the_page_fits_a_phone_and_a_dark_room",
        "test_a_lost_worker_is_told_and_the_page_recovers",
        "test_visitors_log_in_where_the_page_asks_for_it",
        "test_moderation_refuses_what_it_flags",
    ),
    "test_run.py": ("test_runs_ended_at_random_points_resume_to_the_same_bytes",),
    "test_serve_expected.py": ("test_every_answer_stands_in_every_place_over_the_api_too",),
    "test_teaching_example.py": ("test_the_commands_of_the_page_go_from_questions_to_a_measured_judge",),
    "test_tiny.py": (
        "test_two_processes_that_start_at_once_share_one_conversion",
        "test_batch_equals_one_by_one_with_the_real_model",
        "test_command_says_what_an_embedded_model_is_worth",
        "test_tiny_prefers_an_answer_to_none_in_both_orders",
        "test_real_rows_from_development_data_are_judged",
    ),
    "test_trl.py": (
        "test_grpo_is_rewarded_by_tiny",
        "test_a_preference_raises_the_reward_of_a_policy",
        "test_trainers_beside_grpo_take_the_reward",
        "test_the_example_runs_as_it_stands",
    ),
    "test_worker.py": ("test_an_answer_far_too_long_is_shown_as_if_all_of_it_had_been_read",),
}
"""tests above 20 seconds, by `scripts/test --durations 40` on two cores, or far above a minute where memory is slow"""


SLOW_UNTIL = float(os.environ.get("JUDGELM_SLOW_TESTS_UNTIL", "inf"))
"""seconds since 1970 after which no slow test begins: what CI has left on a slow machine (`.ci/run`)"""


def pytest_configure(config: pytest.Config) -> None:
    # of xdist: its processes share what is forked from
    if getattr(config.option, "numprocesses", None):
        start()


# before xdist reads the groups
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    slow = {item.nodeid: item.name.partition("[")[0] in SLOW.get(item.path.name, ()) for item in items}
    for item in items:
        # what a process of the tests takes as one: tests of a file share its servers
        name = "many processes" if item.path.name in MANY_PROCESSES else item.path.name
        if slow[item.nodeid]:
            item.add_marker(pytest.mark.slow)
            name = f"slow {name}"
        item.add_marker(pytest.mark.xdist_group(name))
    place = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: (slow[item.nodeid], place.get(item.path.name, len(place))))


# before anything of the test is set up
@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("slow") and time.time() > SLOW_UNTIL:
        pytest.skip("NOT RUN: this machine is so slow that no time is left for slow tests (JUDGELM_SLOW_TESTS_UNTIL)")


def pytest_collection_finish() -> None:
    # a million objects of imported modules, which each full collection would visit
    gc.freeze()


@pytest.fixture(scope="session")
def prompt_examples() -> list[dict[str, Any]]:
    path = SHARED / "spec" / "prompt_examples.jsonl"
    if not path.is_file():
        pytest.skip("the published prompt examples (../shared/spec) are not on this machine")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def make_samples(count: int, words: int = 12) -> list[Sample]:
    """Samples of different lengths."""
    return [
        Sample(
            k,
            f"Question {k}: what is {k} + {k}?",
            (f"The answer is {2 * k}. " * (1 + k % words), f"It is {3 * k}, " * (1 + (7 * k) % words)),
        )
        for k in range(count)
    ]


def write_jsonl(path: Path, records: Sequence[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


REFERENCE = "the reference"
QUIET = ["--disable_tqdm", "True", "--use_cpu", "True"]
"""flags of a training in a test"""


def training_record(number: int, words: int = 3, reference: bool = True) -> dict[str, Any]:
    """A row that can be recognised in any order: answers and scores carry their own number."""
    first, second = f"alpha{number} " * words, f"beta{number} " * words
    record: dict[str, Any] = {
        "question_id": number,
        "question_body": f"Question {number}?",
        "answer1_body": first,
        "answer2_body": second,
        "answer1_model_id": "a",
        "answer2_model_id": "b",
        "text": f"{1 + number % 4} {6 + number % 4}\nAssistant 1 said alpha{number}, Assistant 2 said beta{number}.",
        "score": [1 + number % 4, 6 + number % 4],
    }
    if reference:
        record |= {
            "reference": {"text": REFERENCE},
            "text_w_reference": f"0 {5 + number % 4}\nAssistant 1 missed, Assistant 2 met the reference.",
            "score_w_reference": [0, 5 + number % 4],
        }
    return record


@pytest.fixture
def pairs_file(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "pairs.jsonl", [sample.to_record() for sample in make_samples(12)])


@pytest.fixture(scope="session")
def train_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    records = [training_record(number, words=2 + number % 5) for number in range(16)]
    return write_jsonl(tmp_path_factory.mktemp("rows") / "train.jsonl", records)


def _texts() -> list[str]:
    digits = " ".join(str(k) for k in range(200))
    return [*(render_prompt(s) for s in make_samples(30)), digits, "8 7\nAssistant 1 is better.\n10 9\n"]


def train_byte_tokenizer(bos: bool = True, pad: bool = False) -> Any:
    """A byte-level tokenizer like SmolLM's or GPT-2's, trained here."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    names = {"bos_token": "<s>", "eos_token": "</s>"} | ({"pad_token": "<pad>"} if pad else {})
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **names)


def train_sentencepiece_tokenizer() -> Any:
    """A tokenizer like Llama's: "▁" for a space, bytes for what it does not know, no space at the start of a text."""
    from tokenizers import Tokenizer, decoders, models, normalizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=special, show_progress=False, initial_alphabet=list("▁0123456789")
    )
    words = [word for text in _texts() for word in text.replace("\n", " ").split()]
    tokenizer.train_from_iterator(words, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    built = Tokenizer.from_str(_plain_bytes(tokenizer.to_str()))
    return PreTrainedTokenizerFast(
        tokenizer_object=built, bos_token="<s>", eos_token="</s>", unk_token="<unk>", clean_up_tokenization_spaces=False
    )


def _plain_bytes(text: str) -> str:
    """Byte tokens are ordinary tokens, as in Llama's file; only the trainer needs them named as special."""
    document = json.loads(text)
    document["added_tokens"] = [t for t in document["added_tokens"] if not t["content"].startswith("<0x")]
    return json.dumps(document)


def build_model(
    folder: Path, tokenizer: Any, context: int = 2048, seed: int = 0, tied: bool = False, heads: int = 4
) -> Path:
    """A random two-layer Llama with its tokenizer, saved as a model folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        max_position_embeddings=context,
        initializer_range=0.2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=tied,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("model") / "random-llama", train_byte_tokenizer())


@pytest.fixture(scope="session")
def chat_tokenizer() -> Any:
    """Of a general model, which has a chat template."""
    tokenizer = train_byte_tokenizer()
    tokenizer.chat_template = CHATML
    return tokenizer


@pytest.fixture(scope="session")
def chat_folder(tmp_path_factory: pytest.TempPathFactory, chat_tokenizer: Any) -> Path:
    return build_model(tmp_path_factory.mktemp("model") / "thinker", chat_tokenizer)


@pytest.fixture(scope="module")
def api(model_folder: Path) -> Iterator[Any]:
    """The address of our API, in front of a worker with a random model."""
    from serving import local_stack

    with local_stack(model_folder) as started:
        yield started[2]


@pytest.fixture(scope="module")
def client(api: Any) -> Iterator[Any]:
    """OpenAI's client of it."""
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=api.url + "/v1", api_key="any", max_retries=0) as opened:
        yield opened


@pytest.fixture(scope="session")
def sentencepiece_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("model") / "random-sp", train_sentencepiece_tokenizer())


@pytest.fixture(scope="session")
def quick_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For $JUDGELM_CACHE: `tiny-base` is then a random model of two layers, held to score lines as the real one is."""
    from judgelm.models import tiny

    cache = tmp_path_factory.mktemp("cache")
    build_model(cache / f"tiny-{tiny.WHEEL_SHA256[:12]}-{tiny._LAYOUT}", train_byte_tokenizer())
    return cache


Runner = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def run() -> Runner:
    """Run a Python script or module of the project in a process of its own; with -c or settings a fresh interpreter."""

    def run_python(*args: str | Path, **settings: Any) -> subprocess.CompletedProcess[str]:
        if args[0] != "-c" and not settings:
            return run_forked(args, os.environ)
        command = [sys.executable, *map(str, args)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, **settings)

    return run_python


@pytest.fixture
def without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server of OpenAI's API that this machine knows is asked, nor a proxy."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
