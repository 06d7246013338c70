"""Texts that are JSON of a schema whatever the model would rather write: which token may come next, by llguidance."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from judgelm.errors import InputError, one_line
from judgelm.json_text import FINITE, parse_object

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llguidance import LLMatcher
    from transformers import PreTrainedTokenizerBase

_KEPT = 8
"""schemas that are kept ready, as many texts are written by the same"""
_LEXER_STATES = 50_000
"""of a schema, 1 to 2 KB each"""
_MOST_LEVELS = 400
"""of a schema: llguidance follows references by calling itself, and with some thousand levels it takes the whole
process with it
"""
_MOST_MESSAGE = 300


class SchemaText:
    """One text while it is written."""

    def __init__(self, matcher: LLMatcher, vocabulary: int, eos: Sequence[int]) -> None:
        self._matcher = matcher
        self._vocabulary = vocabulary
        self._eos = list(eos)

    @property
    def allowed(self) -> list[int]:
        """The tokens that may come next; those that end a text are among them where it may end."""
        import numpy as np

        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        found: list[int] = np.flatnonzero(np.unpackbits(bits, bitorder="little")[: self._vocabulary]).tolist()
        return self._eos if self.failed else found

    @property
    def complete(self) -> bool:
        """Nothing can follow."""
        return bool(self._matcher.is_stopped()) and not self.failed

    @property
    def failed(self) -> bool:
        """The text cannot go on: the schema turned out to need more work than is done for one, or no text is of it."""
        return bool(self._matcher.is_error())

    def take(self, token: int) -> None:
        """It is one of those that are allowed."""
        self._matcher.consume_token(token)


class SchemaWriter:
    """The texts of one tokenizer.

    Args:
        vocabulary: tokens that the model knows.
        eos: those that end a text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocabulary: int, eos: Sequence[int]) -> None:
        from llguidance import LLParserLimits
        from llguidance.hf import from_tokenizer

        try:
            self._tokenizer = from_tokenizer(tokenizer, eos_token=list(eos))
        except ValueError as error:
            raise InputError(f"this model's tokenizer cannot be held to a schema: {one_line(str(error))}") from None
        self._vocabulary = vocabulary
        self._eos = eos
        self._limits = LLParserLimits(max_lexer_states=_LEXER_STATES, verbose_errors=False)
        self._ready = lru_cache(_KEPT)(self._compile)

    def start(self, schema: str) -> SchemaText:
        """A text of a schema, which is JSON. Raises InputError for a schema that texts cannot be held to."""
        return SchemaText(self._ready(schema).deep_copy(), self._vocabulary, self._eos)

    def _compile(self, schema: str) -> LLMatcher:
        from llguidance import LLMatcher

        if (levels := count_levels(parse_object(schema.encode(), "schema", FINITE))) > _MOST_LEVELS:
            raise InputError(f"schema: it is {levels} levels deep with its references, expected {_MOST_LEVELS} at most")
        try:
            # without white space no model can write that for ever
            grammar = LLMatcher.grammar_from_json_schema(schema, overrides={"whitespace_flexible": False})
        except ValueError as error:
            raise InputError(f"schema: {one_line(str(error))[:_MOST_MESSAGE]}") from None
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0, limits=self._limits)
        if matcher.is_error():
            raise InputError(f"schema: {one_line(matcher.get_error())[:_MOST_MESSAGE]}")
        first = SchemaText(matcher.deep_copy(), self._vocabulary, ())
        if not first.allowed:
            raise InputError("schema: no text is of it")
        return matcher


def count_levels(schema: dict[str, Any]) -> int:
    """Lists and objects within one another, where each that is referred to counts once more with its own: no way
    through the schema has more.
    """
    depths: dict[int, int] = {}
    named: set[str] = set()

    def measure(value: Any) -> int:
        if not isinstance(value, dict | list):
            return 0
        if isinstance(value, dict) and isinstance(value.get("$ref"), str):
            named.add(value["$ref"])
        inside = value.values() if isinstance(value, dict) else value
        depths[id(value)] = 1 + max(map(measure, inside), default=0)
        return depths[id(value)]

    whole = measure(schema)
    # where a name cannot be followed here it may be that of anything
    return whole + sum(depths.get(id(_find(schema, name)), whole) for name in named)


def _find(schema: dict[str, Any], name: str) -> Any:
    found: Any = schema
    for part in name.removeprefix("#").split("/")[1:]:
        found = found.get(part) if isinstance(found, dict) else None
    return found
