"""Images of questions, answers and dialogues: read from rows of any form, typed, and put into prompts."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import write_jsonl
from hypothesis import given, settings
from hypothesis import strategies as st
from judging import run_command

from judgelm import Sample
from judgelm.answers import combine_lines, read_answers
from judgelm.audit.probes import read_sources
from judgelm.conversion import convert
from judgelm.dialogue import read_turns
from judgelm.errors import InputError
from judgelm.evaluation.images import labelled
from judgelm.forms import open_rows
from judgelm.images import MOST_IMAGES, Gallery, Image, Shown, show, write_content
from judgelm.jsonl import Line, LineFile, dump_line
from judgelm.prompt import count_markers, prompt_fingerprint, render_prompt, show_prompt
from judgelm.prompt_template import PromptTemplate
from judgelm.samples import has_images, make_sample, read_samples

PNG = "data:image/png;base64,iVBORw0KGgo="
CAT, DOG, OWL = (f"https://pictures.example/{name}.jpg" for name in ("cat", "dog", "owl"))
MARK = "\ufdd0"
"""of a row's first image"""


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def image(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


ROW = {
    "question_id": 1,
    "question_body": [text("Question 1: Which is drawn better?"), image(CAT, detail="low")],
    "answer1_body": [text("Mine:"), image(PNG)],
    "answer2_body": [text("Look at [image 1]."), image(DOG), text("Is it not good?")],
}
GOLDEN = """\
You are a helpful and precise assistant for checking the quality of the answer.
[Question]
Question 1: Which is drawn better?
[image 1]

[The Start of Assistant 1's Answer]
Mine:
[image 2]

[The End of Assistant 1's Answer]

[The Start of Assistant 2's Answer]
Look at [image 1].
[image 3]
Is it not good?

[The End of Assistant 2's Answer]

[System]
We would like to request your feedback on the performance of two AI assistants in response to the user question \
displayed above.
Please rate the helpfulness, relevance, accuracy, level of details of their responses. Each assistant receives an \
overall score on a scale of 1 to 10, where a higher score indicates better overall performance.
Please first output a single line containing only two values indicating the scores for Assistant 1 and 2, \
respectively. The two scores are separated by a space. In the subsequent line, please provide a comprehensive \
explanation of your evaluation, avoiding any potential bias and ensuring that the order in which the responses were \
presented does not affect your judgment.

### Response:"""


def urls(shown: Shown) -> list[str]:
    return [placed.image.url for placed in shown.images]


def test_a_prompt_has_a_label_where_an_image_stands() -> None:
    sample = Sample.from_record(ROW)
    assert sample.images == (Image(CAT, "low"), Image(PNG), Image(DOG))
    shown = show_prompt(sample)
    assert shown.text == render_prompt(sample) == GOLDEN
    assert urls(shown) == [CAT, PNG, DOG]
    # right behind its own label, not behind the words that look like one
    assert [GOLDEN[:end].splitlines()[-1] for _, end in shown.images] == ["[image 1]", "[image 2]", "[image 3]"]
    assert count_markers(sample) == 1
    assert sample.to_record() == ROW


def test_numbers_are_those_of_the_order_that_is_shown() -> None:
    sample = Sample.from_record(ROW)
    back = show_prompt(sample.swapped())
    assert urls(back) == [CAT, DOG, PNG]
    assert "[The Start of Assistant 1's Answer]\nLook at [image 1].\n[image 2]\nIs it not good?" in back.text
    other = Sample.from_record({**ROW, "answer1_body": ROW["answer2_body"], "answer2_body": ROW["answer1_body"]})
    assert show_prompt(other) == back
    assert show_prompt(other.swapped()) == show_prompt(sample)
    assert sample.swapped().swapped() == sample
    many = Sample.from_record({**ROW, "answer3_body": [image(OWL)]}, num_answers=3)
    assert [urls(show_prompt(many.rotated(steps), "multi")) for steps in range(3)] == [
        [CAT, PNG, DOG, OWL],
        [CAT, DOG, OWL, PNG],
        [CAT, OWL, PNG, DOG],
    ]


def test_an_image_that_stands_in_several_places_has_one_number_and_comes_once() -> None:
    sample = Sample.from_record({**ROW, "answer1_body": [image(DOG), image(CAT, detail="low")]})
    shown = show_prompt(sample)
    assert "Answer]\n[image 2]\n[image 1]\n\n[The End" in shown.text
    assert urls(shown) == [CAT, DOG]
    # another detail is another image
    assert len(Sample.from_record({**ROW, "answer1_body": [image(CAT)]}).images) == 3


def test_a_template_numbers_images_as_it_shows_them() -> None:
    template = PromptTemplate("{{ answer_b | upper }}|{{ answer_a }}|{{ question }}|{{ answer_b }}")
    shown = template.show(Sample.from_record(ROW), "pair")
    assert shown.text == (
        "LOOK AT [IMAGE 1].\n[image 1]\nIS IT NOT GOOD?|Mine:\n[image 2]\n|Question 1: Which is drawn better?\n"
        "[image 3]\n|Look at [image 1].\n[image 1]\nIs it not good?"
    )
    assert urls(shown) == [DOG, PNG, CAT]
    assert template.render(Sample.from_record(ROW), "pair") == shown.text


def test_parts_of_text_alone_are_text() -> None:
    plain = {"question_id": 1, "question_body": "Q\nmore", "answer1_body": "a", "answer2_body": "b"}
    sample = Sample.from_record({**plain, "question_body": [text("Q"), text("more")], "answer2_body": [text("b")]})
    assert sample == Sample.from_record(plain)
    assert sample.to_record() == plain
    assert show_prompt(sample).to_content() == render_prompt(sample)


@pytest.mark.parametrize(
    ("row", "task", "shown"),
    [
        (
            {
                "messages": [
                    {"role": "user", "content": [text("Q"), image(CAT)]},
                    {"role": "assistant", "content": "A cat."},
                    {"role": "user", "content": [image(DOG), text("And this?")]},
                ],
                "answer1_body": "A dog.",
                "answer2_body": [text("It is"), image(OWL)],
            },
            "pair",
            ["[User]\nQ\n[image 1]\n\n[Assistant]", "[Question]\n[image 2]\nAnd this?\n\n", "It is\n[image 3]\n\n"],
        ),
        (
            {
                "conversation1": [
                    {"role": "user", "content": [image(CAT)]},
                    {"role": "assistant", "content": [text("So"), image(OWL)]},
                ],
                "conversation2": [{"role": "user", "content": "Draw"}, {"role": "assistant", "content": [image(DOG)]}],
            },
            "pair",
            ["[User]\n[image 1]\n\n[Assistant]\nSo\n[image 2]\n\n", "[User]\nDraw\n\n[Assistant]\n[image 3]\n\n"],
        ),
        (
            {
                "conversation_a": [
                    {"role": "user", "content": [image(CAT)]},
                    {"role": "assistant", "content": [image(OWL)]},
                ],
                "conversation_b": [
                    {"role": "user", "content": [image(CAT)]},
                    {"role": "assistant", "content": [image(DOG)]},
                ],
            },
            "pair",
            ["[Question]\n[image 1]\n\n[The Start", "1's Answer]\n[image 2]\n\n", "2's Answer]\n[image 3]\n\n"],
        ),
        (
            {
                "prompt": [{"role": "user", "content": [text("Q"), image(CAT)]}],
                "chosen": [{"role": "assistant", "content": [image(OWL), text("good")]}],
                "rejected": [{"role": "assistant", "content": [image(DOG)]}],
            },
            "pair",
            ["[Question]\nQ\n[image 1]\n\n", "[image 2]\ngood\n\n[The End", "[image 3]\n\n[The End"],
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [text("Q"), image(CAT)]},
                    {"role": "assistant", "content": [image(OWL)]},
                ]
            },
            "grade",
            ["[Question]\nQ\n[image 1]\n\n", "Answer]\n[image 2]\n\n"],
        ),
        (
            {"question_body": [image(CAT)], "answer1_body": "A cat.", "answer2_body": "A dog."},
            "single",
            ["[Question]\n[image 1]\n\n[The Start of Assistant 1's Answer]\nA cat.\n\n"],
        ),
    ],
)
def test_rows_of_any_form_have_images(tmp_path: Path, row: dict[str, Any], task: str, shown: list[str]) -> None:
    path = write_jsonl(tmp_path / "q.jsonl", [{"question_id": 7, **row}])
    samples = read_samples(path, task)
    assert has_images(samples)
    (sample,) = samples
    prompt = render_prompt(sample, task)
    for part in shown:
        assert part in prompt
    assert {each.url for each in sample.images} == {url for url in (CAT, DOG, OWL) if url in json.dumps(row)}
    # what a record holds is the same sample
    again = write_jsonl(tmp_path / "again.jsonl", [sample.to_record()])
    assert next(iter(read_samples(again, task))) == sample
    if task == "pair":
        assert show_prompt(Sample.from_record(sample.swapped().to_record())) == show_prompt(sample.swapped())


def test_an_image_may_be_its_url_alone_and_say_in_which_detail_it_is_looked_at() -> None:
    row = {**ROW, "question_body": [{"type": "image_url", "image_url": CAT}], "answer1_body": [image(CAT)]}
    assert Sample.from_record(row).images == (Image(CAT), Image(DOG))
    assert Image(CAT, "high").to_part() == {"type": "image_url", "image_url": {"url": CAT, "detail": "high"}}
    # as tables of structures say that there is none
    nothing = {**image(CAT, detail=None), "text": None}
    assert Sample.from_record({**row, "question_body": [nothing]}).images == (Image(CAT), Image(DOG))
    assert Image(PNG).name == "image/png, e1e10747c237"


BAD = [
    ("file:///etc/passwd", "expected a URL of http or https, or data:image/..;base64,.., found 'file:///etc/passwd'"),
    ("/etc/passwd", "expected a URL of http or https"),
    ("javascript:alert(1)", "expected a URL of http or https"),
    ("ftp://pictures.example/a.png", "expected a URL of http or https"),
    ("https://", "expected a URL of http or https"),
    ("http://[::1", "expected a URL of http or https"),
    ("https://pictures.example/a.png\nHost: b", "expected a URL of http or https"),
    ("https://pictures.example/" + "a" * 9000, "expected a URL of http or https"),
    ("https://pictures.example/\ud800", "expected a URL of http or https"),
    ("data:text/html;base64,aGk=", "expected a URL of http or https"),
    ("data:image/png,abc", "expected a URL of http or https"),
    ("data:image/png;base64,", "expected an image in base64, found ''"),
    ("data:image/png;base64,a*b=", "expected an image in base64, found 'a*b='"),
    ("data:image/png;base64,iVBORw0KGgo", "expected an image in base64"),
    ("data:image/png;base64," + "A" * ((20 << 20) + 4), "expected 20 MiB of base64 at most, found 20"),
    (5, "expected a URL, found int"),
    ([CAT], "expected a URL, found list"),
    (None, "expected a URL, found NoneType"),
]


@pytest.mark.parametrize(("url", "message"), BAD)
@pytest.mark.parametrize("where", ["question_body", "answer2_body", "messages"])
def test_what_is_no_image_ends_in_one_line(tmp_path: Path, url: Any, message: str, where: str) -> None:
    given = [text("Q"), image(url)]
    row = {**ROW, "question_id": 2, where: [{"role": "user", "content": given}] if where == "messages" else given}
    if where == "messages":
        del row["question_body"]
    path = tmp_path / "q.jsonl"
    path.write_text("".join(map(dump_line, [ROW, row])), encoding="utf-8")
    with pytest.raises(InputError) as error:
        read_samples(path)
    said = str(error.value)
    place = "messages: message 1" if where == "messages" else f"field '{where}'"
    assert said.startswith(f"{path}:2: {place}: image_url: {message}")
    assert len(said) < len(str(path)) + 250
    assert "\n" not in said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "field 'question_body' must be str, found list"),
        ([[text("Q")]], "field 'question_body' must be str, found list"),
        ([text("Q"), [image(CAT)]], "field 'question_body' must be str, found list"),
        (["Q"], "field 'question_body' must be str, found list"),
        ([None], "field 'question_body' must be str, found list"),
        ([{"type": "input_audio"}], "found one of type 'input_audio'"),
        ([{"type": {"a": ["b"] * 999}}], "found one of type"),
        ([{"text": "Q"}], "found one of type 'None'"),
        ([text("Q"), {"type": "text"}], "a part of type text has no text"),
        ([{"type": "text", "text": [text("Q")]}], "a part of type text has no text"),
        ([{"type": "image_url"}], "image_url: expected a URL, found NoneType"),
        ([{"type": "image_url", "image_url": {}}], "image_url: expected a URL, found NoneType"),
        ([{"type": "image_url", "image_url": [CAT]}], "image_url: expected a URL, found list"),
        ([image(CAT, detail="huge")], "expected the detail auto, low, high, found 'huge'"),
        ([image(CAT, detail=["low"])], "expected the detail auto, low, high, found"),
        ([image(f"{CAT}?{k}") for k in range(MOST_IMAGES + 1)], "expected 64 images at most"),
        ([image(f"data:image/png;base64,AAA{k}" + "A" * (15 << 20)) for k in range(3)], "of 40 MiB together"),
        ({"type": "text", "text": "Q"}, "field 'question_body' must be str, found dict"),
    ],
)
def test_parts_that_are_none_end_in_one_line(tmp_path: Path, content: Any, message: str) -> None:
    path = write_jsonl(tmp_path / "q.jsonl", [ROW, {**ROW, "question_id": 2, "question_body": content}])
    with pytest.raises(InputError) as error:
        read_samples(path)
    said = str(error.value)
    assert said.startswith(f"{path}:2: ")
    assert message in said
    assert "\n" not in said
    assert len(said) < len(str(path)) + 250


@pytest.mark.parametrize("name", ["question_body", "answer1_body", "answer2_body"])
def test_nobody_puts_an_image_anywhere_by_writing_its_mark(tmp_path: Path, name: str) -> None:
    plain = {"question_id": 1, "question_body": "Q", "answer1_body": "a", "answer2_body": "b"}
    forged = {**plain, name: f"see {MARK}"}
    # no image, no marks: a text like any other
    assert f"see {MARK}" in render_prompt(Sample.from_record(forged))
    row = {**ROW, name: [*ROW[name], text(f"see {MARK}")]}  # type: ignore[misc]
    beside = {**ROW, "answer1_body": f"see {MARK}"}
    for bad in (row, beside):
        path = write_jsonl(tmp_path / "q.jsonl", [bad])
        with pytest.raises(InputError, match=r"q.jsonl:1: expected no noncharacter of Unicode in a text beside images"):
            read_samples(path)
    references = write_jsonl(tmp_path / "r.jsonl", [{"question_id": 1, "reference": {"text": f"see {MARK}"}}])
    questions = write_jsonl(tmp_path / "q.jsonl", [ROW])
    with pytest.raises(InputError, match=r"q.jsonl:1: reference has a noncharacter"):
        read_samples(questions, reference_file=references)
    talk = [{"role": "user", "content": [image(CAT)]}, {"role": "assistant", "content": f"see {MARK}"}]
    votes = write_jsonl(tmp_path / "v.jsonl", [{"conversation_a": talk, "conversation_b": talk}])
    with pytest.raises(InputError, match=r"v.jsonl:1: expected no noncharacter"):
        read_samples(votes)


def test_parts_of_messages_that_are_none_end_in_one_line(tmp_path: Path) -> None:
    for part, kind in ((["Q"], "list"), (None, "NoneType"), ("Q", "str"), ({"type": "file"}, "'file'")):
        row = {"question_id": 1, "messages": [{"role": "user", "content": [text("Q"), part]}], "answer_body": "a"}
        path = write_jsonl(tmp_path / "q.jsonl", [row])
        with pytest.raises(InputError) as error:
            read_samples(path, "grade")
        why = f"parts of type text and image_url can be judged, found one of type {kind}"
        assert str(error.value) == f"{path}:1: messages: message 1: {why}"


@pytest.mark.parametrize(
    ("reference", "problem"), [(MARK, "a noncharacter of Unicode"), ("\ud800", "half a surrogate")]
)
def test_a_row_whose_own_reference_is_no_text_ends_an_audit_in_one_line(
    tmp_path: Path, reference: str, problem: str
) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(dump_line({**ROW, "reference": {"text": reference}, "label": 1}), encoding="utf-8")
    samples = read_samples(path)
    with pytest.raises(InputError, match=rf"q.jsonl:1: reference has {problem}"):
        read_sources(samples, None, "judge")


parts = st.lists(
    st.one_of(
        st.builds(text, st.text(st.characters(codec="utf-8", exclude_categories=["Cn"]), max_size=5)),
        st.builds(image, st.sampled_from((CAT, DOG, PNG))),
    ),
    max_size=5,
)
anything = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.text(max_size=3), st.sampled_from((CAT, PNG, "file:///x", MARK))
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(("type", "text", "image_url", "url", "detail")), inner, max_size=4),
        st.builds(lambda text: {"type": "text", "text": text}, inner),
        st.builds(lambda url: {"type": "image_url", "image_url": url}, inner),
        st.builds(lambda url, detail: {"type": "image_url", "image_url": {"url": url, "detail": detail}}, inner, inner),
    ),
    max_leaves=8,
)


def read_or_refuse(row: dict[str, Any]) -> Sample | str:
    """The sample of a row, or why it is none."""
    try:
        return make_sample(Line(row, Path("q.jsonl"), 3), "pair")
    except InputError as error:
        return str(error)


contents = st.one_of(anything, st.lists(anything, max_size=3), parts)


@settings(max_examples=150)
@given(question=contents, answer=contents, message=st.one_of(st.none(), contents))
def test_whatever_stands_in_a_row_is_judged_or_refused_in_one_line(question: Any, answer: Any, message: Any) -> None:
    row = {"question_id": 1, "question_body": question, "answer1_body": answer, "answer2_body": "b"}
    if message is not None:
        row |= {"messages": [{"role": "user", "content": message}], "question_body": None}
    found = read_or_refuse(row)
    if isinstance(found, str):
        assert found.startswith("q.jsonl:3: ")
        assert "\n" not in found
        return
    # none is lost, and what is kept is the same
    assert {placed.image for placed in show_prompt(found.swapped()).images} == set(found.images)
    assert Sample.from_record(found.to_record()) == found
    assert all(each.url in (CAT, DOG, PNG) for each in found.images)


def test_where_nobody_can_show_images_messages_with_some_are_refused() -> None:
    with pytest.raises(ValueError, match="m: message 1: images can be judged through --engine openai --api chat alone"):
        read_turns([{"role": "user", "content": [image(CAT)]}], "m")


def test_thoughts_that_are_left_out_take_their_images_along() -> None:
    thinking = [text("<think>Let me draw"), image(OWL), text("</think>So:"), image(DOG)]
    sample = Sample.from_record({**ROW, "answer1_body": thinking}).without_thoughts()
    assert urls(show_prompt(sample)) == [CAT, DOG]
    assert sample.record["answer1_body"] == thinking
    size = len("<think>Let me draw") + 1 + len("</think>")
    assert sample.thoughts == {"answer1_body": size}
    record = labelled({**sample.to_record(), "pred_thoughts": sample.thoughts})
    assert record["answer1_body"] == f"So:\n[image 3: {DOG}]"
    assert record["pred_thoughts"] == {}


def test_people_and_statistics_know_images_by_their_names() -> None:
    assert labelled(ROW) == {
        **ROW,
        "question_body": f"Question 1: Which is drawn better?\n[image 1: {CAT}]",
        "answer1_body": f"Mine:\n[image 2: {Image(PNG).name}]",
        "answer2_body": f"Look at [image 1].\n[image 3: {DOG}]\nIs it not good?",
        "pred_thoughts": None,
    }
    plain = {"question_id": 1, "question_body": "Q", "answer1_body": [text("a")], "messages": None}
    assert labelled(plain) is plain
    broken = {"question_body": [image("file:///x")], "answer1_body": ["a"]}
    assert labelled(broken) is broken
    one, other = (Sample.from_record({**ROW, "question_body": [text("What?"), image(url)]}) for url in (CAT, DOG))
    assert one.asked != other.asked
    assert len(Image(f"https://pictures.example/{'a' * 500}").name) < 90


def merged(content: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Texts that follow each other as one, empty ones left out: the form in which parts are written."""
    found: list[dict[str, Any]] = []
    follows = False
    for part in content:
        if part["type"] == "text" and follows:
            found[-1] = text(f"{found[-1]['text']}\n{part['text']}")
        else:
            found.append(part)
        follows = part["type"] == "text"
    found = [part for part in found if part.get("text") != ""]
    if any(part["type"] == "image_url" for part in found):
        return found
    return "".join(part["text"] for part in found)


@given(content=parts)
def test_parts_are_written_as_they_were_read(content: list[dict[str, Any]]) -> None:
    gallery = Gallery()
    said = gallery.read(content)
    written = write_content(said, gallery.close())
    assert written == merged(content)
    again = Gallery()
    assert (again.read(written), again.close()) == (said, gallery.close())
    shown = show(said, gallery.close())
    pieces = shown.to_content()
    texts = [pieces] if isinstance(pieces, str) else [part["text"] for part in pieces if part["type"] == "text"]
    assert "".join(texts) == shown.text


@pytest.mark.parametrize("name", ["q.jsonl", "q.json", "q.parquet", "q.jsonl.gz"])
@settings(max_examples=20)
@given(contents=st.lists(st.tuples(parts, parts, parts), min_size=1, max_size=3))
def test_convert_keeps_the_parts(tmp_path_factory: pytest.TempPathFactory, name: str, contents: list[Any]) -> None:
    fields = ("question_body", "answer1_body", "answer2_body")
    rows = [
        {"question_id": k, **{field: part or "x" for field, part in zip(fields, each, strict=True)}}
        for k, each in enumerate(contents)
    ]
    folder = tmp_path_factory.mktemp("rows")
    convert(write_jsonl(folder / "in.jsonl", rows), folder / name)
    assert [line.record for line in LineFile(folder / name)] == rows
    assert list(read_samples(folder / name)) == [Sample.from_record(row) for row in rows]


def test_convert_makes_our_rows_of_others_with_their_images(tmp_path: Path) -> None:
    votes = {
        **{"model_a": "x", "model_b": "y", "winner": "model_a"},
        "conversation_a": [{"role": "user", "content": [text("Q"), image(CAT)]}, {"role": "assistant", "content": "a"}],
        "conversation_b": [{"role": "user", "content": [text("Q"), image(CAT)]}, {"role": "assistant", "content": "b"}],
    }
    arena = {"uid": "u", "model": "m", "messages": votes["conversation_a"]}
    for row, made in (
        (votes, {"question_body": [text("Q"), image(CAT)], "answer1_body": "a", "answer2_body": "b", "label": 1}),
        (arena, {"question_id": "u", "question_body": [text("Q"), image(CAT)], "text": "a", "model": "m"}),
    ):
        source = write_jsonl(tmp_path / "in.jsonl", [row])
        convert(source, tmp_path / "out.jsonl")
        (line,) = LineFile(tmp_path / "out.jsonl")
        assert made.items() <= line.record.items()
    pair = combine_lines([*read_answers(source), *read_answers(source)])
    assert (pair["question_body"], pair["answer2_body"]) == ([text("Q"), image(CAT)], "a")


def test_a_table_of_cells_holds_no_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = write_jsonl(tmp_path / "q.jsonl", [ROW]), tmp_path / "q.csv"
    assert run_command(["convert", str(source), str(target)]) == 2
    assert "field 'question_body' has images, whose parts in a cell would be a text" in capsys.readouterr().err
    assert not target.exists()
    # messages are no texts
    talk = [{"role": "user", "content": [image(CAT)]}, {"role": "user", "content": "Q"}]
    messages = {"question_id": 1, "messages": talk, "answer1_body": "a", "answer2_body": "b"}
    convert(write_jsonl(tmp_path / "m.jsonl", [messages]), tmp_path / "m.tsv")
    (sample,) = read_samples(tmp_path / "m.tsv")
    assert [each.url for each in sample.images] == [CAT]


def test_a_text_in_a_cell_is_never_taken_for_parts(tmp_path: Path) -> None:
    cell = json.dumps([image(CAT)]).replace('"', '""')
    path = tmp_path / "q.csv"
    path.write_text(f'question_id,question_body,answer1_body,answer2_body\n1,"{cell}",a,b\n', encoding="utf-8")
    (sample,) = read_samples(path)
    assert (sample.question, sample.images) == (json.dumps([image(CAT)]), ())


def test_a_prompt_that_is_printed_has_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_jsonl(tmp_path / "q.jsonl", [ROW])
    assert run_command(["prompt", "--question-file", str(path)]) == 0
    assert json.loads(capsys.readouterr().out) == {"question_id": 1, "prompt": GOLDEN}


def test_a_run_says_by_which_labels_images_were_shown() -> None:
    plain = prompt_fingerprint()
    assert prompt_fingerprint("pair", None, False, False) == plain
    assert prompt_fingerprint("pair", None, False, True) != plain
    assert prompt_fingerprint("pair", None, True, True) != prompt_fingerprint("pair", None, True)


def test_an_image_of_any_size_that_is_taken_is_read(tmp_path: Path) -> None:
    big = "data:image/webp;base64," + base64.b64encode(b"x" * (14 << 20)).decode()
    path = write_jsonl(tmp_path / "q.jsonl", [{**ROW, "answer1_body": [image(big)]}])
    (line,) = open_rows(path)
    assert isinstance(line, Line)
    assert next(iter(read_samples(path))).images[1].url == big
