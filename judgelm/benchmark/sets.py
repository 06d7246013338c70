"""The benchmarks of judges: where each has its home, and what reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from judgelm.benchmark import chosen, readers, rubrics
from judgelm.benchmark.labelled import Reader, each_row
from judgelm.errors import InputError

GITHUB = "https://raw.githubusercontent.com"
_PANDALM = f"{GITHUB}/WeOpenML/PandaLM/3871806e72b4832f815ecafd24d3503c73403f48/data"
_JUDGEBENCH = f"{GITHUB}/ScalerLab/JudgeBench/e2c52c284e735e139b3daa61c206ee208f36c461/data"
_LLMBAR = f"{GITHUB}/princeton-nlp/LLMBar/900616bff90b6c6c8e1681f7d079250637c55992/Dataset/LLMBar"
_AUTO_J = f"{GITHUB}/GAIR-NLP/auto-j/2ae17a3965d933232e9cd50302aa0f176249c83b/data/test"
HUB = "https://huggingface.co"
_PROMETHEUS = f"{GITHUB}/prometheus-eval/prometheus-eval/dcfb44272d5d0414832f5dbb8c2a05ebc2614234/eval/benchmark/data"
_REWARDBENCH = f"{HUB}/datasets/allenai/reward-bench/resolve/d61ac5c97d0f2f7eb922da3c0b6bbaf614ae8d02/data"
_MT_BENCH = f"{HUB}/datasets/lmsys/mt_bench_human_judgments/resolve/61a35fc4ccb7094b60562bf3d82341080ea68201/data"
_JUDGELM = f"{HUB}/datasets/BAAI/JudgeLM-100K/resolve/618a71c530cf9923686e40ef4bf2428c60e99abc"
_HUMAN = "human-00000-of-00001-25f4910818759289.parquet"
_FILTERED = "filtered-00000-of-00001.parquet"
SHA256 = {
    f"{_PANDALM}/testset-v1.json": "cc154f9067c7382d7ea86f8f246511a5e1ac87e1fddd845c5938d789505b07a4",
    f"{_JUDGEBENCH}/dataset=judgebench,response_model=gpt-4o-2024-05-13.jsonl": (
        "d5106306b38dead1b2e964ecf5534a3e7b2fc4b8d3b8da327599edfcebd76042"
    ),
    f"{_JUDGEBENCH}/dataset=judgebench,response_model=claude-3-5-sonnet-20240620.jsonl": (
        "3b70504588e400613bf5744a20a345da8701b7150be9a30c9db0e6f3d7b70a62"
    ),
    f"{_LLMBAR}/Natural/dataset.json": "f7127b7aa78104cb8e03a2b1b3ac0077e95b125714dd441a8ee63666145a3375",
    f"{_LLMBAR}/Adversarial/Neighbor/dataset.json": "6712c7eda6342602e0bc7c06c282fa95e2110d4e741a284026a62d937f9780a0",
    f"{_LLMBAR}/Adversarial/GPTInst/dataset.json": "1002425f73c2cf54b6e6de99bce3f6c60fa2a17d13194772e37d7481c1351d42",
    f"{_LLMBAR}/Adversarial/GPTOut/dataset.json": "1ff56e520d7607750a9866a3be0f5b850392ca4477a1f69d80f32bd3e310f561",
    f"{_LLMBAR}/Adversarial/Manual/dataset.json": "0d9598769a39cdbbd265778c37e49939d41d5f76dcfb17bd75dcfa07516d3837",
    f"{_AUTO_J}/testdata_pairwise.jsonl": "56f32fad71d9b6b33bc4d51794c324981e26355bcbf3ce4908d7f8ddcc61f80e",
    f"{_MT_BENCH}/{_HUMAN}": "4877bc46a40929f4082c3c79593700fb897b1d6c7f4c473032694a01322f5769",
    f"{_REWARDBENCH}/{_FILTERED}": "65473c20ed0627e02503557ae102c25c6b0e66b5ed69ee327e224bb95e70ca29",
    f"{_PROMETHEUS}/hhh_alignment_eval.json": "fe6655dfeec99d04d582692767c736f2385b5e067f0b894d1b73a32af7be9c9e",
    f"{_PROMETHEUS}/vicuna_eval.json": "131550a5815f75014a3ea71b0f534fb7ef0ca49b714c4e66935c35fdee1daacc",
    f"{_PROMETHEUS}/mt_bench_eval.json": "5bf33413c34173c3b94f008499fd9098fb6338d5d1cf64f341e8e0c9b9f105cf",
}
"""of what stands at an address: of all but the paper's set and MM-Vet, whose digests nobody has published"""


def _at(home: str, *files: str) -> dict[str, str]:
    """Files by name, that all stand below one address."""
    return {file: f"{home}/{file}" for file in files}


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark, its files' public addresses, and what reads them."""

    title: str
    licence: str
    """of the data, as far as its authors state one; the project ships none of it"""
    read: Reader
    homes: Mapping[str, str]
    """file name -> address; empty where the user brings the file"""
    task: str = "pair"
    all_needed: bool = True
    """whether a folder must hold all files that have a home, or any of them will do"""
    others: Sequence[str] = ()
    """files that are read where a folder has them, and are never fetched"""


_SUBSETS = ("Natural", "Adversarial/Neighbor", "Adversarial/GPTInst", "Adversarial/GPTOut", "Adversarial/Manual")
_JUDGED_MODELS = ("gpt-4o-2024-05-13", "claude-3-5-sonnet-20240620")
_VAL = ("", "_gpt4", "_gpt4_with_reference", "_references")
BENCHMARKS = {
    "judgelm-val": Benchmark(
        "the JudgeLM paper's validation set, judged by GPT-4",
        "CC BY-NC 4.0",
        readers.read_judgelm_val,
        _at(_JUDGELM, *(f"judgelm_val_5k{n}.jsonl" for n in _VAL)),
    ),
    "pandalm": Benchmark(
        "PandaLM's test set, majority of three annotators",
        "Apache-2.0",
        each_row(readers.pandalm, "no majority"),
        _at(_PANDALM, "testset-v1.json"),
    ),
    "mm-vet": Benchmark(
        "MM-Vet: a vision model's answers against the ground truth",
        "CC BY-NC 4.0",
        readers.read_mmvet,
        {"mm-vet.json": "https://github.com/yuweihao/MM-Vet/releases/download/v1/mm-vet.zip"},
        task="mmvet",
    ),
    "judgebench": Benchmark(
        "JudgeBench: pairs of which one is objectively right",
        "MIT",
        each_row(readers.judgebench),
        _at(_JUDGEBENCH, *(f"dataset=judgebench,response_model={model}.jsonl" for model in _JUDGED_MODELS)),
        all_needed=False,
    ),
    "llmbar": Benchmark(
        "LLMBar: instruction following, natural and adversarial pairs",
        "MIT",
        each_row(readers.llmbar),
        _at(_LLMBAR, *(f"{subset}/dataset.json" for subset in _SUBSETS)),
        all_needed=False,
    ),
    "autoj": Benchmark(
        "Auto-J's pairwise test, human labels of 58 scenarios",
        "Apache-2.0; the rows come from several public data sets",
        each_row(readers.autoj),
        _at(_AUTO_J, "testdata_pairwise.jsonl"),
    ),
    "mt-bench-human": Benchmark(
        "MT-bench's human votes, majority of a pair's voters, of the turns that --turn names",
        "CC BY 4.0",
        readers.read_mt_bench_human,
        {"human.parquet": f"{_MT_BENCH}/{_HUMAN}"},
    ),
    "rewardbench": Benchmark(
        "RewardBench: chosen and rejected answers in four sections",
        "ODC-BY; the rows come from several public data sets",
        chosen.read_rewardbench,
        _at(_REWARDBENCH, _FILTERED),
        others=chosen.PRIOR_FILES,
    ),
    "rewardbench2": Benchmark(
        "RewardBench 2: the best of four answers, and of many that are right",
        "ODC-BY; the rows come from several public data sets",
        chosen.read_rewardbench2,
        {},
        task="grade",
        others=("test-00000-of-00001.parquet",),
    ),
    "hhh": Benchmark(
        "HHH alignment: helpful, honest and harmless answers, of BIG-bench",
        "Apache-2.0",
        chosen.read_hhh,
        _at(_PROMETHEUS, "hhh_alignment_eval.json"),
        all_needed=False,
        others=chosen.HHH_FILES,
    ),
    "prometheus": Benchmark(
        "Prometheus's graded answers: Feedback-Bench, Vicuna, MT-bench and FLASK, each row with a rubric",
        "Apache-2.0",
        rubrics.read_rubrics,
        _at(_PROMETHEUS, *rubrics.FETCHED),
        task="grade",
        all_needed=False,
        others=tuple(file for file in rubrics.SPLITS if file not in rubrics.FETCHED),
    ),
    "pairs": Benchmark("any labelled pairs, JSON Lines", "that of your file", readers.read_pairs, {}),
}
PUBLISHED_KEYS = ("accuracy", "precision", "recall", "f1", "consistency")
PUBLISHED = {
    "without_reference": {
        "JudgeLM-7B": (81.11, 69.67, 78.39, 72.21, 83.57),
        "JudgeLM-13B": (84.33, 73.69, 80.51, 76.17, 85.01),
        "JudgeLM-33B": (89.03, 80.97, 84.76, 82.64, 91.36),
    },
    "with_reference": {
        "JudgeLM-7B": (84.08, 75.92, 82.55, 78.28, 84.46),
        "JudgeLM-13B": (85.47, 77.71, 82.90, 79.77, 87.23),
        "JudgeLM-33B": (89.32, 84.00, 86.21, 84.98, 92.37),
    },
}
"""of the paper, in per cent, by the published rule (arXiv 2310.17631)"""


def find_benchmark(name: str) -> Benchmark:
    """The benchmark of that name; raises InputError for an unknown one."""
    if name not in BENCHMARKS:
        raise InputError(f"unknown benchmark {name!r}, expected one of {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]
