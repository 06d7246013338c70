"""What the docs say, held against the code."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from conftest import PATIENCE_S, ROOT, SLOW, Runner
from forked import python

from judgelm import __version__
from judgelm.evaluation.summary import RATES
from scripts.layers import TOP, files

DIFFERENCE = re.compile(r"^\| (D\d+) \|.*\| `(test_\w+)` \|$", re.MULTILINE)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMED_AND_NOT_IMPORTED = {
    "gguf": "transformers reads the embedded base with it",
    "sentencepiece": "tokenizers of the released judges",
    "protobuf": "the same",
    "python-multipart": "fastapi reads uploads with it",
}
OPTIONAL = {
    **{"vllm": "vllm", "torchao": "quantization", "trl": "rl", "wandb": "tracking", "mlflow": "mlflow"},
    **{"inspect_ai": "inspect", "anyio": "inspect", "lm_eval": "lm-eval"},
}
"""what is imported where an extra was installed -> the extra"""
NOT_THERE = {
    "commands/x.py",
    "judgelm/llm_judge/x.py",
    "judgelm/commands/NAME.py",
    "judgelm/data.py",
    # and files of FastChat
    "gen_judgment.py",
    "qa_browser.py",
    "show_result.py",
}
"""files that pages speak of as examples"""
CALLED_OTHERWISE = {"sklearn": "scikit-learn", "fastchat": "fschat", "yaml": "pyyaml", "crowdkit": "crowd-kit"}


def test_what_is_written_from_the_code_is_not_stale(run: Runner) -> None:
    result = run("-m", "scripts.pages", "--check")
    assert result.returncode == 0, result.stderr


def test_cli_page_shows_what_stands_without_a_flag() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    sections = {part.split("\n", 1)[0]: part for part in page.split("\n## ")[1:]}
    named = {"judgelm report": "| `D` |", "judgelm evaluate": "| `[DIR]` |", "judgelm benchmark": "| `NAME` |"}
    for command, row in named.items():
        assert row in sections[command], command


def test_readme_is_one_page() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 160
    assert lines[2:6] == ["```", "./scripts/demo", "./scripts/test", "```"]


def test_every_field_of_a_record_and_a_run_has_a_meaning() -> None:
    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    tables = page.split("<!-- judgement: ")[1].split("### summary.json")[0]
    assert re.findall(r"^\| `\w+` \| .* \|  \|$", tables, re.MULTILINE) == []


def test_python_page_runs_from_top_to_bottom(tmp_path: Path, model_folder: Path) -> None:
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) > 5
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    # the same with a model of two layers, which judges in no time
    code = "\n".join(blocks).replace('"tiny"', repr(str(model_folder)))
    (tmp_path / "page.py").write_text(code, encoding="utf-8")
    command = [python(), "page.py"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=PATIENCE_S)
    assert result.returncode == 0, result.stderr
    assert {"ranking.json", "audit.json", "report.html"} <= {path.name for path in (tmp_path / "arena").iterdir()}


def test_every_difference_has_a_test_that_cites_it() -> None:
    page = (ROOT / "docs" / "differences.md").read_text(encoding="utf-8")
    listed = DIFFERENCE.findall(page)
    assert [number for number, _ in listed] == [f"D{k}" for k in range(1, len(listed) + 1)]
    assert len(listed) == page.count("\n| D")
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py")]
    for number, name in listed:
        cited = re.compile(
            rf"^# {number} of docs/differences\.md\n(?:@.*\n|\)\n| .*\n|\(\n)*?def {name}\(", re.MULTILINE
        )
        assert sum(bool(cited.search(source)) for source in sources) == 1, f"{number}: {name}"


def test_files_named_in_the_docs_exist() -> None:
    folders = (TOP, "tests", "scripts", "benchmarks", "examples")
    there = [path.relative_to(ROOT).as_posix() for folder in folders for path in (ROOT / folder).rglob("*.py")]
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
        for script in re.findall(r"\./(scripts/[\w.]+)", text):
            assert (ROOT / script).exists(), f"{page.name} names {script}"
        for named in set(re.findall(r"`([\w/-]+\.py)`", text)) - NOT_THERE:
            assert any(f"/{name}".endswith(f"/{named}") for name in there), f"{page.name} names {named}"


def test_what_the_ways_of_a_row_name_is_there() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    ways = re.findall(r"^\| \d+ \w+ \|[^|]*\|([^|]*)\|", text.replace("\\|", ""), re.MULTILINE)
    assert len(ways) == 12 + 9
    sources = {path: path.read_text(encoding="utf-8") for path in (ROOT / TOP).rglob("*.py")}
    for named in re.findall(r"`([^`]+)`", " ".join(ways)):
        owner, _, member = named.rpartition(".")
        files = [path for path in sources if path.with_suffix("").as_posix().endswith(f"/{owner or named}")]
        folders = [path for path in (ROOT / TOP).rglob(named) if path.is_dir()] if not member else []
        defined = re.compile(rf"^ *(?:class|def) {member}\b", re.MULTILINE)
        classes = [path for path in sources if re.search(rf"^class {owner or member}\b", sources[path], re.MULTILINE)]
        assert folders or classes or files, f"architecture.md names {named}"
        if owner:
            assert any(defined.search(sources[path]) for path in files + classes), f"architecture.md names {named}"


def test_every_rate_has_its_row() -> None:
    text = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    table = text[text.index("### Rates") : text.index("### Tables")]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(RATES)


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    """All links and anchors of all pages lead somewhere, and each page is in the navigation."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    result = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert (result.returncode, result.stderr) == (0, "")
    start = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    loaded = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="?(https?:[^"> ]+)', start)
    assert loaded == []


def test_every_library_that_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {_name(one) for one in project["dependencies"]}
    extras = {extra: {_name(one) for one in listed} for extra, listed in project["optional-dependencies"].items()}
    imported: set[str] = set()
    for file in files():
        for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").split(".")[0])
    imported -= {TOP, *sys.stdlib_module_names}
    for library, extra in OPTIONAL.items():
        assert library.replace("_", "-") in extras[extra]
    needed = {CALLED_OTHERWISE.get(one, one).replace("_", "-") for one in imported - OPTIONAL.keys()}
    assert needed | NAMED_AND_NOT_IMPORTED.keys() == declared
    assert needed & NAMED_AND_NOT_IMPORTED.keys() == set()


def _name(requirement: str) -> str:
    return re.split(r"[<>=!\[ ]", requirement, maxsplit=1)[0]


def test_slow_tests_are_named_as_they_are_called() -> None:
    for file, names in SLOW.items():
        source = (ROOT / "tests" / file).read_text(encoding="utf-8")
        for name in names:
            assert f"def {name}(" in source, f"{file}: {name}"


def test_changelog_has_this_version_with_its_day() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(__version__)} \(\d{{4}}-\d\d-\d\d\)$", text, re.MULTILINE)


def test_no_machine_paths_in_tracked_text() -> None:
    pattern = "/" + "work/"
    found = subprocess.run(["git", "grep", "-l", pattern], cwd=ROOT, capture_output=True, text=True)
    # 1 is git's answer for nothing found
    assert (found.returncode, found.stdout) == (1, "")
