from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from conftest import write_jsonl

from judgelm.cli import main
from judgelm.errors import InputError
from judgelm.evaluation.rate import Rate
from judgelm.evaluation.results import JudgedSample, Truth
from judgelm.evaluation.summary import Summary
from judgelm.judgement import Outcome, ParseState
from judgelm.report import pictures, write_report
from judgelm.report.beside import Beside
from judgelm.report.context import build_context, distance, kinds, largest
from judgelm.report.page import render_markdown, render_page
from judgelm.verdict import Reading

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = (
    "</script><script>document.title='broken'</script><img src=x onerror=\"document.title='broken'\">"
    " </title></svg> [x](javascript:alert(1)) | \u202e {{ 7 * 7 }} \ud800 \x1b[31m \x9b \u200b \u2066\x00"
)


def context_of(
    samples: list[JudgedSample],
    summary: dict[str, Any],
    audit: Any = None,
    ranking: Any = None,
    run: Any = None,
    title: str = "A judge",
    **settings: Any,
) -> dict[str, Any]:
    return build_context(samples, Summary.model_validate(summary), Beside(audit, ranking, run, title), **settings)


def page_of(*args: Any, **settings: Any) -> str:
    return render_page(context_of(*args, **settings))


def estimate(value: float, low: float | None = None, high: float | None = None, count: int = 4) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "count": count}


RATES = {
    "agreement": estimate(0.7512, 0.61, 0.8499),
    "consistency": estimate(0.5),
    "bias_first": estimate(0.25, 0.1, 0.4),
    "kappa": estimate(0.4321, 0.3, 0.6),
}
SUMMARY: dict[str, Any] = {
    "samples": 4,
    "labelled": 4,
    "questions": 3,
    "rates": RATES,
    "unparsed": {"as_tie": estimate(0.3), "as_error": estimate(0.2), "excluded": estimate(0.4), "count": 1},
    "confusion": {
        "win": {"win": 11, "tie": 2, "lose": 3, "unparsed": 1},
        "tie": {"win": 0, "tie": 0, "lose": 0, "unparsed": 0},
        "lose": {"win": 4, "tie": 5, "lose": 67, "unparsed": 0},
    },
    "classes": {"win": {"precision": 0.733, "recall": 0.647, "f1": 0.6875, "support": 17}},
    "by_gap": [{"label": "1 to 2", "agreement": estimate(0.811, 0.7, 0.9)}],
    "by_length": [],
    "by_category": [{"label": HOSTILE, "agreement": estimate(0.5)}],
    "reliability": [
        {"low": 0.4, "high": 0.5, "confidence": 0.47, "right": 0.555, "count": 9},
    ],
}
AUDIT: dict[str, Any] = {
    "judge": HOSTILE,
    "settings": {},
    "checks": [
        {
            "name": "length",
            "title": "Length",
            "what": "how much more often the longer answer is preferred",
            "effect": estimate(0.125, 0.08, 0.17, 60),
            "unit": "share",
            "threshold": 0.1,
            "two_sided": True,
            "verdict": "unclear",
            "note": HOSTILE,
            "examples": [3, HOSTILE],
        },
        {
            "name": "own",
            "title": "Self-preference",
            "what": "",
            "effect": {"value": None, "low": None, "high": None, "count": 0},
            "unit": "share",
            "threshold": 0.1,
            "verdict": "not measured",
            "note": None,
            "examples": [],
        },
    ],
}
RANKING: dict[str, Any] = {
    "rule": "agree",
    "length_controlled": True,
    "judgements": 40,
    "unread": 3,
    "models": [
        {
            "name": "m1",
            "judged": 20,
            "win_rate": estimate(0.812, 0.7, 0.9),
            "bradley_terry": None,
            "elo": estimate(1101),
        },
        {"name": HOSTILE, "judged": 20, "win_rate": estimate(0.188), "bradley_terry": estimate(-1.5), "elo": None},
    ],
    "pairs": [
        {
            "first": "m1",
            "second": HOSTILE,
            "wins": 15.25,
            "ties": 2.0,
            "losses": 3,
            "win_rate": estimate(0.8125, 0.4, 0.9),
            "told_apart": False,
            "more_needed": 23,
        }
    ],
    "notes": [f"{HOSTILE} won all: no finite value"],
}
RUN: dict[str, Any] = {
    "settings": {"model": HOSTILE, "model_id": "tiny", "temperature": 0.2, "prompt_fingerprint": "a1" * 32},
    "finished": False,
    "counts": {"forward": {"total": 4}},
    "sessions": [{"started": 1795539171.2, "judged": 4, "versions": {"torch": "2.13.0"}, "seconds": 7.1}],
    "machine": {"cpus": 2},
}


def reading(first: float, second: float, text: str = "Because.") -> Reading:
    return Reading(f"{first:g} {second:g}\n{text}", ParseState.OK, (first, second))


UNREAD = Reading("I cannot say.\nTwo\nlines\tand a column", ParseState.FAILED, None)


def sample(
    key: str, forward: Reading | None, back: Reading | None, truth: Truth | None = None, text: str = "plain"
) -> JudgedSample:
    return JudgedSample(
        forward,
        back,
        key=key,
        question=f"Question {key}: {text}",
        answers=(f"one {text}", f"two {text}"),
        models=("m1", text),
        category=text,
        truth=truth,
    )


def samples() -> list[JudgedSample]:
    win = Truth(Outcome.WIN, (9, 2))
    return [
        sample("right", reading(9, 2), reading(8, 3), win),
        sample("wrong", reading(2, 9, HOSTILE), reading(3, 8), win, HOSTILE),
        sample("flipped", reading(7, 6), reading(6, 7), win),
        sample("unread", UNREAD, reading(8, 7), Truth(Outcome.LOSE)),
    ]


def page(**given: Any) -> str:
    everything = {"summary": SUMMARY, "audit": AUDIT, "ranking": RANKING, "run": RUN, "title": HOSTILE}
    return page_of(samples(), **(everything | given))


def markdown() -> str:
    return render_markdown(context_of(samples(), SUMMARY, AUDIT, RANKING, RUN, HOSTILE))


def test_every_number_of_the_summary_is_on_the_page_and_in_the_markdown() -> None:
    html, text = page(), markdown()
    numbers = ["75.1 %", "61.0 to 85.0", "50.0 %", "0.432", "0.300 to 0.600", "67", "73.3 %", "81.1 %", "55.5 %"]
    numbers += [
        "12.5 %",
        "±10.0 %",
        "8.0 to 17.0",
        "10.0 %",
        "81.2 %",
        "1101",
        "-1.50",
        "23",
        "2.13.0",
        "30.0 %",
        "20.0 %",
        "40.0 %",
    ]
    for number in numbers:
        assert number in html, number
        assert number in text, number
    assert "agreement with the truth" in html
    assert "The run is not finished." in html
    assert "a1a1a1a1a1a1…" in html
    assert "to the answer shown second" not in html


def test_hostile_texts_stay_text() -> None:
    html, text = page(), markdown()
    assert html.count("<script") == html.count("</script>") == 1
    assert "<img" not in html
    assert "{{ 7 * 7 }}" in html
    assert "&lt;/script&gt;&lt;script&gt;" in html
    assert "<" not in text
    for control in ("\u202e", "\x1b", "\x9b", "\u200b", "\u2066"):
        assert control not in html
        assert control not in text
    assert "Two\nlines\tand a column" in html
    assert "\\[x\\](javascript" in text
    assert re.search(r"(?<!\\)\| \|? ?\\\| ", text) is None
    html.encode()
    text.encode()


def test_what_a_reader_of_a_ranking_has_to_know_is_on_the_page_and_in_the_markdown() -> None:
    for shown in (page(), markdown()):
        assert "won all: no finite value" in shown
    old = {name: value for name, value in RANKING.items() if name != "notes"}
    assert "won all" not in page(ranking=old), "a ranking.json of an earlier version"


def test_an_undefined_number_is_a_dash_on_the_page() -> None:
    nothing = {"value": None, "low": None, "high": None, "count": 4}
    classes = {"tie": {"precision": None, "recall": None, "f1": None, "support": 0}}
    summary = SUMMARY | {"rates": {"kappa": nothing}, "classes": classes}
    html = page_of(samples(), summary)
    text = render_markdown(context_of(samples(), summary))
    assert 'Cohen&#39;s kappa with the truth</bdi></th><td class="number">–</td><td class="number">–</td>' in html
    assert "annotators" not in html, "no sample has any"
    assert "| Cohen's kappa with the truth | – | – | 4 |" in text
    assert "| tie | – | – | – | 0 |" in text


def test_a_graded_answer_stands_beside_the_right_one() -> None:
    graded = JudgedSample(
        reading(10, 3),
        None,
        key="1",
        question="Which animal?",
        answers=("cat<OR>a cat", "dog"),
        models=(None, "vlm"),
        known_answer=True,
    )
    html = page_of([graded], {"samples": 1, "labelled": 0, "rates": {}})
    first, second = re.findall(r"<h4>Answer .*?</div></div>", html)
    assert "Answer 1, the right one, worth 10" in first
    assert "cat&lt;OR&gt;a cat" in first
    assert "Answer 2, graded" in second
    assert "vlm" in second
    assert "dog" in second
    assert "the right one" not in page()


def test_rows_of_a_markdown_table_have_as_many_cells_as_its_head() -> None:
    def cells(line: str) -> int:
        return len(re.sub(r"\\\|", "", line).strip().strip("|").split("|"))

    lines = markdown().split("\n")
    heads = [place for place, line in enumerate(lines) if line.startswith("|--")]
    assert len(heads) > 8
    for head in heads:
        place = head - 1
        while lines[place].startswith("|"):
            assert cells(lines[place]) == cells(lines[head]), lines[place]
            place += 1
        assert place > head + 1, lines[head - 1]


def test_the_page_loads_nothing() -> None:
    plain = [sample("1", reading(9, 2), reading(8, 3), Truth(Outcome.WIN, (9, 2)))]
    html = page_of(plain, SUMMARY | {"by_category": []}, None, None, None, "A judge")
    assert "http://" not in html
    assert "https://" not in html
    assert re.search(r"\b(src|srcset|poster|action)\s*=", html) is None
    assert re.search(r"url\(|@import", html) is None
    assert set(re.findall(r'href="(.)', html)) == {"#"}
    assert "default-src 'none'" in html


def test_pictures_are_well_formed_and_have_titles() -> None:
    html = page()
    drawn = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    assert len(drawn) == 10
    for one in drawn:
        root = ElementTree.fromstring(one)
        assert root.attrib["role"] == "img"
        assert root[0].tag == "title"
        assert root[0].text


def test_a_value_stands_where_it_belongs() -> None:
    picture = pictures.shares([("a", Rate(value=0.25, low=0.0, high=0.5))], "t")
    assert picture is not None
    assert pictures.shares([], "t") is None
    drawn = ElementTree.fromstring(picture)
    dot = next(part for part in drawn if part.tag == "circle")
    track, interval = (part.attrib for part in drawn if part.tag == "line")
    start, width = float(track["x1"]), float(track["x2"]) - float(track["x1"])
    assert float(dot.attrib["cx"]) == pytest.approx(start + width / 4)
    assert float(interval["x2"]) == pytest.approx(start + width / 2)


def test_a_section_without_data_is_absent_and_says_which_command_gives_it() -> None:
    html = page_of([sample("1", reading(1, 2), None)], {"samples": 1, "labelled": 0, "rates": {}})
    for section in ("agreement", "position", "calibration", "bias", "ranking", "settings"):
        assert f'id="{section}"' not in html
        assert f'href="#{section}"' not in html
    for command in ("--teacher FILE", "--orders both", "--scoring expected", "judgelm audit", "judgelm rank"):
        assert command in html
    assert 'id="missing"' not in page()


def test_samples_are_listed_by_their_distance_from_the_truth() -> None:
    found = {each.key: (distance(each), kinds(each)) for each in samples()}
    assert found == {
        "right": (1, []),
        "wrong": (13, ["wrong"]),
        "flipped": (7, ["wrong", "flipped"]),
        "unread": (0.5, ["unread"]),
    }
    assert [each.key for each in largest(samples(), 2)] == ["wrong", "flipped"]
    assert distance(sample("1", reading(9, 2), reading(2, 9))) == 14
    assert distance(sample("1", reading(9, 2), None, Truth(Outcome.WIN))) == 0
    assert distance(sample("1", reading(9, 2), None, Truth(Outcome.TIE))) == 7


def test_a_big_run_gives_a_small_page_that_says_so() -> None:
    long = "word " * 5000
    many = [sample(str(k), reading(1 + k % 9, 5), None, text=long) for k in range(500)]
    html = page_of(many, {"samples": 500, "labelled": 0, "rates": {}}, most=20)
    assert html.count('<details class="sample"') == 20
    assert "20 of 500 samples with the largest disagreement" in html
    assert "more characters)" in html
    assert len(html) < 1_500_000


def judged_folder(folder: Path) -> Path:
    record = {"question_id": 1, "question_body": "Why?", "answer1_body": "a", "answer2_body": "b", "pred_text": "9 4"}
    write_jsonl(folder / "forward.jsonl", [record | {"label": 1}])
    return folder


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("audit.json", "{", r"audit\.json:1: not JSON"),
        ("audit.json", "[]", r"audit\.json: expected a JSON object, found list"),
        ("audit.json", '{"checks": 3}', r"audit\.json: expected a list of objects under 'checks'"),
        ("audit.json", '{"checks": [{"name": "x"}]}', r"audit\.json: .*'verdict'"),
        (
            "audit.json",
            '{"checks": [{"name": "x", "verdict": "pass", "effect": {"value": "much"}}]}',
            r"audit\.json: 'effect' in one of 'checks' is no estimate",
        ),
        ("ranking.json", '{"models": []}', r"ranking\.json: expected a list of objects under 'pairs'"),
        (
            "ranking.json",
            '{"models": [{"name": "m", "judged": 1, "win_rate": {"value": 1%s}}], "pairs": []}' % ("0" * 400),
            r"ranking\.json: 'win_rate' in one of 'models' is no estimate",
        ),
        (
            "ranking.json",
            '{"models": [], "pairs": [{"first": "a", "second": "b", "wins": "many", "ties": 0, "losses": 0}]}',
            r"ranking\.json: 'wins' in one of 'pairs' is no number",
        ),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, file: str, content: str, message: str) -> None:
    judged_folder(tmp_path)
    (tmp_path / file).write_text(content)
    with pytest.raises(InputError, match=message):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_fields_of_another_kind_that_only_help_to_read_are_passed_over(tmp_path: Path) -> None:
    """Notes, examples, names and verdicts of files that somebody wrote by hand."""
    judged_folder(tmp_path)
    pair = {"first": ["a"], "second": {}, "wins": 1, "ties": 0, "losses": 0, "told_apart": [], "win_rate": estimate(1)}
    names: list[Any] = [["a"], {}]
    models = [{"name": name, "judged": 1, "win_rate": estimate(1)} for name in names]
    (tmp_path / "ranking.json").write_text(json.dumps({"models": models, "pairs": [pair], "notes": 3}))
    checks = [{"name": 3, "verdict": [], "examples": 7, "threshold": "much", "unit": 2}]
    (tmp_path / "audit.json").write_text(json.dumps({"checks": checks}))
    write_report(tmp_path)
    assert "100.0 %" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_the_command_answers_a_mistake_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for args, message in (
        ((tmp_path / "none",), "no such folder"),
        ((tmp_path,), "no forward.jsonl or reversed.jsonl there"),
        ((tmp_path, "--output", tmp_path / "x.txt"), "expected a name that ends in .html"),
        ((tmp_path, "--most-samples", "-1"), "expected 0 or more"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["report", *map(str, args)])
        said = capsys.readouterr()
        assert (ended.value.code, said.out) == (2, "")
        assert message in said.err
        assert said.err.count("\n") == 1


def test_the_page_and_its_markdown_are_written_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = judged_folder(tmp_path / "D")
    (folder / "audit.json").write_text(json.dumps(AUDIT))
    assert write_report(folder)[:2] == (folder / "report.html", folder / "report.md")
    assert 'id="bias"' in (folder / "report.html").read_text(encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["report", str(folder), "--output", str(tmp_path / "out" / "page.html"), "--most-samples", "5"])
    assert not ended.value.code
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["page.html", "page.md"]
    assert "page.html and" in capsys.readouterr().out


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if BROWSER is None:
        pytest.skip("no chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(params=["light", "dark"])
def opened(request: pytest.FixtureRequest, browser: Any, tmp_path: Path) -> Iterator[Any]:
    """The page of all sections in a browser without network; anything on its console fails the test."""
    path = tmp_path / "report.html"
    path.write_text(page(), encoding="utf-8")
    context = browser.new_context(color_scheme=request.param, offline=True)
    shown, said = context.new_page(), []
    shown.on("console", lambda message: said.append(message.text))
    shown.on("pageerror", lambda error: said.append(str(error)))
    shown.on("request", lambda asked: said.append(asked.url) if asked.url != path.as_uri() else None)
    shown.goto(path.as_uri())
    yield shown
    context.close()
    assert said == []


def test_the_page_works_in_a_browser(opened: Any) -> None:
    assert opened.title() != "broken"
    assert opened.locator("script").count() == 1
    assert opened.locator("img").count() == 0
    assert opened.inner_text("#count") == "4 of 4"
    opened.fill("#search", "QUESTION wrong")
    assert opened.inner_text("#count") == "1 of 4"
    assert opened.locator(".sample:visible").count() == 1
    opened.click(".sample:visible summary")
    assert "onerror=" in opened.inner_text(".sample:visible .judgement .text >> nth=0")
    opened.fill("#search", "no such word")
    assert opened.locator(".sample:visible").count() == 0
    opened.fill("#search", "")
    opened.select_option("#kind", "flipped")
    assert opened.inner_text("#count") == "1 of 4"
    opened.click("#open")
    assert opened.inner_text(".sample[open] .question") == "Question flipped: plain"


def test_the_page_follows_the_colour_scheme_and_fits_a_phone(opened: Any) -> None:
    dark = opened.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    ink = "getComputedStyle(document.body).color"
    assert opened.evaluate(ink) == ("rgb(231, 233, 238)" if dark else "rgb(27, 31, 39)")
    opened.emulate_media(media="print")
    assert opened.evaluate(ink) == "rgb(27, 31, 39)"
    opened.emulate_media(media="screen")
    opened.set_viewport_size({"width": 360, "height": 740})
    assert opened.evaluate("document.documentElement.scrollWidth") <= 360
