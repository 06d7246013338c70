"""One way of judging on a GPU, in a process of its own: loaded once, then scores only and with reasons.

    python -m benchmarks.gpu_ways WAY FOLDER PAIRS UNTIL [--dry-run]

`benchmarks.gpu` starts these; UNTIL is in seconds since 1970. Lines of standard output are JSON: how long loading took,
then about once a second how many rows are done and what they took. When its share of the time is up a mode ends at the
row that was finished last.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout

from benchmarks.made_up import TWO_LAYERS, VICUNA_7B, make_pairs
from judgelm import Judge
from judgelm.judge.settings import JudgeSettings
from judgelm.sample import Sample

MODES = {"scores": 4, "reasons": 256}
"""mode -> tokens that are written: a made-up judge ends no text by itself, and a line of scores has four"""
_SHARES = {"scores": 0.65, "reasons": 1.0}
"""of the time that is left when a mode begins"""
_WITH_REASONS = 10
"""one in so many pairs is judged with reasons too"""
_WARMED_UP = 8


def sdpa(folder: str, device: str) -> Judge:
    """As `judgelm judge` does it: rows without padding, attention by torch's own kernels."""
    return Judge.load(folder, dtype="bfloat16", device=device, constrained=False, prompt_format="plain")


def flash(folder: str, device: str) -> Judge:
    """flash-attn over padded batches, as for models whose attention cannot be packed."""
    from transformers import LlamaForCausalLM

    # what the engine asks before it packs
    LlamaForCausalLM._supports_attention_backend = False
    return sdpa(folder, device)


def vllm(folder: str, device: str) -> Judge:
    """Our vllm engine."""
    return Judge.load(folder, dtype="bfloat16", constrained=False, engine="vllm", prompt_format="plain")


WAYS: dict[str, Callable[[str, str], Judge]] = {"sdpa": sdpa, "flash": flash, "vllm": vllm}


def settings_of(mode: str, dry_run: bool) -> JudgeSettings:
    """Greedy; in a dry run few tokens."""
    most = MODES["scores"] if dry_run else MODES[mode]
    return JudgeSettings(scores_only=mode == "scores", temperature=0.0, max_new_tokens=most)


def measure(judge: Judge, pairs: list[Sample], settings: JudgeSettings, until: float) -> Iterator[dict[str, float]]:
    """What is done so far, about once a second, until all is done or the time is up."""
    prompt_tokens = new_tokens = 0
    start = said = time.time()
    for rows, judged in enumerate(judge.run(pairs, ("forward",), settings), start=1):
        now = time.time()
        # all prompts fit
        assert judged.generation is not None
        prompt_tokens += judged.generation.num_prompt_tokens
        new_tokens += judged.generation.num_tokens
        if now >= until or rows == len(pairs) or now >= said + 1:
            said = now
            counts = {"rows": rows, "of": len(pairs), "prompt_tokens": prompt_tokens, "new_tokens": new_tokens}
            yield {"seconds": now - start, **counts}
        if now >= until:
            return


def gpu_memory() -> int:
    """The most that this process held on the GPU, in MiB; 0 on a CPU."""
    import torch

    return torch.cuda.max_memory_allocated() >> 20 if torch.cuda.is_available() else 0


def main() -> None:
    """Load, then measure."""
    way, folder, count, end, *flags = sys.argv[1:]
    begin, dry_run = time.time(), "--dry-run" in flags
    out = os.fdopen(os.dup(1), "w")
    # what processes and libraries of an engine print goes there too
    os.dup2(2, 1)
    with redirect_stdout(sys.stderr):
        judge = WAYS[way](folder, "cpu" if dry_run else "cuda")
        shape = TWO_LAYERS if dry_run else VICUNA_7B
        pairs = list(make_pairs(judge.engine.tokenizer, shape, int(count)))  # type: ignore[attr-defined]
        # at first use kernels are chosen and memory is taken
        list(judge.run(pairs[:_WARMED_UP], ("forward",), settings_of("scores", dry_run)))
        ready = {"start_s": round(time.time() - begin, 2), "engine": dict(judge.description)}
        print(json.dumps(ready), file=out, flush=True)
        for mode in MODES:
            chosen = pairs if mode == "scores" else pairs[::_WITH_REASONS]
            until = time.time() + (float(end) - time.time()) * _SHARES[mode]
            for done in measure(judge, chosen, settings_of(mode, dry_run), until):
                print(json.dumps({"mode": mode, **done}), file=out, flush=True)
        print(json.dumps({"peak_gpu_memory_mib": gpu_memory()}), file=out, flush=True)
    # what an engine still has in flight is not waited for
    os._exit(0)


if __name__ == "__main__":
    main()
