from __future__ import annotations

import re

from conftest import ROOT

DIFFERENCE = re.compile(r"^\| (D\d+) \|.*\| `(test_\w+)` \|$", re.MULTILINE)


def test_cli_page_is_what_help_says(run: object) -> None:
    written = run("scripts/cli_docs.py").stdout  # type: ignore[operator]
    assert written == (ROOT / "docs" / "cli.md").read_text(encoding="utf-8"), (
        "run python scripts/cli_docs.py > docs/cli.md"
    )


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
