"""Who labels: names, and the tokens by which invited people are known."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import secrets
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

from judgelm.errors import InputError, encodable, one_line

MOST_NAME = 60
"""characters"""
MOST_PEOPLE = 1000
"""who may label one file: a page that is open to everybody takes no more names"""
_SECRET_BYTES = 32


def read_name(text: str) -> str:
    """A person's name in one form. Raises InputError for what is none."""
    name = one_line(unicodedata.normalize("NFC", text)) if encodable(text) else ""
    if not 1 <= len(name) <= MOST_NAME:
        raise InputError(f"expected a name of 1 to {MOST_NAME} characters, found {one_line(text)[:MOST_NAME]!r}")
    return name


def same_name(name: str) -> str:
    """What two ways of writing a person's name have in common."""
    return name.casefold()


def read_people(given: Sequence[str]) -> tuple[str, ...]:
    """Names of a command line. Raises InputError for one that is none, and for one that is there twice."""
    found: dict[str, str] = {}
    for text in given:
        try:
            name = read_name(text)
        except InputError as error:
            raise InputError(f"--people: {error}") from None
        if same_name(name) in found:
            raise InputError(f"--people: {name} is named twice; expected each person once")
        found[same_name(name)] = name
    if len(found) > MOST_PEOPLE:
        raise InputError(f"--people: expected {MOST_PEOPLE} names at most, found {len(found)}")
    return tuple(found.values())


class People:
    """Who may label: those with a token, or where none are named everybody, under a name of their own."""

    def __init__(self, tokens: Mapping[str, str] | None = None) -> None:
        self.tokens = dict(tokens or {})
        """by name"""

    @classmethod
    def invited(cls, names: Sequence[str], secret: bytes) -> People:
        """The same secret gives a name the same token."""
        return cls({name: _token(name, secret) for name in names})

    @property
    def is_open(self) -> bool:
        return not self.tokens

    def find(self, authorization: str) -> str | None:
        """Who sends this header: `Bearer TOKEN`, or `Name NAME`, percent-encoded, where everybody may; None: nobody."""
        scheme, _, given = authorization.partition(" ")
        if self.is_open and scheme.lower() == "name":
            with contextlib.suppress(InputError, UnicodeDecodeError):
                return read_name(unquote(given, errors="strict"))
            return None
        if scheme.lower() != "bearer":
            return None
        # all are compared, so that the time tells nothing
        found = [name for name, token in self.tokens.items() if hmac.compare_digest(given.encode(), token.encode())]
        return found[0] if found else None


def _token(name: str, secret: bytes) -> str:
    digest = hmac.digest(secret, same_name(name).encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest[:18]).decode()


def keep_secret(path: Path) -> bytes:
    """The secret that tokens are made of, from a file that its owner alone can read; made where there is none.

    Raises InputError for a file that holds no secret, or cannot be read or written.
    """
    try:
        with contextlib.suppress(FileExistsError):
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(secrets.token_hex(_SECRET_BYTES) + "\n")
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        raise InputError(f"{path}: cannot be used ({error.strerror})") from None
    try:
        secret = bytes.fromhex(text)
    except ValueError:
        secret = b""
    if len(secret) != _SECRET_BYTES:
        raise InputError(f"{path}: expected {2 * _SECRET_BYTES} hexadecimal digits; remove it, and all get new links")
    return secret
