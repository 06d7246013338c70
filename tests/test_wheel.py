from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
from conftest import PATIENCE_S, ROOT, write_jsonl

from judgelm.cli import COMMANDS

README = (ROOT / "README.md").read_text(encoding="utf-8")
BASE_SITE = [path for path in sys.path if path.endswith("site-packages")]


def run(*command: str | Path, cwd: Path) -> str:
    # a path to the sources would hide what is installed
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [str(part) for part in command]
    result = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, timeout=PATIENCE_S)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that has our wheel, and of this one only the libraries."""
    work = tmp_path_factory.mktemp("wheel")
    source = work / "source"
    for name in run("git", "ls-files", "-z", "judgelm", "pyproject.toml", "README.md", "LICENSE", cwd=ROOT).split("\0"):
        if name and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", work, source, cwd=work)
    (wheel,) = work.glob("judgelm-*.whl")
    venv.create(work / "env", with_pip=False)
    run(*pip, "--python", work / "env" / "bin" / "python", "install", "--no-deps", "--no-index", wheel, cwd=work)
    (packages,) = (work / "env" / "lib").glob("python*/site-packages")
    # behind our own, and as plain folders: an editable install of this project is not followed
    (packages / "known.pth").write_text("".join(f"{path}\n" for path in BASE_SITE), encoding="utf-8")
    return work / "env"


def test_the_wheel_brings_the_command(installed: Path, tmp_path: Path) -> None:
    where = run(installed / "bin" / "python", "-c", "import judgelm; print(judgelm.__file__)", cwd=tmp_path)
    assert Path(where).is_relative_to(installed)
    said = run(installed / "bin" / "judgelm", "--help", cwd=tmp_path)
    assert "judge a file of answers into a folder" in said
    names = [command.__name__.rpartition(".")[2].replace("_", "-") for command in COMMANDS]
    # of which --help is the training script's own, and imports it
    names.remove("train")
    for command in names:
        assert run(installed / "bin" / "judgelm", command, "--help", cwd=tmp_path).startswith("usage: ")


def test_the_first_python_of_the_readme_runs_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    (code,) = re.findall(r"^<!-- tested -->\n```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    said = run(installed / "bin" / "python", "-c", code, cwd=tmp_path)
    # scores of both answers, who won, and whether that survives the swap
    assert re.fullmatch(r"\(\d+\.\d, \d+\.\d\) (win|tie|lose|None) (True|False)\n", said), said


def test_what_the_wheel_asks_for_is_what_is_tested_here(installed: Path, tmp_path: Path) -> None:
    code = """
from importlib.metadata import requires, version
from packaging.requirements import Requirement
asked = [Requirement(line) for line in requires("judgelm")]
plain = [one for one in asked if one.marker is None]
print(len(plain), *(one for one in plain if not one.specifier.contains(version(one.name), prereleases=True)))
"""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert run(installed / "bin" / "python", "-c", code, cwd=tmp_path).split() == [str(len(project["dependencies"]))]


def test_the_wheel_brings_the_files_that_the_code_reads(installed: Path) -> None:
    tracked = run("git", "ls-files", "judgelm", cwd=ROOT).split()
    (packages,) = (installed / "lib").glob("python*/site-packages")
    assert [name for name in tracked if not (packages / name).is_file()] == []


def test_both_published_preprocess_scripts_run_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    (packages,) = (installed / "lib").glob("python*/site-packages")
    python, data = installed / "bin" / "python", packages / "judgelm" / "data"
    answers = [
        write_jsonl(tmp_path / "a" / f"{name}.jsonl", [{"question_id": 1, "question_body": "Q?", "text": name}])
        for name in ("first", "second")
    ]
    script = data / "JudgeLM" / "judgelm_preprocess.py"
    run(python, script, "--ans1_file_path", answers[0], "--ans2_file_path", answers[1], cwd=tmp_path)
    written = json.loads((tmp_path / "judgelm-val-5k-judge-samples.jsonl").read_text(encoding="utf-8"))
    assert (written["answer1_body"], written["answer2_body"]) == ("first", "second")

    truth = {"v1_0": {"imagename": "v.jpg", "question": "How many?", "answer": "two", "capability": ["ocr"]}}
    (tmp_path / "mm-vet.json").write_text(json.dumps(truth), encoding="utf-8")
    (tmp_path / "pred.json").write_text(json.dumps({"v1_0": "It is two."}), encoding="utf-8")
    script = data / "MM-Vet" / "mmvet_preprocess.py"
    flags = ("--gt_file_path", tmp_path / "mm-vet.json", "--pred_file_path", tmp_path / "pred.json")
    run(python, script, *flags, cwd=tmp_path)
    written = json.loads((tmp_path / "mm-vet-judge-samples.jsonl").read_text(encoding="utf-8"))
    assert (written["question_id"], written["answer1_body"]) == (0, "It is two.")
