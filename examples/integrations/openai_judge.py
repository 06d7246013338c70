"""Two answers judged through OpenAI's own client, in a schema of one's own.

judgelm serve --model tiny &
pip install openai
python examples/integrations/openai_judge.py
"""

import json
import os
from typing import Literal

from openai import OpenAI
from pydantic import BaseModel


class Verdict(BaseModel):
    """Each field says what it gets: the scores of answers 1 and 2, and who is better."""

    score1: float
    score2: float
    winner: Literal["answer 1", "tie", "answer 2"]


client = OpenAI(
    base_url=os.environ.get("JUDGELM_URL", "http://127.0.0.1:21003") + "/v1",
    api_key=os.environ.get("JUDGELM_API_KEY", "none"),
)
model = os.environ.get("JUDGELM_MODEL", "tiny")
asked = json.dumps({"question": "What is the capital of Norway?", "answers": ["Oslo.", "It is Bergen."]})

chat = client.chat.completions.parse(
    model=model, messages=[{"role": "user", "content": asked}], response_format=Verdict, temperature=0
)
print("chat", chat.choices[0].message.parsed)

response = client.responses.parse(model=model, input=asked, text_format=Verdict, temperature=0)
print("response", response.output_parsed)
