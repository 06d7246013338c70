"""The API from Python, in three lines.

>>> from judgelm.serve.client import Client
>>> verdict = Client("http://127.0.0.1:21003").judge("2 + 2?", ["4", "5"])
>>> print(verdict["outcome"], verdict["scores"], verdict["consistent"])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx

from judgelm.criteria import Criteria
from judgelm.errors import InputError, one_line
from judgelm.serve.servers import is_loopback
from judgelm.serve.settings import API_PORT

TIMED_OUT = "timed_out"
_MOST_SHOWN = 1000
"""characters of what a server says"""


class APIError(Exception):
    """The API could not judge; `status` is HTTP's, `code` a word such as "overloaded"."""

    def __init__(self, message: str, status: int, code: str | None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Client:
    """One JudgeLM API.

    Args:
        url: its address; with the /v1 of OpenAI's clients at its end it is the same.
        key: an API key, where the server asks for one.
        timeout_s: how long an answer may take.

    Raises InputError for what is no address.
    """

    def __init__(
        self, url: str = f"http://127.0.0.1:{API_PORT}", key: str | None = None, timeout_s: float = 600
    ) -> None:
        self._url = _check(url)
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._timeout_s = timeout_s

    def judge(
        self, question: str, answers: Sequence[str], reference: str | None = None, **settings: Any
    ) -> dict[str, Any]:
        """One sample's result. `settings` are other fields of POST /v1/judgements, such as task and scores_only.

        `criteria` may be `judgelm.criteria.Criteria` or what a file of them holds.
        """
        sample = {"question": question, "answers": list(answers), "reference": reference}
        return self.judge_all([sample], **settings)[0]

    def judge_all(self, samples: Sequence[dict[str, Any]], **settings: Any) -> list[dict[str, Any]]:
        """All results, in the samples' order. Raises APIError."""
        data: list[dict[str, Any]] = self._post("/v1/judgements", {"samples": list(samples), **settings})["data"]
        return data

    def rewards(
        self,
        prompt: str | Sequence[Mapping[str, Any]],
        completions: Sequence[str],
        reference: str | None = None,
        **settings: Any,
    ) -> dict[str, Any]:
        """A reward for each of 2 to 45 completions of a prompt, a question or OpenAI's messages. Raises APIError.

        `settings` are other fields of POST /v1/rewards, such as criteria.
        """
        said: dict[str, Any] = {"question": prompt} if isinstance(prompt, str) else {"messages": list(prompt)}
        body = {**said, "completions": list(completions), "reference": reference, **settings}
        found: dict[str, Any] = self._post("/v1/rewards", body)
        return found

    def models(self) -> list[str]:
        """The judges that are served. Raises APIError."""
        return [str(card["id"]) for card in self._ask("GET", "/v1/models", None)["data"]]

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        criteria = body.get("criteria")
        if isinstance(criteria, Criteria):
            body = {**body, "criteria": criteria.to_record()}
        return self._ask("POST", path, body)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        try:
            # a proxy of the environment is for other machines, and certificates, which take long to read, are for https
            proxied, verify = not is_loopback(self._url), self._url.startswith("https:")
            with httpx.Client(trust_env=proxied, verify=verify, timeout=self._timeout_s) as http:
                response = http.request(method, self._url + path, json=body, headers=self._headers)
        except httpx.ReadTimeout as error:
            problem = f"the API at {self._url} has not answered within {self._timeout_s:g} s"
            raise APIError(problem, 0, TIMED_OUT) from error
        except httpx.HTTPError as error:
            problem = f"the API at {self._url} does not answer ({type(error).__name__}): does judgelm serve run there?"
            raise APIError(problem, 0, None) from error
        if response.is_success:
            return response.json()
        try:
            said = response.json()["error"]
            message, code = one_line(str(said["message"]))[:_MOST_SHOWN], said.get("code")
        except (ValueError, KeyError, TypeError):
            message, code = response.reason_phrase, None
        raise APIError(message, response.status_code, code)


def _check(url: str) -> str:
    """An address without a slash, or OpenAI's /v1, at its end."""
    try:
        good = httpx.URL(url).host and urlsplit(url).scheme in ("http", "https")
    except (ValueError, httpx.InvalidURL):
        good = False
    if not good:
        raise InputError(f"{one_line(url)}: expected an address such as http://127.0.0.1:{API_PORT}")
    return url.rstrip("/").removesuffix("/v1").rstrip("/")
