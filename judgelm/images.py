"""Images in questions, answers and dialogues: checked when they are read, and one character of the text for each.

The character is the image's mark. It is one of Unicode's noncharacters, which are no part of any text, and a row with
images in which one stands anyhow is refused: so nobody but who gives an image can put one anywhere, and texts can be
exchanged, cut and put into a prompt as ever, each image with its place. Only the prompt itself has labels, `[image 1]`,
numbered as they come in it: they say nothing of the order in which a file has the answers. An answer that writes
`[image 1]` has written these words. Behind the label of a mark the image itself is sent, and as labels are numbered in
the order of the images, a server that moves all of them to one place shows the judge the same.

Needs the standard library alone.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from judgelm.errors import one_line

MOST_IMAGES = 64
"""of a row"""
NEEDS_CHAT = "images can be judged through --engine openai --api chat alone"
_MARKS = "".join(
    map(chr, [*range(0xFDD0, 0xFDF0), *(plane << 16 | end for plane in range(1, 17) for end in (0xFFFE, 0xFFFF))])
)
_MARK = re.compile(f"[{_MARKS}]")
_LABEL = re.compile(r"\[image \d+\]", re.IGNORECASE)
_DATA = re.compile(r"data:(image/[a-z0-9][a-z0-9.+-]{0,40});base64,", re.IGNORECASE)
_DETAILS = ("auto", "low", "high")
_MOST_MIB = 20
"""of an image, and twice as much of all in a row"""
_LONGEST_URL = 8192
_SHOWN = 60
"""characters of what is none"""


class CannotBeJudged(ValueError):
    """What was said is whole, and has something that no judge is shown."""


@dataclass(frozen=True, slots=True)
class Image:
    """Where an image is, for the server that judges: nobody else looks at it. Raises ValueError for any other place
    than the web and the URL itself; a file of this machine is none that a row may name.
    """

    url: str
    """http, https, or data:image/..;base64,.."""
    detail: str | None = None
    """in which a judge looks at it: auto, low or high; None leaves it to the server"""

    def __post_init__(self) -> None:
        if self.detail is not None and self.detail not in _DETAILS:
            raise ValueError(f"image_url: expected the detail {', '.join(_DETAILS)}, found {_cut(self.detail)}")
        if not isinstance(self.url, str):
            raise ValueError(f"image_url: expected a URL, found {type(self.url).__name__}")
        if head := _DATA.match(self.url):
            _check_data(self.url, head.end())
        elif not _is_of_the_web(self.url):
            raise ValueError(
                f"image_url: expected a URL of http or https, or data:image/..;base64,.., found {_cut(self.url)}"
            )

    @property
    def name(self) -> str:
        """In a few words: two images of one name are the same."""
        digest = sha256(self.url.encode()).hexdigest()[:12]
        if head := _DATA.match(self.url):
            return f"{head[1].lower()}, {digest}"
        return self.url if len(self.url) <= 2 * _SHOWN else f"{self.url[:_SHOWN]}.., {digest}"

    def to_part(self) -> dict[str, Any]:
        """As OpenAI's API has it."""
        return {"type": "image_url", "image_url": {"url": self.url, **({"detail": self.detail} if self.detail else {})}}


def _cut(value: object) -> str:
    return repr(one_line(str(value)[: 4 * _SHOWN])[:_SHOWN])


def _check_data(url: str, begin: int) -> None:
    if len(url) - begin > _MOST_MIB << 20:
        raise ValueError(f"image_url: expected {_MOST_MIB} MiB of base64 at most, found {len(url) >> 20}")
    try:
        content = base64.b64decode(url[begin:], validate=True)
    except ValueError:
        content = b""
    if not content:
        raise ValueError(f"image_url: expected an image in base64, found {_cut(url[begin : begin + _SHOWN])}")


def _is_of_the_web(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    plain = len(url) <= _LONGEST_URL and url.isprintable() and " " not in url
    return plain and parts.scheme in ("http", "https") and bool(parts.hostname)


class Gallery:
    """The images of one row while it is read; the same image is there once, wherever it stands."""

    def __init__(self, images: Iterable[Image] = ()) -> None:
        self._images = list(images)
        self._forged = False

    def read(self, content: str | list[Any]) -> str:
        """A text, or the texts of a list of OpenAI's parts, one a line, with the marks of its images.

        Raises ValueError for parts that are none, CannotBeJudged for those of other kinds.
        """
        if isinstance(content, str):
            self._forged = self._forged or (not content.isascii() and _MARK.search(content) is not None)
            return content
        texts: list[str] = []
        between = ""
        for part in content:
            kind = part.get("type") if isinstance(part, Mapping) else None
            if kind == "image_url":
                texts.append(self._mark(_read_image(part)))
                between = ""
                continue
            if kind != "text":
                found = _cut(kind) if isinstance(part, Mapping) else type(part).__name__
                raise CannotBeJudged(f"parts of type text and image_url can be judged, found one of type {found}")
            if not isinstance(part.get("text"), str):
                raise ValueError("a part of type text has no text")
            texts += between, self.read(part["text"])
            between = "\n"
        return "".join(texts)

    def _mark(self, image: Image) -> str:
        if image not in self._images:
            self._images.append(image)
            size = sum(len(each.url) for each in self._images)
            if len(self._images) > MOST_IMAGES or size > 2 * _MOST_MIB << 20:
                raise ValueError(f"expected {MOST_IMAGES} images at most, of {2 * _MOST_MIB} MiB together, found more")
        return _MARKS[self._images.index(image)]

    def close(self) -> tuple[Image, ...]:
        """All that were read, in their order. Raises ValueError where a text has a mark of its own beside them."""
        if self._forged and self._images:
            raise ValueError("expected no noncharacter of Unicode in a text beside images, found one")
        return tuple(self._images)


class TextOnly(Gallery):
    """Takes no images: for who has nobody to show them to."""

    def _mark(self, image: Image) -> str:
        raise CannotBeJudged(NEEDS_CHAT)


def _read_image(part: Mapping[str, Any]) -> Image:
    """OpenAI's object, or the URL alone."""
    given = part.get("image_url")
    if isinstance(given, Mapping):
        return Image(given.get("url"), given.get("detail"))  # type: ignore[arg-type]  # it looks itself
    return Image(given)  # type: ignore[arg-type]


def write_content(text: str, images: Sequence[Image]) -> str | list[dict[str, Any]]:
    """What `Gallery.read` reads as this: the text, or where one of the images stands in it a list of parts."""
    parts: list[dict[str, Any]] = []
    begin = 0
    for place, image in _find_marks(text, images):
        parts += [*_text_part(text[begin:place]), images[image].to_part()]
        begin = place + 1
    return [*parts, *_text_part(text[begin:])] if parts else text


def _text_part(text: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text}] if text else []


def _find_marks(text: str, images: Sequence[Image]) -> list[tuple[int, int]]:
    """Where images stand, and which."""
    if not images or text.isascii():
        return []
    found = ((mark.start(), _MARKS.index(mark[0])) for mark in _MARK.finditer(text))
    return [(place, image) for place, image in found if image < len(images)]


def images_in(text: str, images: Sequence[Image]) -> tuple[Image, ...]:
    """Those of the images that stand in a text, as they come."""
    return tuple(images[image] for _, image in _find_marks(text, images))


class Placed(NamedTuple):
    """An image in a text."""

    image: Image
    end: int
    """of its label: the characters before it"""


class Shown(NamedTuple):
    """A text as a judge is shown it, with labels, and the images behind these."""

    text: str
    images: tuple[Placed, ...] = ()

    def to_content(self) -> str | list[dict[str, Any]]:
        """What a message of OpenAI's API holds: the text, or its parts with each image right behind its label."""
        begins = [0, *(end for _, end in self.images)]
        parts = [
            part
            for begin, (image, end) in zip(begins, self.images, strict=False)
            for part in (*_text_part(self.text[begin:end]), image.to_part())
        ]
        return [*parts, *_text_part(self.text[begins[-1] :])] if parts else self.text


def show(text: str, images: Sequence[Image]) -> Shown:
    """Marks become labels, numbered as they come; one that stands there again is the label alone.

    The image's name is no part of it: the name of a file may say too much.
    """
    numbers: dict[int, int] = {}
    shown, ends = _label(text, images, lambda image: f"[image {numbers.setdefault(image, len(numbers) + 1)}]")
    placed: dict[int, Placed] = {}
    for image, end in ends:
        placed.setdefault(image, Placed(images[image], end))
    return Shown(shown, tuple(placed.values()))


def name_images(text: str, images: Sequence[Image]) -> str:
    """A text for people and statistics, who know images by their names; they are numbered as they were read."""
    return _label(text, images, lambda image: f"[image {image + 1}: {images[image].name}]")[0]


def _label(text: str, images: Sequence[Image], label: Callable[[int], str]) -> tuple[str, list[tuple[int, int]]]:
    """The text with labels, each on a line of its own, and of each the image and where it ends."""
    shown: list[str] = []
    ends: list[tuple[int, int]] = []
    begin = size = 0
    for place, image in _find_marks(text, images):
        before = text[begin:place]
        if ends and not before.startswith("\n"):
            before = "\n" + before
        if before and not before.endswith("\n"):
            before += "\n"
        shown += before, label(image)
        size += len(before) + len(shown[-1])
        ends.append((image, size))
        begin = place + 1
    rest = text[begin:]
    return "".join((*shown, "\n" if ends and rest and not rest.startswith("\n") else "", rest)), ends


def count_labels(text: str) -> int:
    """How often a text itself writes what could be taken for a label."""
    return len(_LABEL.findall(text))
