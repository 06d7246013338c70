"""A model worker: one model, whose batch all users share, and its place with a controller."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any

import httpx

from judgelm import __version__
from judgelm.dialogue import shortened_record
from judgelm.engine.shared import SharedEngine
from judgelm.evaluation.calibration_map import CalibrationFile
from judgelm.judge.judge import Judge
from judgelm.judge.settings import tasks_of
from judgelm.prompt_form import PUBLISHED_FORM, PromptForm
from judgelm.serve.batcher import Batcher, QueueFull, Update
from judgelm.serve.chat import ChatFormat, ConversationFormat
from judgelm.serve.lengths import count_tokens
from judgelm.serve.protocol import (
    CONVERSATION,
    HEART_BEAT_INTERVAL_S,
    OUR_WORKER,
    ErrorCode,
    WorkerError,
    error_body,
    form_fields,
    get_conv_template,
)
from judgelm.serve.servers import ask, read_secret
from judgelm.serve.settings import TOKEN_VARIABLE
from judgelm.serve.token_texts import TokenTexts
from judgelm.serve.worker_answers import Usage
from judgelm.serve.worker_counts import WorkerCounts
from judgelm.serve.worker_prompts import Prepared, Prompts

log = logging.getLogger(__name__)

_GOODBYE_S = 2
_BEAT_S = 5


class ModelWorker:
    """One model for all users, asked to judge in one form.

    Its registration and its heart beats do not stop when the controller does: they are tried again at each beat.
    """

    def __init__(
        self,
        judge: Judge,
        batcher: Batcher,
        controller_address: str,
        worker_address: str,
        model_names: Sequence[str],
        chat: ChatFormat | None = None,
        form: PromptForm = PUBLISHED_FORM,
        calibration: CalibrationFile | None = None,
    ) -> None:
        assert isinstance(judge.engine, SharedEngine)
        self.engine = judge.engine
        self.batcher = batcher
        self.controller_addr = controller_address
        self.worker_addr = worker_address
        self.model_names = list(model_names)
        self.chat = chat or ConversationFormat(get_conv_template(CONVERSATION))
        self.calibration = calibration
        self.form = replace(form, chat=judge.prompt_format == "chat")
        self.tasks = tasks_of(self.form)
        self.prompts = Prompts(judge, self.chat, batcher.max_waiting, self.form)
        self._stopped = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="heart-beat", daemon=True)
        self._counting = asyncio.Semaphore(1)

    def get_status(self) -> dict[str, Any]:
        return {"model_names": self.model_names, "speed": 1, "queue_length": self.batcher.queue_length}

    def get_counts(self) -> dict[str, Any]:
        """What it has done, for the API's metrics."""
        return WorkerCounts.of(self.batcher.tally, self.batcher.queue_length).model_dump()

    def get_details(self) -> dict[str, Any]:
        """What an API of ours must know to ask."""
        form = self.form
        return {
            "context_length": self.engine.context_length,
            OUR_WORKER: __version__,
            **dict.fromkeys(("chat", "criteria", "dialogues", "logprobs", "forms"), True),
            "prompt_format": "chat" if form.chat else "plain",
            "expected": self.engine.can_score,
            "tasks": self.tasks,
            "verdict_format": form.verdict_format,
            "reasoning": form.reasoning,
            "prompt_template": None if form.template is None else form.template.sha256,
            "calibration": None if self.calibration is None else self.calibration.to_record(),
        }

    def get_conv_template(self) -> dict[str, Any]:
        """For FastChat's clients, which make prompts themselves: a template of the tokenizer's is not for them."""
        chat = self.chat
        return {"conv": chat.conversation if isinstance(chat, ConversationFormat) else get_conv_template(CONVERSATION)}

    async def count_token(self, params: dict[str, Any]) -> dict[str, int]:
        """Beside the event loop, and one text at a time."""
        text = str(params.get("prompt", ""))
        async with self._counting:
            count = await asyncio.to_thread(count_tokens, text, self.engine.tokenizer, self.engine.context_length)
        return {"count": count, "error_code": 0}

    def init_heart_beat(self) -> None:
        """Register, and go on saying that the worker lives, in a thread of its own."""
        self._heart.start()

    def stop_heart_beat(self) -> None:
        """Say goodbye, so that the controller sends nobody here any more."""
        self._stopped.set()
        if self._heart.is_alive():
            self._heart.join(_BEAT_S + _GOODBYE_S)

    def _beat(self) -> None:
        known, wait = False, 0.0
        while not self._stopped.wait(wait):
            try:
                if known:
                    known = self.send_heart_beat()
                if not known:
                    self.register_to_controller()
                    known = True
                wait = HEART_BEAT_INTERVAL_S
            except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
                if known or wait == 0:
                    log.warning("controller %s: %s; trying again", self.controller_addr, type(error).__name__)
                known, wait = False, min(5.0, HEART_BEAT_INTERVAL_S)
        # FastChat's controller knows no goodbye, and in an orderly end of all parts ours may be gone
        with contextlib.suppress(httpx.HTTPError):
            self._post("/deregister_worker", {"worker_name": self.worker_addr}, _GOODBYE_S)

    def register_to_controller(self) -> None:
        """Raises httpx.HTTPError where the controller does not take it."""
        body = {
            "worker_name": self.worker_addr,
            "check_heart_beat": True,
            "worker_status": self.get_status(),
            "multimodal": False,
        }
        self._post("/register_worker", body)
        log.info("registered with %s as %s, models %s", self.controller_addr, self.worker_addr, self.model_names)

    def send_heart_beat(self) -> bool:
        body = {"worker_name": self.worker_addr, "queue_length": self.batcher.queue_length}
        return bool(self._post("/receive_heart_beat", body).json()["exist"])

    def _post(self, path: str, body: dict[str, Any], timeout_s: float = _BEAT_S) -> httpx.Response:
        token = read_secret(TOKEN_VARIABLE)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        response = ask(self.controller_addr + path, body, headers=headers, timeout_s=timeout_s)
        if response.status_code in (401, 403):
            log.error("controller %s refuses this worker: %s", self.controller_addr, response.text[:300])
        return response.raise_for_status()

    async def generate(self, prepared: Prepared) -> AsyncGenerator[dict[str, Any], None]:
        """The bodies of a stream, the last with a finish reason. Closing it ends the generation.

        Raises WorkerError where the queue is full.
        """
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()
        # the newest update only: a slow reader must not make the worker hold all the others
        newest: list[Update] = []

        def put(update: Update) -> None:
            newest[:] = [update]
            changed.set()

        def deliver(update: Update) -> None:
            with contextlib.suppress(RuntimeError):  # the server has ended
                loop.call_soon_threadsafe(put, update)

        texts = TokenTexts([] if prepared.reads_prompt else prepared.request.input_ids, self.engine.tokenizer)
        described = 0
        try:
            ticket = self.batcher.submit(
                prepared.request, prepared.sampling, deliver, prepared.scored, prepared.reads_prompt
            )
        except QueueFull as error:
            raise WorkerError(f"the worker is busy: {error}; try again later", ErrorCode.ENGINE_OVERLOADED) from None
        try:
            while True:
                await changed.wait()
                changed.clear()
                update = newest[0]
                body = _body(update, prepared)
                tokens = update.likelihoods[described:]
                if tokens and (update.last or prepared.logprobs_in_parts):
                    described += len(tokens)
                    body["logprobs"] = (await asyncio.to_thread(texts.describe, tokens)).model_dump()
                yield body
                if update.last:
                    return
        finally:
            self.batcher.cancel(ticket)


def _body(update: Update, prepared: Prepared) -> dict[str, Any]:
    if update.failed:
        return error_body("the worker failed; its log says why", ErrorCode.INTERNAL_ERROR)
    if update.finish_reason == "out_of_memory":
        return error_body("the prompt does not fit the worker's memory", ErrorCode.CUDA_OUT_OF_MEMORY)
    body: dict[str, Any] = {
        "text": prepared.echo + update.text,
        "error_code": 0,
        "usage": Usage.of(update.num_prompt_tokens, update.num_tokens).model_dump(),
        "finish_reason": update.finish_reason,
        **form_fields(prepared.verdict_format),
    }
    if update.reasoning is not None:
        body["reasoning"] = update.reasoning
    if prepared.shortened:
        body["shortened"] = shortened_record(prepared.shortened)
    if update.likelihood is not None:
        body["likely"] = update.likelihood.to_record("")
    return body
