"""A reply in a dialogue graded by two criteria, through LangChain's structured output.

judgelm serve --model tiny &
pip install langchain-openai
python examples/integrations/langchain_judge.py
"""

import os

from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field


class Grade(BaseModel):
    """Each number is asked for by itself: its description is the criterion, its bounds are the scale."""

    accuracy: int = Field(ge=1, le=5, description="Is everything that the reply says true?")
    politeness: int = Field(ge=1, le=5, description="Is the reply polite?")


judge = ChatOpenAI(
    base_url=os.environ.get("JUDGELM_URL", "http://127.0.0.1:21003") + "/v1",
    model=os.environ.get("JUDGELM_MODEL", "tiny"),
    api_key=os.environ.get("JUDGELM_API_KEY", "none"),
    temperature=0,
)
dialogue = [("user", "What is the capital of Norway?"), ("assistant", "Oslo, of course.")]
for method in ("json_schema", "function_calling"):
    print("langchain", method, judge.with_structured_output(Grade, method=method).invoke(dialogue))
