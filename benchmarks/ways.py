"""One way of judging, in a process of its own: blocks of prompts come on standard input, seconds go out.

    python -m benchmarks.ways WAY MODEL DTYPE MODE

The way's packages must be there (vLLM, OpenVINO and llama.cpp have environments of their own). A line of input is
{"prompts": [..]}; a line of output names the seconds, the tokens read and written, and the process's peak memory. All
ways get the same prompts, greedy.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

MODES = {"scores": 32, "reasons": 256}
"""mode -> most new tokens; with scores only a judgement ends at the first newline"""
AT_ONCE = 8
"""requests that llama.cpp's server runs together"""
Way = Callable[[list[str]], tuple[int, int]]
"""prompts -> tokens read and written"""


def stop_of(mode: str) -> str:
    """The published stop string."""
    return "\n" if mode == "scores" else "</s>"


def load(model: str, dtype: str) -> Any:
    """Weights and tokenizer with transformers, its own attention."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).eval()
    return loaded, AutoTokenizer.from_pretrained(model)


def published(model: str, dtype: str, mode: str) -> Way:
    """As the paper's scripts work: a prompt at a time, text decoded and searched for the stop string at every step."""
    import torch
    from transformers import StoppingCriteria, StoppingCriteriaList

    loaded, tokenizer = load(model, dtype)

    class Stop(StoppingCriteria):  # type: ignore[misc]
        def __init__(self, start: int) -> None:
            self.start = start

        def __call__(self, input_ids: Any, scores: Any, **_: Any) -> bool:
            return stop_of(mode) in tokenizer.decode(input_ids[0, self.start :], skip_special_tokens=True)

    def judge(prompts: list[str]) -> tuple[int, int]:
        read = written = 0
        for prompt in prompts:
            ids = tokenizer(prompt, return_tensors="pt").input_ids
            output = loaded.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=MODES[mode],
                stopping_criteria=StoppingCriteriaList([Stop(ids.shape[1])]),
            )
            read, written = read + ids.shape[1], written + output.shape[1] - ids.shape[1]
        return read, written

    return judge


def padded(model: str, dtype: str, mode: str) -> Way:
    """Batches of 8, padded on the left, with transformers' generate."""
    loaded, tokenizer = load(model, dtype)
    tokenizer.padding_side = "left"

    def judge(prompts: list[str]) -> tuple[int, int]:
        read = written = 0
        for start in range(0, len(prompts), 8):
            batch = tokenizer(prompts[start : start + 8], return_tensors="pt", padding=True)
            output = loaded.generate(
                **batch,
                do_sample=False,
                max_new_tokens=MODES[mode],
                stop_strings=[stop_of(mode)],
                tokenizer=tokenizer,
            )
            read += int(batch.attention_mask.sum())
            written += int((output[:, batch.input_ids.shape[1] :] != tokenizer.pad_token_id).sum())
        return read, written

    return judge


def ours(model: str, dtype: str, mode: str) -> Way:
    """The hf engine; `int8_dynamic` in place of a data type is bfloat16 with that quantization."""
    from judgelm import Judge

    eight_bits = "int8_dynamic" if dtype == "int8_dynamic" else None
    dtype = dtype if eight_bits is None else "bfloat16"
    judge = Judge.load(model, dtype=dtype, device="cpu", constrained=False, quantization=eight_bits)
    # what it prepares for a long run it is to have here
    judge.expect(10**18)
    return _engine(judge.engine, mode)


def vllm(model: str, dtype: str, mode: str) -> Way:
    """Our vllm engine."""
    from judgelm import Judge

    engine: Any = Judge.load(model, dtype=dtype, device="cpu", constrained=False, engine="vllm").engine
    judge = _engine(engine, mode)

    def cold(prompts: list[str]) -> tuple[int, int]:
        # each block stands for a run of its own: what is left of earlier ones would count for nothing in it
        engine.engine.reset_prefix_cache()
        return judge(prompts)

    return cold


def _engine(engine: Any, mode: str) -> Way:
    from judgelm.encoding import encode
    from judgelm.engine.interface import Request, Sampling

    sampling = Sampling(max_new_tokens=MODES[mode], stop=(stop_of(mode),))

    def judge(prompts: list[str]) -> tuple[int, int]:
        requests = [Request(str(k), prompt, encode(prompt, engine.tokenizer)) for k, prompt in enumerate(prompts)]
        done = list(engine.generate(requests, sampling))
        return sum(g.num_prompt_tokens for g in done), sum(g.num_tokens for g in done)

    return judge


def fastchat(model: str, dtype: str, mode: str) -> Way:
    """FastChat's `generate_stream`, which its workers and the paper's web page use."""
    import torch
    from fastchat.serve.inference import generate_stream

    loaded, tokenizer = load(model, dtype)

    def judge(prompts: list[str]) -> tuple[int, int]:
        read = written = 0
        for prompt in prompts:
            params = {"prompt": prompt, "temperature": 0.0, "max_new_tokens": MODES[mode], "stop": stop_of(mode)}
            with torch.inference_mode():
                for chunk in generate_stream(loaded, tokenizer, {**params, "echo": False}, "cpu", 4096):
                    last = chunk
            read += last["usage"]["prompt_tokens"]
            written += last["usage"]["completion_tokens"]
        return read, written

    return judge


def openvino(model: str, dtype: str, mode: str) -> Way:
    """OpenVINO GenAI's continuous batching; the model is a folder that optimum-cli exported, in the format it has."""
    import numpy as np
    import openvino_genai as genai
    from openvino import Tensor
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    schedule = genai.SchedulerConfig()
    # GiB of keys and values
    schedule.cache_size = 1
    schedule.enable_prefix_caching = True
    hint = {"float32": "f32", "bfloat16": "bf16"}[dtype]
    pipeline = genai.ContinuousBatchingPipeline(model, schedule, "CPU", {"INFERENCE_PRECISION_HINT": hint})
    config = genai.GenerationConfig()
    config.max_new_tokens, config.do_sample = MODES[mode], False
    config.stop_strings, config.eos_token_id = {stop_of(mode)}, tokenizer.eos_token_id

    def judge(prompts: list[str]) -> tuple[int, int]:
        ids = [tokenizer(prompt).input_ids for prompt in prompts]
        found = pipeline.generate([Tensor(np.array([each])) for each in ids], [config] * len(ids))
        return sum(map(len, ids)), sum(len(each.m_generation_ids[0]) for each in found)

    return judge


def llama_cpp(model: str, dtype: str, mode: str) -> Way:
    """llama.cpp's own server, in this process (xllamacpp): it batches what many threads ask; the model is a GGUF file,
    in the format it has.
    """
    from concurrent.futures import ThreadPoolExecutor

    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = model
    settings.n_parallel, settings.n_ctx = AT_ONCE, AT_ONCE * 1536
    settings.n_batch = settings.n_ubatch = 2048
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = os.cpu_count()
    server = xllamacpp.Server(settings)
    asked = {"max_tokens": MODES[mode], "temperature": 0, "stop": [stop_of(mode)]}

    def ask(prompt: str) -> dict[str, Any]:
        used: dict[str, Any] = server.handle_completions({**asked, "prompt": prompt})["usage"]
        return used

    def judge(prompts: list[str]) -> tuple[int, int]:
        with ThreadPoolExecutor(AT_ONCE) as threads:
            used = list(threads.map(ask, prompts))
        return sum(each["prompt_tokens"] for each in used), sum(each["completion_tokens"] for each in used)

    return judge


WAYS = {
    "published": published,
    "padded": padded,
    "ours": ours,
    "vllm": vllm,
    "fastchat": fastchat,
    "openvino": openvino,
    "llama_cpp": llama_cpp,
}


def main() -> None:
    """Load, say so, then judge what comes."""
    name, model, dtype, mode = sys.argv[1:]
    out = os.fdopen(os.dup(1), "w")
    # what processes and libraries of an engine print goes there too
    os.dup2(2, 1)
    with redirect_stdout(sys.stderr):
        judge = WAYS[name](model, dtype, mode)
        judge(["### Response:"])
        print("ready", file=out, flush=True)
        for line in sys.stdin:
            start = time.perf_counter()
            read, written = judge(json.loads(line)["prompts"])
            found = {
                "seconds": time.perf_counter() - start,
                "prompt_tokens": read,
                "new_tokens": written,
                "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            }
            print(json.dumps(found), file=out, flush=True)


if __name__ == "__main__":
    main()
