"""What others than a run itself read of run.json: how the judgements beside it were made."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from judgelm.documents import Document


class RunSettings(Document):
    """The settings of a run; fields that a run adds to them are kept."""

    what: ClassVar[str] = "the description of a run"

    settings: dict[str, Any] = Field(default_factory=dict)
    """what must be the same for a run to be continued: model and fingerprint of its files, engine, data type, sha256 of
    question and reference file, fingerprint of the prompts, name of the judge, and all of `JudgeSettings`"""
    references: bool | None = None
    """whether the judge was shown a reference of any sample; null: an earlier version, which did not say it"""
