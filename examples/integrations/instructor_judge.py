"""Two answers judged through instructor, with reasons.

judgelm serve --model tiny &
pip install instructor
python examples/integrations/instructor_judge.py
"""

import json
import os
from typing import Literal

import instructor
from openai import OpenAI
from pydantic import BaseModel


class Verdict(BaseModel):
    """A string gets what the judge wrote below its scores."""

    scores: list[float]
    winner: Literal["A", "B", "tie"]
    reasons: str


url = os.environ.get("JUDGELM_URL", "http://127.0.0.1:21003") + "/v1"
asked = {"question": "What is the capital of Norway?", "answers": ["Oslo.", "It is Bergen."], "reference": "Oslo"}
for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA):
    client = instructor.from_openai(OpenAI(base_url=url, api_key=os.environ.get("JUDGELM_API_KEY", "none")), mode=mode)
    verdict = client.chat.completions.create(
        model=os.environ.get("JUDGELM_MODEL", "tiny"),
        messages=[{"role": "user", "content": json.dumps(asked)}],
        response_model=Verdict,
        temperature=0,
        max_tokens=100,
    )
    print("instructor", mode.name, repr(verdict))
