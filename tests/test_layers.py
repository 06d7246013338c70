"""Who may import whom, and how large a file, a function and a face may be. The order stands in scripts/layers.txt."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, Runner

from scripts.layers import LIST, TOP, files, order, read_layers, upward, write_layers

PACKAGE = ROOT / TOP
FILES = files()
LISTED = order()
CORE = read_layers()[TOP][: read_layers()[TOP].index("encoding")]
"""what stands above the first file that needs a library"""
MOST_LINES = 350
MOST_LINES_OF_A_FUNCTION = 50
MOST_LINES_OF_A_FACE = 30
LONG_FILES: set[str] = set()
LONG_FUNCTIONS: set[str] = set()
"""exceptions: a file's name, or `file:function`, with a reason each"""
FLAGS = {
    "judgelm/console.py",
    "judgelm/flags.py",
    "judgelm/label_flags.py",
    "judgelm/prompt_flags.py",
    "judgelm/serve_flags.py",
    *(name for name in FILES if name.startswith("judgelm/commands/")),
    # servers' own mains
    *(f"judgelm/serve/{name}.py" for name in ("controller", "model_worker", "cli")),
    "judgelm/serve/gradio_web_server_judgelm.py",
}
"""who may know argparse"""
HEAVY_AT_THE_TOP: dict[str, tuple[str, ...]] = {
    "torch": ("engine/hf/", "engine/score_line.py", "models/int8.py", "models/prepacked.py", "train/"),
    "transformers": ("engine/hf/", "engine/score_line.py", "train/"),
    "gradio": ("serve/page/",),
    **dict.fromkeys(
        ("datasets", "peft", "sklearn", "scipy", "krippendorff", "crowdkit", "pandas", "jinja2", "vllm", "ray"), ()
    ),
}
"""library -> where the name of a file begins that may import it at its top; what must load without is tested below"""
ANYWHERE: dict[str, tuple[str, ...]] = {
    "peft": ("models/loading.py", "train/model.py"),
    "sklearn": ("evaluation/published.py", "evaluation/metrics/maps.py"),
    "scipy": (
        "evaluation/comparison.py",
        "evaluation/corrected.py",
        "evaluation/shift.py",
        "evaluation/metrics/intervals.py",
        "evaluation/metrics/alternative.py",
        "evaluation/metrics/maps.py",
        "ranking/",
    ),
    "krippendorff": ("evaluation/metrics/agreement.py",),
    "crowdkit": ("evaluation/jury.py",),
    "pandas": ("evaluation/jury.py",),
    "jinja2": ("prompt_template.py", "report/", "serve/page/result.py"),
    "huggingface_hub": ("models/folder.py", "hub.py"),
    "datasets": ("hub.py", "train/dpo.py", "train/examples.py"),
    "trl": ("train/dpo.py",),
    "inspect_ai": ("adapters/inspect.py",),
    "lm_eval": ("adapters/lm_eval.py",),
    "mlflow": ("adapters/mlflow.py", "tracking.py"),
    "wandb": ("tracking.py",),
    "pyarrow": ("tables.py", "exports.py"),
    "gradio": ("serve/page/", "serve/gradio_web_server_judgelm.py"),
    "fastapi": ("serve/",),
    "ray": ("judge/replicas.py",),
    "vllm": ("engine/vllm.py", "engine/vllm_rows.py"),
    "llguidance": ("engine/schema_text.py",),
    # importing FastChat's servers would replace sys.stdout and open log files in the working folder
    "fastchat": ("serve/protocol.py",),
    # engine/openai asks with httpx
    **dict.fromkeys(("openai", "requests", "evalica"), ()),
}


def modules(path: Path, top_level_only: bool = False) -> set[str]:
    """Modules a file imports when it runs; those for types alone are left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    found: set[str] = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def functions(name: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_every_file_has_its_place() -> None:
    assert set(FILES) - set(LISTED) == set(), "python -m scripts.layers proposes places"
    assert set(LISTED) - set(FILES) == set(), "python -m scripts.layers --write takes out what is gone"
    assert len(LISTED) == len(set(LISTED))


def test_nothing_is_imported_from_below() -> None:
    # one order of all files without an import up: so there is no circle either, for types neither
    assert upward(LISTED) == []


@pytest.mark.parametrize("name", CORE)
def test_core_is_imported_with_the_standard_library_alone(name: str) -> None:
    libraries = {module.split(".")[0] for module in modules(PACKAGE / f"{name}.py", top_level_only=True)}
    assert libraries <= {TOP, *sys.stdlib_module_names}


def test_the_list_stands_as_the_tool_writes_it() -> None:
    assert write_layers(read_layers()) == LIST.read_text(encoding="utf-8"), "python -m scripts.layers --write"


def test_flags_stay_at_the_door() -> None:
    # who needs it no more is no exception any more
    named = [name for name in FLAGS if not name.startswith("judgelm/commands/")]
    assert [name for name in named if "argparse" not in modules(ROOT / name)] == []
    for name in FILES:
        if name in FLAGS:
            continue
        assert "argparse" not in modules(ROOT / name), f"{name} imports argparse"
        for function in functions(name):
            spoken = [arg.annotation for arg in ast.walk(function.args) if isinstance(arg, ast.arg) and arg.annotation]
            spoken += [function.returns] if function.returns else []
            assert not any("Namespace" in ast.unparse(one) for one in spoken), f"{name}: {function.name}"


def test_files_and_functions_fit_on_a_screen() -> None:
    long_files = {name for name in FILES if (ROOT / name).read_text(encoding="utf-8").count("\n") > MOST_LINES}
    assert long_files == LONG_FILES
    long_functions = {
        f"{name}:{function.name}"
        for name in FILES
        for function in functions(name)
        if (function.end_lineno or 0) - function.lineno >= MOST_LINES_OF_A_FUNCTION
    }
    assert long_functions == LONG_FUNCTIONS


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith("__init__.py")])
def test_a_face_shows_and_defines_nothing(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert text.count("\n") <= MOST_LINES_OF_A_FACE
    described, *rest = ast.parse(text).body
    assert isinstance(described, ast.Expr)
    shown: list[str] = []
    said: list[str] = []
    for node in rest:
        if isinstance(node, ast.ImportFrom):
            shown += [alias.asname or alias.name for alias in node.names if node.module != "__future__"]
            continue
        assert isinstance(node, ast.Assign), ast.unparse(node)
        (target,) = node.targets
        if name == f"{TOP}/__init__.py" and ast.unparse(target) == "__version__":
            shown.append("__version__")
            continue
        assert ast.unparse(target) == "__all__", ast.unparse(node)
        said = ast.literal_eval(node.value)
    assert (len(said), set(said)) == (len(shown), set(shown))


def test_heavy_libraries_stay_in_their_files() -> None:
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        at_the_top = {module.split(".")[0] for module in modules(path, top_level_only=True)}
        anywhere = {module.split(".")[0] for module in modules(path)}
        for library, allowed in HEAVY_AT_THE_TOP.items():
            assert library not in at_the_top or name.startswith(allowed), f"{name} imports {library} at its top"
        for library, allowed in ANYWHERE.items():
            assert library not in anywhere or name.startswith(allowed), f"{name} imports {library}"


@pytest.mark.parametrize("name", read_layers()[f"{TOP}/engine/openai"])
def test_a_server_is_asked_without_torch(name: str) -> None:
    libraries = {module.split(".")[0] for module in modules(PACKAGE / "engine" / "openai" / f"{name}.py")}
    assert libraries <= {TOP, "httpx", "tenacity", *sys.stdlib_module_names}


def test_no_script_folder_hides_a_standard_module() -> None:
    for folder in ("llm_judge", "train", "data/JudgeLM", "data/MM-Vet"):
        names = {path.stem for path in (PACKAGE / folder).glob("*.py")}
        assert not names & (sys.stdlib_module_names | {"datasets", "tokenizers", "evaluate"})


@pytest.mark.parametrize(
    "statement",
    [
        "import judgelm.prompt",
        "import judgelm",
        "import judgelm.cli, judgelm.answers, judgelm.train.train",
        "import judgelm.evaluation, judgelm.ranking, judgelm.audit, judgelm.benchmark, judgelm.report",
    ],
)
def test_light_imports_load_neither_torch_nor_transformers(run: Runner, statement: str) -> None:
    code = f"{statement}; import sys; print(sorted({{'torch', 'transformers', 'numpy', 'sklearn'}} & set(sys.modules)))"
    result = run("-c", code)
    assert result.stdout.strip() == "[]", result.stderr


def test_the_command_line_loads_no_pydantic(run: Runner) -> None:
    result = run("-c", "import judgelm.cli, sys; print('pydantic' in sys.modules)")
    assert result.stdout.strip() == "False", result.stderr


# D28 of docs/differences.md
def test_nothing_sleeps() -> None:
    for path in (PACKAGE / "train").rglob("*.py"):
        assert "sleep(" not in path.read_text(encoding="utf-8"), path
