"""`judgelm report` of folders judged with criteria, and of folders of grades."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from conftest import write_jsonl
from criteria_folders import criteria, expected, grade_folder, graded, pair, pair_folder, said
from judging import run_command

from judgelm.criteria import Scale
from judgelm.report import write_report

HOSTILE = "</script><script>x()</script> [x](javascript:y) | \u202e \x1b[31m {{ 7 * 7 }}"
NAMES = (HOSTILE, "Style")
SCALES = (Scale(1, 5), Scale(0, 100), Scale(1, 10))


def texts(folder: Path, teacher: Path | None = None) -> tuple[str, str]:
    """The page and the Markdown, which hold what all of them must."""
    written = write_report(folder, teacher)
    html, text = (path.read_text(encoding="utf-8") for path in written[:2])
    assert html.count("<script") == html.count("</script>") == 1
    for shown in (html, text):
        assert not {*"\x1b\u202e"} & {*shown}
        assert "None" not in shown
    for picture in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        ElementTree.fromstring(picture)
    assert re.findall(r"<section[^>]*>\s*<h2>[^<]*</h2>\s*</section>", html) == [], "no section is empty"
    assert set(re.findall(r'href="#(\w+)"', html)) <= set(re.findall(r'id="(\w+)"', html))
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        cells = {len(re.sub(r"\\\|", "", line).strip().strip("|").split("|")) for line in table.splitlines()}
        assert len(cells) == 1, table
    return html, text


def section(html: str, name: str) -> str:
    found = re.search(rf'<section id="{name}">.*?</section>', html, re.DOTALL)
    assert found is not None, name
    return found[0]


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_aspects_stand_side_by_side_whatever_their_scale_and_names(tmp_path: Path, scale: Scale) -> None:
    by = criteria(scale, **dict.fromkeys(NAMES, 1.0))
    low, high = scale.least, scale.most
    first, second, same = f"{high} {low}", f"{low} {high}", f"{low} {low}"
    both = said(first, second, names=NAMES), said(second, same, names=NAMES)
    rows = [(pair(k, label=1), *both) for k in range(3)]
    odd = pair(9, text=f"{first}\nSo.")
    rows.append((odd, said("none", f"{high} {high}", names=NAMES), said(second, names=NAMES)))
    html, text = texts(pair_folder(tmp_path, by, rows))
    aspects = section(html, "aspects")
    assert re.findall(r"<th class=\"number\"><bdi>(.*?)</bdi>", aspects)[0::2] == ["all", "Style"]
    assert "agreement with the truth" in aspects
    assert "mean score of answer 1" in aspects
    assert "## Aspects" in text
    # each judgement says what each aspect got
    assert f"<bdi>Style</bdi> {low} : {high}" in section(html, "samples")
    assert "unread" in section(html, "samples")
    assert 'id="grades"' not in html


@pytest.mark.parametrize("scale", [None, *SCALES], ids=str)
@pytest.mark.parametrize("labelled", [True, False])
def test_a_folder_of_grades_has_a_page_of_its_own(tmp_path: Path, scale: Scale | None, labelled: bool) -> None:
    by = None if scale is None else criteria(scale, **dict.fromkeys(NAMES, 1.0))
    most = 10 if scale is None else scale.most

    def says(grade: int) -> dict[str, str] | str:
        return f"{grade}\nBecause." if by is None else said(f"{grade}", f"{most}", names=NAMES)

    rows = [(graded(k, ("m1", HOSTILE)[k % 2], answer_body=HOSTILE), says(1 + k % 4)) for k in range(6)]
    rows.append((graded(7, "m1"), "none" if by is None else said("none", "1", names=NAMES)))
    folder = grade_folder(tmp_path / "out", by, rows)
    truths = [{"question_id": k, "score": 1 + k % 3} for k in (*range(6), 7)]
    html, text = texts(folder, write_jsonl(tmp_path / "teacher.jsonl", truths) if labelled else None)
    assert "7 samples of 7 questions" in html
    assert "m1" in section(html, "grades")
    assert "## Grades" in text
    assert ("within one point of the truth" in html) is labelled
    assert ("--teacher FILE" in html) is not labelled
    assert ('id="aspects"' in html) is (by is not None)
    for other in ("position", "agreement", "calibration", "bias"):
        assert f'id="{other}"' not in html
    samples = section(html, "samples")
    assert "the largest disagreement first" in samples if labelled else "the lowest grades first" in samples
    assert re.findall(r"<h4>(.*?)</h4>", samples)[1::2] == ["Judge"] * 7
    first = samples.index('data-kinds="unread"')
    assert first == samples.index("data-kinds"), "the unread one comes first"


def test_expected_scores_of_aspects_have_a_decimal(tmp_path: Path) -> None:
    by = criteria(Scale(1, 5), Depth=2, Style=1)
    write_jsonl(tmp_path / "forward.jsonl", [expected(pair(k, label=2), by, lead=0) for k in range(2)])
    html, _ = texts(tmp_path)
    assert "<bdi>Depth</bdi> 3.0 : 3.0; <bdi>Style</bdi> 3.0 : 3.0" in html


def test_a_ranking_of_grades_stands_with_mean_grades(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(graded(f"{m}{k}", m, k), text) for k in range(3) for m, text in (("m1", "8"), (HOSTILE, "5"))]
    folder = grade_folder(tmp_path, None, rows)
    assert run_command(["rank", "--judgements", str(folder), "--output-dir", str(folder)]) == 0
    html, text = texts(folder)
    assert "mean grade" in section(html, "ranking")
    assert ">8.00<" in section(html, "ranking")
    assert "| mean grade | 95 % interval |" in text
    capsys.readouterr()
