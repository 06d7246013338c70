from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
from conftest import ROOT

CORE = [
    *("errors", "score_lines", "judgement", "files", "console", "distribution"),
    *("jsonl", "sample", "prompt", "verdict", "answers", "samples"),
]
LAYERS = [
    *CORE,
    *("encoding", "models", "engine", "evaluation", "ranking", "benchmark", "train", "judge", "audit", "flags"),
    *("report", "serve", "commands", "cli", "llm_judge", "__main__", "data"),
]
"""each imports only from itself and those before it"""
TRAINING = {f"train/{name}.py" for name in ("arguments", "attention", "card", "model", "trainer")}
ENGINE = {
    "engine/score_line.py",
    *(f"engine/hf/{name}.py" for name in ("engine", "packed", "padded", "rope", "batch", "schedule")),
}
HEAVY_AT_THE_TOP: dict[str, set[str]] = {
    "torch": {
        *ENGINE,
        *TRAINING,
        "train/dataset.py",
        "train/fsdp.py",
        "train/trainer.py",
    },
    "transformers": {*ENGINE, *TRAINING, "train/trainer.py"},
    "datasets": set(),
    "peft": set(),
    "sklearn": set(),
    "scipy": set(),
    "evalica": set(),
    "krippendorff": set(),
    "jinja2": set(),
    "vllm": set(),
    "gradio": {"serve/page/page.py", "serve/page/batch_tab.py"},
    "ray": set(),
}
ANYWHERE = {
    "peft": {"models/loading.py", "train/model.py"},
    "sklearn": {"evaluation/published.py"},
    "scipy": {"evaluation/comparison.py", "evaluation/metrics/intervals.py", "ranking/rank.py"},
    "evalica": set(),
    "krippendorff": {"evaluation/metrics/agreement.py"},
    "jinja2": {"report/context.py"},
    "huggingface_hub": {"models/loading.py", "train/dataset.py"},
    "datasets": {"train/dataset.py"},
    "gradio": {"serve/page/page.py", "serve/page/batch_tab.py", "serve/gradio_web_server_judgelm.py"},
    # the package: engine/openai asks with httpx
    "openai": set(),
    "ray": {"judge/replicas.py"},
    "vllm": {"engine/vllm.py"},
}
PACKAGE = ROOT / "judgelm"


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    """Modules a file imports; those under TYPE_CHECKING are left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    nodes = tree.body if top_level_only else ast.walk(tree)
    found: set[str] = set()
    for node in nodes:
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("name", CORE)
def test_core_needs_the_standard_library_alone(name: str) -> None:
    allowed = {"judgelm", *sys.stdlib_module_names}
    assert {module.split(".")[0] for module in imports(PACKAGE / f"{name}.py")} <= allowed
    assert {m for m in imports(PACKAGE / f"{name}.py") if m.startswith("judgelm.")} <= {f"judgelm.{n}" for n in CORE}


def test_nothing_points_back() -> None:
    checked = 0
    for path in PACKAGE.rglob("*.py"):
        layer = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if layer == "__init__":
            continue
        for module in imports(path):
            parts = module.split(".")
            if parts[0] == "judgelm" and len(parts) > 1 and parts[1] in LAYERS:
                assert LAYERS.index(parts[1]) <= LAYERS.index(layer), f"{path} imports {module}"
                checked += 1
    assert checked > 40


def test_heavy_libraries_stay_in_their_files() -> None:
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        at_the_top = {module.split(".")[0] for module in imports(path, top_level_only=True)}
        anywhere = {module.split(".")[0] for module in imports(path)}
        for library, files in HEAVY_AT_THE_TOP.items():
            assert library not in at_the_top or name in files, f"{name} imports {library} at its top"
        for library, files in ANYWHERE.items():
            assert library not in anywhere or name in files, f"{name} imports {library}"
        assert "fastchat" not in anywhere, name
        assert "fastapi" not in anywhere or name.startswith("serve/"), name


@pytest.mark.parametrize("name", ["engine", "responses", "requests"])
def test_a_server_is_asked_without_torch(name: str) -> None:
    libraries = {module.split(".")[0] for module in imports(PACKAGE / "engine" / "openai" / f"{name}.py")}
    assert libraries <= {"judgelm", "httpx", *sys.stdlib_module_names}


def test_no_script_folder_hides_a_standard_module() -> None:
    for folder in ("llm_judge", "train", "data/JudgeLM", "data/MM-Vet"):
        names = {path.stem for path in (PACKAGE / folder).glob("*.py")}
        assert not names & (sys.stdlib_module_names | {"datasets", "tokenizers", "evaluate"})


@pytest.mark.parametrize(
    "statement",
    ["import judgelm.prompt", "import judgelm", "import judgelm.cli, judgelm.answers, judgelm.train.train"],
)
def test_light_imports_load_neither_torch_nor_transformers(run: object, statement: str) -> None:
    code = f"{statement}; import sys; print(sorted({{'torch', 'transformers', 'numpy', 'sklearn'}} & set(sys.modules)))"
    result = run("-c", code)  # type: ignore[operator]
    assert result.stdout.strip() == "[]", result.stderr


# D28 of docs/differences.md
def test_nothing_sleeps() -> None:
    for path in (ROOT / "judgelm" / "train").rglob("*.py"):
        assert "sleep(" not in path.read_text(encoding="utf-8"), path
