from __future__ import annotations

import re

from conftest import ROOT

DIFFERENCE = re.compile(r"^\| (D\d+) \|.*\| `(test_\w+)` \|$", re.MULTILINE)


def test_cli_page_is_what_help_says(run: object) -> None:
    written = run("scripts/cli_docs.py").stdout  # type: ignore[operator]
    assert written == (ROOT / "docs" / "cli.md").read_text(encoding="utf-8"), (
        "run python scripts/cli_docs.py > docs/cli.md"
    )


def test_cli_page_shows_what_stands_without_a_flag() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    sections = {part.split("\n", 1)[0]: part for part in page.split("\n## ")[1:]}
    named = {"judgelm report": "| `D` |", "judgelm evaluate": "| `[DIR]` |", "judgelm benchmark": "| `NAME` |"}
    for command, row in named.items():
        assert row in sections[command], command


def test_architecture_names_every_file_of_the_package() -> None:
    layout = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("```")[1]
    # the folder in whose lines a file is named, by two spaces in front of a name that ends in a slash
    folder, named = "", set()
    for line in layout.splitlines():
        head = re.match(r"  (\w+)/", line)
        folder = f"{head[1]}/" if head else "" if re.match(r"  \w", line) else folder
        named |= {folder + file for file in re.findall(r"[\w/-]+\.py\b", line)}
    there = {path.relative_to(ROOT / "judgelm").as_posix() for path in (ROOT / "judgelm").rglob("*.py")}
    faces = {name for name in there if name.endswith("/__init__.py")}
    assert named - faces == there - faces


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


def test_links_and_files_named_in_the_docs_exist() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
        for named in re.findall(r"^\| `(judgelm/[\w/]+\.\w+)`", text, re.MULTILINE):
            assert (ROOT / named).exists(), f"{page.name} names {named}"
        for script in re.findall(r"\./(scripts/[\w.]+)", text):
            assert (ROOT / script).exists(), f"{page.name} names {script}"


def test_no_machine_paths_in_tracked_text() -> None:
    import subprocess

    pattern = "/" + "work/"
    found = subprocess.run(["git", "grep", "-l", pattern], cwd=ROOT, capture_output=True, text=True)
    # 1 is git's answer for nothing found
    assert (found.returncode, found.stdout) == (1, "")
