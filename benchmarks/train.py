"""Training tokens a second: the whole model and LoRA, padded, packed, and in both orders, interleaved in one run.

    python -m benchmarks.train --data ROWS.jsonl --output benchmarks/train.json

Each way is a process of its own and takes a step (forward, backward, AdamW) in turn on the same rows, with the
collator, loss and attention of the training scripts, bfloat16 autocast, without gradient checkpointing. In both orders
a row is two examples, and the loss has the term of `--swap_consistency`; the tokens counted are those of the examples.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import resource
import statistics
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.judge import matmul_peak
from benchmarks.provenance import current_commit, this_machine
from judgelm.files import write_text
from judgelm.jsonl import read_lines
from judgelm.judge.description import versions

WAYS = {
    f"{model}, {way}": (lora, packing, both, compiled)
    for model, lora in (("full", False), ("LoRA", True))
    for way, packing, both, compiled in (
        ("padded", False, False, False),
        ("packed", True, False, False),
        ("compiled", True, False, True),
        ("both orders", True, True, False),
    )
}
"""way -> (LoRA, packing, swap consistency, compiled parts)"""
HIDDEN, LAYERS, INNER, KV, VOCABULARY = 576, 30, 1536, 192, 49152


def pick(path: str, count: int) -> list[Any]:
    """Random rows of at most 800 tokens, each in both orders."""
    from judgelm.models.folder import find_model
    from judgelm.models.loading import load_tokenizer
    from judgelm.train.consistency import find_compared_scale
    from judgelm.train.encoder import ExampleEncoder
    from judgelm.train.examples import BothExamples
    from judgelm.train.sample import TrainingSample

    encoder = ExampleEncoder(load_tokenizer(find_model("tiny-base")), 800)
    lines = list(read_lines(path))
    random.Random(0).shuffle(lines)
    chosen: list[Any] = []
    for line in lines:
        sample = TrainingSample.from_line(line)
        orders = [sample.shown(swapped) for swapped in (False, True)]
        if max(encoder.count_tokens(orders)) <= encoder.max_tokens:
            chosen.append(BothExamples(tuple(map(encoder.encode, orders)), find_compared_scale(orders[0])))
        if len(chosen) == count:
            break
    return chosen


def shown(rows: list[Any], way: str) -> list[Any]:
    """The examples of a batch of rows."""
    _, _, both, _ = WAYS[way]
    return [example for row in rows for example in row.examples[: 1 + both]]


def worker(connection: Connection, way: str) -> None:
    """Load the model, then take a training step for each batch that comes."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from judgelm.criteria import PUBLISHED
    from judgelm.engine.hf.compiled import put_in
    from judgelm.models.folder import find_model
    from judgelm.models.loading import load_tokenizer
    from judgelm.models.tiny import quiet_progress, tiny_folder
    from judgelm.train.attention import register_packed_attention
    from judgelm.train.collator import Collator, PairCollator
    from judgelm.train.consistency import ScoreTree, SwapTerm
    from judgelm.train.trainer import judgement_loss

    lora, packing, both, compiled = WAYS[way]
    torch.manual_seed(0)
    with quiet_progress():
        model: Any = AutoModelForCausalLM.from_pretrained(
            tiny_folder(),
            dtype=torch.bfloat16 if lora else torch.float32,
            attn_implementation=register_packed_attention() if packing else "sdpa",
        )
    if lora:
        model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"))
    model.train()
    if compiled:
        put_in(model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)
    collate = Collator(pad=0, packing=packing)
    trees = {PUBLISHED: ScoreTree(PUBLISHED, load_tokenizer(find_model("tiny-base")))} if both else {}
    pairs, term = PairCollator(collate, trees), SwapTerm(1.0, trees)
    connection.send("ready")
    while rows := connection.recv():
        start = time.perf_counter()
        batch = pairs(rows) if both else collate(shown(rows, way))
        labels, comparisons, _ = batch.pop("labels"), batch.pop("comparisons", ()), batch.pop("is_second", None)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(**batch, use_cache=False).logits
        loss = judgement_loss(logits, labels) + (term(logits, comparisons, True) if both else 0.0)
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        seconds = time.perf_counter() - start
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        connection.send({"seconds": seconds, "loss": loss.item(), "peak_memory_mib": memory})


def useful_flops(examples: list[Any], lora: bool) -> float:
    """What a step needs: forward once, backward once through activations, and for the whole model once for weights."""
    matrices = LAYERS * (2 * HIDDEN * HIDDEN + 2 * HIDDEN * KV + 3 * HIDDEN * INNER)
    tokens: int = sum(len(e.input_ids) for e in examples)
    targets: int = sum(len(e.input_ids) - e.num_prompt for e in examples)
    dense = 2 * matrices * tokens + 2 * HIDDEN * VOCABULARY * targets
    attention: int = sum(LAYERS * 2 * HIDDEN * len(e.input_ids) ** 2 for e in examples)
    return dense * (2 if lora else 3) + attention * 3


def take_steps(ways: list[str], rows: list[Any], size: int, peaks: list[float]) -> dict[str, list[dict[str, float]]]:
    """What each step of each way took but the first two, in which kernels are compiled; the machine's own speed after
    each of them goes into `peaks`.
    """
    context = multiprocessing.get_context("spawn")
    ends: dict[str, Connection] = {}
    for way in ways:
        ends[way], theirs = context.Pipe()
        context.Process(target=worker, args=(theirs, way), daemon=True).start()
        ends[way].recv()
    steps: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for begin in range(0, len(rows), size):
        batch = rows[begin : begin + size]
        for way, end in ends.items():
            end.send(batch)
            examples = shown(batch, way)
            tokens = sum(len(e.input_ids) for e in examples)
            result = end.recv() | {"tokens": tokens, "flops": useful_flops(examples, WAYS[way][0])}
            print(way, f"{result['seconds']:.1f} s, {tokens} tokens, loss {result['loss']:.4f}", flush=True)
            if begin > size:
                steps[way].append(result)
        peaks.append(matmul_peak("bfloat16"))
    for end in ends.values():
        end.send(None)
    return steps


def main() -> None:
    """Measure, then write raw numbers and summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="training rows, JSON Lines")
    parser.add_argument("--output", required=True, help="raw numbers and summary, JSON")
    parser.add_argument(
        "--ways", nargs="+", default=list(WAYS), choices=list(WAYS), metavar="WAY", help="; ".join(WAYS)
    )
    parser.add_argument("--steps", type=int, default=6, help="of each way; two more, before them, are not counted")
    parser.add_argument("--batch", type=int, default=3)
    args = parser.parse_args()
    rows = pick(args.data, (args.steps + 2) * args.batch)
    commit = current_commit()
    peaks: list[float] = []
    steps: dict[str, list[dict[str, float]]] = {}
    for lora in (False, True):
        # memory does not hold all ways at once
        steps |= take_steps([way for way in args.ways if WAYS[way][0] == lora], rows, args.batch, peaks)
    peak = statistics.median(peaks)
    summary = {}
    for way, done in steps.items():
        seconds = sum(s["seconds"] for s in done)
        summary[way] = {
            "tokens_per_s": sum(s["tokens"] for s in done) / seconds,
            "share_of_matmul_peak": sum(s["flops"] for s in done) / seconds / peak,
            "peak_memory_mib": max(s["peak_memory_mib"] for s in done),
        }
    report = {
        "command": f"python -m benchmarks.train {' '.join(sys.argv[1:])}",
        "commit": commit,
        "versions": versions(),
        "machine": this_machine(),
        "mean_tokens": sum(len(row.examples[0].input_ids) for row in rows) / len(rows),
        "matmul_peak_flops": peaks,
        "summary": summary,
        "steps": steps,
    }
    write_text(args.output, json.dumps(report, indent=1) + "\n")
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
