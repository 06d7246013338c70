"""Two answers judged through LiteLLM.

judgelm serve --model tiny &
pip install litellm
python examples/integrations/litellm_judge.py
"""

import json
import os
from typing import Literal

import litellm
from pydantic import BaseModel


class Verdict(BaseModel):
    """Who is better, and by how much."""

    score1: float
    score2: float
    winner: Literal["A", "B", "tie"]


asked = {"question": "What is the capital of Norway?", "answers": ["Oslo.", "It is Bergen."]}
answer = litellm.completion(
    model=f"openai/{os.environ.get('JUDGELM_MODEL', 'tiny')}",
    api_base=os.environ.get("JUDGELM_URL", "http://127.0.0.1:21003") + "/v1",
    api_key=os.environ.get("JUDGELM_API_KEY", "none"),
    messages=[{"role": "user", "content": json.dumps(asked)}],
    response_format=Verdict,
    temperature=0,
)
print("litellm", Verdict.model_validate_json(answer.choices[0].message.content))
