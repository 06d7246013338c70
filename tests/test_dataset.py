from __future__ import annotations

import gzip
import json
import os
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import (
    build_model,
    train_byte_tokenizer,
    train_sentencepiece_tokenizer,
    training_record,
    write_jsonl,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from judgelm.encoding import PromptTooLong, encode
from judgelm.errors import InputError
from judgelm.forms import Columns
from judgelm.jsonl import Line, LineFile
from judgelm.prompt import render_prompt
from judgelm.train.collator import IGNORED, Collator
from judgelm.train.encoder import ExampleEncoder
from judgelm.train.examples import Augmentation, EpochSampler, JudgeDataset, pretokenize
from judgelm.train.rows import TrainingRows, count_rows, scan
from judgelm.train.sample import TrainingSample


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setenv("JUDGELM_CACHE", str(tmp_path / "judgelm"))


@pytest.fixture(scope="module")
def encoder() -> ExampleEncoder:
    return ExampleEncoder(train_byte_tokenizer(), 2048)


def load(tmp_path: Path, encoder: ExampleEncoder, records: list[dict[str, Any]]) -> TrainingRows:
    return TrainingRows.load(str(write_jsonl(tmp_path / "train.jsonl", records)), encoder)


def check_shown(record: dict[str, Any], prompt: str, text: str) -> str:
    """Assert that prompt and judgement belong together; which variant it is."""
    number = record["question_id"]
    swapped = prompt.index(f"beta{number}") < prompt.index(f"alpha{number}")
    with_reference = "[Reference Answer]" in prompt
    low, high = record["score_w_reference" if with_reference else "score"]
    assert text.split("\n")[0] == (f"{high} {low}" if swapped else f"{low} {high}")
    alpha, beta = ("2", "1") if swapped else ("1", "2")
    if with_reference:
        assert f"Assistant {alpha} missed, Assistant {beta} met" in text
    else:
        assert f"Assistant {alpha} said alpha{number}, Assistant {beta} said beta{number}" in text
    return f"{'swapped' if swapped else 'given'}{' with reference' if with_reference else ''}"


# D23 of docs/differences.md
@pytest.mark.parametrize(("ranks", "workers"), [(1, 0), (2, 0), (3, 2)])
def test_no_row_is_mismatched_over_three_epochs(
    tmp_path: Path, encoder: ExampleEncoder, ranks: int, workers: int
) -> None:
    records = [training_record(number, reference=number % 3 > 0) for number in range(24)]
    rows = load(tmp_path, encoder, records)
    data = JudgeDataset(rows, encoder, Augmentation(0.5, 0.5, seed=7))
    sampler = EpochSampler(len(data), seed=7)
    seen: dict[str, int] = {}
    per_epoch: list[list[str]] = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        indices = list(sampler)
        texts: list[str] = []
        for rank in range(ranks):
            loader = DataLoader(data, batch_size=2, sampler=indices[rank::ranks], num_workers=workers, collate_fn=list)
            for batch in loader:
                for example in batch:
                    prompt = encoder.tokenizer.decode(example.input_ids[1 : example.num_prompt])
                    text = encoder.tokenizer.decode(example.input_ids[example.num_prompt : -1])
                    number = int(prompt.split("Question ")[1].split("?")[0])
                    variant = check_shown(records[number], prompt, text)
                    seen[variant] = seen.get(variant, 0) + 1
                    texts.append(f"{number} {variant}")
        assert sorted(int(t.split()[0]) for t in texts) == list(range(24))
        per_epoch.append(sorted(texts))
    assert set(seen) == {"given", "swapped", "given with reference", "swapped with reference"}
    assert per_epoch[0] != per_epoch[1] != per_epoch[2]
    # the same rows in the same variants, whatever the number of ranks and workers
    alone = sorted(
        f"{number} {check_shown(records[number], render_prompt(v.sample), v.text)}"
        for number in range(24)
        for v in [data.augmentation.apply(rows[number], 2, number)]
    )
    assert alone == per_epoch[2]


@given(st.integers(0, 2**31), st.integers(0, 5), st.integers(0, 10**6), st.floats(0, 1), st.floats(0, 1))
def test_draws_are_pure(seed: int, epoch: int, row: int, swap: float, reference: float) -> None:
    augmentation = Augmentation(swap, reference, seed)
    assert augmentation.draw(epoch, row) == augmentation.draw(epoch, row)
    assert augmentation.draw(epoch, row)[0] == Augmentation(swap, 0.0, seed).draw(epoch, row)[0]


def test_ratios_are_probabilities() -> None:
    draws = [Augmentation(0.3, 0.8, 1).draw(0, row) for row in range(4000)]
    assert sum(swap for swap, _ in draws) / 4000 == pytest.approx(0.3, abs=0.03)
    assert sum(reference for _, reference in draws) / 4000 == pytest.approx(0.8, abs=0.03)
    assert not any(any(Augmentation().draw(0, row)) for row in range(100))


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@given(
    question=texts, first=texts, second=texts, reasons=texts, scores=st.tuples(st.integers(0, 10), st.integers(0, 10))
)
@settings(max_examples=80)
def test_swapping_twice_is_identity(
    question: str, first: str, second: str, reasons: str, scores: tuple[int, int]
) -> None:
    record = {
        "question_id": 1,
        "question_body": question,
        "answer1_body": first,
        "answer2_body": second,
        "text": f"{scores[0]} {scores[1]}\nAssistant 1 and Assistant 2: {reasons}",
    }
    sample = TrainingSample.from_line(Line(record, Path("row"), 1))
    assert sample.swapped().swapped() == sample
    once = sample.swapped()
    assert once.judgement.scores == (scores[1], scores[0])
    assert once.sample.answers == (second, first)
    assert sample.to_record() == record | {"score": [float(s) for s in scores]}


TOKENIZERS = {
    "BOS, no pad": lambda: train_byte_tokenizer(bos=True, pad=False),
    "no BOS, pad": lambda: train_byte_tokenizer(bos=False, pad=True),
    "no BOS, no pad": lambda: train_byte_tokenizer(bos=False, pad=False),
    "SentencePiece": train_sentencepiece_tokenizer,
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_labels_are_target_and_eos(name: str) -> None:
    tokenizer = TOKENIZERS[name]()
    encoder = ExampleEncoder(tokenizer, 2048)
    samples = [TrainingSample.from_line(Line(training_record(n, 1 + n * 5), Path("r"), 1)) for n in range(4)]
    examples = [encoder.encode(sample.shown(n % 2 == 1, n > 1)) for n, sample in enumerate(samples)]
    for packing in (False, True):
        for narrow in (False, True):
            batch = Collator(pad=0, packing=packing, narrow=narrow, score_weight=3.0)(examples)
            kept = batch.get("logits_to_keep", torch.arange(batch["input_ids"].shape[1]))
            # what the loss sees for each example: the tokens after each kept position
            for n, example in enumerate(examples):
                begin = sum(len(e.input_ids) for e in examples[:n]) if packing else 0
                row = 0 if packing else n
                own = (kept >= begin) & (kept < begin + len(example.input_ids))
                labels, positions = batch["labels"][row][own], kept[own]
                learnt = labels != IGNORED
                targets = example.input_ids[example.num_prompt :]
                assert labels[learnt].tolist() == targets
                assert targets[-1] == tokenizer.eos_token_id
                assert (positions[learnt] + 1 - begin).tolist() == list(
                    range(example.num_prompt, len(example.input_ids))
                )
                weights = batch["loss_weights"][row][own][learnt]
                assert weights.tolist() == [3.0] * example.num_score_line + [1.0] * (
                    len(targets) - example.num_score_line
                )
    for n, example in enumerate(examples):
        sample, text, _ = samples[n].shown(n % 2 == 1, n > 1)
        assert example.input_ids[: example.num_prompt] == encode(render_prompt(sample), tokenizer)
        score_line = example.input_ids[example.num_prompt :][: example.num_score_line]
        assert tokenizer.decode(score_line).strip() == text.split("\n")[0]
        with_bos = tokenizer.bos_token_id is not None and example.input_ids[0] == tokenizer.bos_token_id
        assert with_bos == (name in ("BOS, no pad", "SentencePiece"))


# D26 of docs/differences.md
def test_a_token_that_is_also_padding_is_learnt() -> None:
    tokenizer = train_byte_tokenizer()
    encoder = ExampleEncoder(tokenizer, 2048)
    records = [training_record(n, words=1 + 20 * n) | {"text": "8 9\nzzz"} for n in range(2)]
    samples = [TrainingSample.from_line(Line(record, Path("r"), 1)) for record in records]
    examples = [encoder.encode(sample.shown(False, False)) for sample in samples]
    pad = tokenizer("zzz", add_special_tokens=False).input_ids[0]
    batch = Collator(pad=pad)(examples)
    for row, example in enumerate(examples):
        labels = batch["labels"][row]
        assert labels[labels != IGNORED].tolist() == example.input_ids[example.num_prompt :]
        assert pad in labels


def test_labels_where_a_token_would_reach_over_the_border(encoder: ExampleEncoder) -> None:
    """A judgement that merges with the prompt's last token is encoded as judging will see it: prompt first."""
    from tokenizers import AddedToken

    tokenizer = train_byte_tokenizer()
    tokenizer.add_tokens([AddedToken(":8", normalized=False)])
    over = ExampleEncoder(tokenizer, 2048)
    sample = TrainingSample.from_line(Line(training_record(3) | {"text": "8 9\nGood."}, Path("r"), 1))
    example = over.encode(sample.shown(False, False))
    prompt = encode(render_prompt(sample.sample), tokenizer)
    assert example.input_ids[: example.num_prompt] == prompt
    assert tokenizer.decode(example.input_ids[example.num_prompt : -1]) == "8 9\nGood."
    assert tokenizer.decode(example.input_ids[example.num_prompt :][: example.num_score_line]) == "8 9\n"


# D25 of docs/differences.md
def test_long_rows_are_shortened_or_dropped_and_counted(tmp_path: Path) -> None:
    tokenizer = train_byte_tokenizer()
    records = [
        training_record(0, reference=False),
        training_record(1, words=400, reference=False),
        training_record(2, reference=False) | {"question_body": "why? " * 900},
        training_record(3) | {"text": "error"},
        training_record(4) | {"text": "I cannot say."},
        training_record(5) | {"text_w_reference": "error"},
    ]
    short = ExampleEncoder(tokenizer, 600)
    rows = load(tmp_path, short, records)
    assert [row.state.value for row in scan(LineFile(rows.lines.path), short)] == [
        "ok", "shortened", "too_long", "error", "unparsed", "ok",
    ]  # fmt: skip
    assert rows.counts.states == {"ok": 2, "shortened": 1, "too_long": 1, "error": 1, "unparsed": 1}
    assert list(rows.places) == [0, 1, 5]
    for row in range(3):
        for swapped in (False, True):
            example = short.encode(rows[row].shown(swapped, True))
            assert len(example.input_ids) <= 600
            assert tokenizer.decode(example.input_ids[:-1]).count("### Response:") == 1
            assert "Assistant 1 said" in tokenizer.decode(example.input_ids[example.num_prompt :])
    assert rows[2].judgement_with_reference is None
    with pytest.raises(PromptTooLong):
        short.encode(TrainingSample.from_line(Line(records[2], Path("r"), 1)).shown())


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"question_id": 1, "question_body": "q", "answer1_body": "a", "answer2_body": "b"}, "field 'text' is missing"),
        (training_record(1) | {"answer2_body": [7]}, "field 'answer2_body' must be str"),
        (training_record(1) | {"text": "error"}, "no row can be trained on (found: 1 error)"),
        (training_record(1) | {"reference": "a text"}, "field 'reference' must be {.text.: .."),
    ],
)
def test_bad_files_end_in_one_line(
    tmp_path: Path, encoder: ExampleEncoder, record: dict[str, Any], expected: str
) -> None:
    with pytest.raises(InputError, match=expected.replace("(", r"\(").replace(")", r"\)")):
        load(tmp_path, encoder, [record])


def test_a_missing_file_is_no_hub_name(encoder: ExampleEncoder) -> None:
    with pytest.raises(InputError, match="no such file"):
        TrainingRows.load("folder/train.jsonl", encoder)
    with pytest.raises(InputError, match="no such file, and the hub did not give such a data set"):
        TrainingRows.load("someone/data", encoder)


def test_rows_are_scanned_once_and_again_when_the_file_changes(
    tmp_path: Path, encoder: ExampleEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed: list[Line] = []
    from_line = TrainingSample.from_line

    def counting(line: Line) -> TrainingSample:
        typed.append(line)
        return from_line(line)

    monkeypatch.setattr(TrainingSample, "from_line", counting)
    first = load(tmp_path, encoder, [training_record(1), training_record(2)])
    assert len(typed) == 2
    again = load(tmp_path, encoder, [training_record(1), training_record(2)])
    assert len(typed) == 2
    assert again.counts == first.counts
    changed = load(tmp_path, encoder, [training_record(2)])
    assert first.fingerprint == again.fingerprint != changed.fingerprint
    assert changed[0].sample.question == "Question 2?"
    assert len(typed) == 4


@pytest.mark.parametrize("form", ["lines", "list", "packed"])
def test_a_file_of_any_form_is_read_by_many_processes_and_may_be_replaced(
    tmp_path: Path, encoder: ExampleEncoder, form: str
) -> None:
    records = [training_record(number, words=1 + number % 7) for number in range(40)]
    content = "".join(json.dumps(record) + "\n" for record in records).encode()
    file = tmp_path / "rows"
    file.write_bytes({"lines": content, "list": json.dumps(records).encode(), "packed": gzip.compress(content)}[form])
    rows = TrainingRows.load(str(file), encoder)
    data = JudgeDataset(rows, encoder, Augmentation(0.5, 0.5))
    expected = [data[index] for index in range(40)]
    loader = DataLoader(data, batch_size=1, num_workers=2, collate_fn=list, sampler=range(40))
    assert [example for batch in loader for example in batch] == expected
    assert [pickle.loads(pickle.dumps(data))[index] for index in range(40)] == expected
    os.replace(write_jsonl(tmp_path / "other", records[:1]), file)
    assert [data[index] for index in range(40)] == expected


def test_rows_of_other_names_are_those_of_ours(tmp_path: Path, encoder: ExampleEncoder) -> None:
    records = [training_record(n, 2) for n in range(4)]
    ours = load(tmp_path, encoder, records)
    names = {
        **{"question_id": "id", "question": "prompt", "answer1": "a", "answer2": "b", "judgement": "gpt4"},
        **{"reference": "gold", "judgement_with_reference": "gpt4_gold"},
    }
    columns = Columns.parse(columns_text(names))
    fields = ("question_id", "question_body", "answer1_body", "answer2_body", "text", "reference", "text_w_reference")
    theirs = [
        {
            their: record[field]["text"] if field == "reference" else record[field]
            for field, their in zip(fields, names.values(), strict=True)
        }
        for record in records
    ]
    file = write_jsonl(tmp_path / "theirs.jsonl", theirs)
    rows = TrainingRows.load(str(file), encoder, columns)
    assert rows.fingerprint != ours.fingerprint
    assert vars(rows.counts) == vars(ours.counts) == vars(count_rows(str(file), encoder, columns))
    for place in range(len(ours)):
        one, other = rows[place], ours[place]
        assert one.shown(True, True).text == other.shown(True, True).text
        assert (one.sample.answers, one.reference) == (other.sample.answers, other.reference)
    # with other columns it is another file
    exchanged = Columns.parse(columns_text(names | {"answer1": "b", "answer2": "a"}))
    assert TrainingRows.load(str(file), encoder, exchanged)[0].sample.answers == ours[0].sample.answers[::-1]
    with pytest.raises(InputError, match=r"--columns: a training file has no label \(it has question_id, question, "):
        count_rows(str(file), columns=Columns.parse("label=a"))


def test_a_single_answer_of_another_name_is_no_judgement(tmp_path: Path, encoder: ExampleEncoder) -> None:
    rows = [{"id": 1, "prompt": "2 + 2?", "reply": "4", "gpt4": "9\nRight."}]
    file = write_jsonl(tmp_path / "graded.jsonl", rows)
    names = {"question_id": "id", "question": "prompt", "answer": "reply", "judgement": "gpt4"}
    row = TrainingRows.load(str(file), encoder, Columns.parse(columns_text(names)))[0]
    assert (row.sample.answers, row.judgement.scores, row.shown().task) == (("4",), (9.0,), "grade")


def columns_text(names: dict[str, str]) -> str:
    return ",".join(f"{our}={their}" for our, their in names.items())


def test_pretokenized_rows_equal_lazy_ones(tmp_path: Path, encoder: ExampleEncoder) -> None:
    rows = load(tmp_path, encoder, [training_record(n, reference=n % 2 == 0) for n in range(6)])
    augmentation = Augmentation(0.5, 0.5, seed=3)
    lazy = JudgeDataset(rows, encoder, augmentation)
    eager = JudgeDataset(rows, encoder, augmentation, pretokenize(rows, encoder))
    assert [lazy[index] for index in range(18)] == [eager[index] for index in range(18)]


def test_the_order_of_rows(tmp_path: Path) -> None:
    sampler, other = EpochSampler(50, seed=1), EpochSampler(50, seed=1)
    first = list(sampler)
    assert sorted(first) == list(range(50)) != first
    sampler.set_epoch(1)
    assert sorted(sampler) == list(range(50, 100))
    assert [index - 50 for index in sampler] != first
    other.set_epoch(1)
    assert list(other) == list(sampler)
    in_file = EpochSampler(50, seed=1, shuffle=False)
    in_file.set_epoch(1)
    assert list(in_file) == list(range(50, 100))


def test_packed_examples_give_the_loss_of_single_ones(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from judgelm.train.attention import register_packed_attention
    from judgelm.train.trainer import judgement_loss

    tokenizer = train_byte_tokenizer()
    folder = build_model(tmp_path / "m", tokenizer)
    encoder = ExampleEncoder(tokenizer, 2048)
    examples = [
        encoder.encode(TrainingSample.from_line(Line(training_record(n, 1 + 9 * n), Path("r"), 1)).shown())
        for n in range(5)
    ]

    def gradients(attention: str, batches: list[dict[str, Any]]) -> tuple[float, dict[str, torch.Tensor]]:
        model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation=attention)
        targets = sum(int((batch["labels"] != IGNORED).sum()) for batch in batches)
        total = 0.0
        for batch in batches:
            labels = batch.pop("labels")
            loss = judgement_loss(model(**batch, use_cache=False).logits, labels, targets)
            torch.autograd.backward(loss)
            total += loss.item()
        return total, {name: p.grad for name, p in model.named_parameters()}

    alone, expected = gradients("sdpa", [Collator(0, narrow=False)([example]) for example in examples])
    random.Random(0).shuffle(examples)
    for attention, collator in (
        (register_packed_attention(), Collator(0, packing=True)),
        ("sdpa", Collator(0)),
        ("eager", Collator(0)),
    ):
        loss, found = gradients(attention, [collator(examples)])
        assert loss == pytest.approx(alone, rel=1e-5), attention
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5)


def test_rows_survive_a_json_round_trip(tmp_path: Path, encoder: ExampleEncoder) -> None:
    record = training_record(1) | {"answer1_body": "half a pair \\ud800 quoted, 漢字", "source": {"deep": [1, None]}}
    rows = load(tmp_path, encoder, [record])
    assert rows[0].sample.record == record
