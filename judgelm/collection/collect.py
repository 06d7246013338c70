"""Questions and models -> an answer file of each model, asked once and kept as they come."""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from judgelm.collection.budget import Budget
from judgelm.collection.collected import Collection, ModelAnswers, NoAnswer
from judgelm.collection.local import LocalModel, ask_local, find_local
from judgelm.collection.models import AnswerModel, check_names
from judgelm.collection.questions import Question, check_questions, hash_questions
from judgelm.collection.replies import Ask, Reply, ReplyLog, Spent
from judgelm.collection.servers import Failure, Waiting, ask_servers
from judgelm.engine.openai.server import Server
from judgelm.errors import InputError, SettingError, one_line
from judgelm.files import PathLike, locked
from judgelm.jsonl import Record, holds_lines, write_lines
from judgelm.judge.description import versions

_SHOWN = 60
"""characters of a setting that is another"""


@dataclass(frozen=True, slots=True)
class CollectSettings:
    """How answers are collected."""

    samples: int = 1
    """answers of each model to each question"""
    seed: int = 0
    """of the sampling; each answer's own comes from it and the question_id"""
    limit: int | None = None
    """ask only the first questions"""
    max_cost: float | None = None
    """ask for no more than this can pay, in the currency of the prices"""
    retry_failed: bool = False
    """ask again where there is no answer"""

    def __post_init__(self) -> None:
        for name in ("samples", "limit"):
            value = getattr(self, name)
            if (type(value) is not int or value < 1) and (name, value) != ("limit", None):
                raise SettingError(name, f"{value!r}: expected a whole number from 1 on")
        if self.max_cost is not None and not 0 < self.max_cost < math.inf:
            raise SettingError("max_cost", f"{self.max_cost!r}: expected a number above 0")


def collect(
    questions: Sequence[Question],
    models: Sequence[AnswerModel],
    output_dir: PathLike,
    settings: CollectSettings | None = None,
) -> Collection:
    """Ask each model each question that it has not answered yet, and write what all of them answered.

    Args:
        questions: of `read_questions`, or made by the caller.
        models: of `read_models`, or made by the caller.
        output_dir: gets answers/NAME.jsonl for each model, collect.json, and log.jsonl, from which one that was ended
            goes on.

    Raises InputError, before anything is asked, for a model that cannot be had, a missing key or price, and a folder of
    another collection; at the end where a server failed or the money did not last, and all answers are kept.
    """
    settings = settings or CollectSettings()
    asked = questions[: settings.limit]
    check_names(list(models))
    check_questions(questions, settings.samples)
    _check_models(models, asked, settings)
    prepared = {model.name: _prepare(model) for model in models}
    folder = Path(output_dir).expanduser()
    with locked(folder / "collect.json"):
        log = ReplyLog(folder / "log.jsonl")
        begun = _describe(questions, asked, prepared, settings)
        _check_same(folder, log, begun, models)
        log.check({model.name: model for model in models}, {question.key for question in questions})
        begun.write(folder / "collect.json")
        asks = {
            model.name: [Ask(model, each, k + 1) for each in asked for k in range(settings.samples)] for model in models
        }
        for model in models:
            if any(ask.name not in log for ask in asks[model.name]):
                # that of a smaller collection would be taken for all there is; its answers stand in the log
                (folder / _answer_file(model)).unlink(missing_ok=True)
        problems = _ask_rest(prepared, asks, log, settings)
        found = _write(folder, begun, asks, log)
    if problems:
        wanted = sum(map(len, asks.values()))
        there = sum(each.answers for each in found.models)
        raise InputError(f"{'; '.join(problems)}; {there} of {wanted} answers are there")
    return found


def _check_models(models: Sequence[AnswerModel], asked: Sequence[Question], settings: CollectSettings) -> None:
    """Raises InputError for what these settings need of models."""
    shows = next((each.key for each in asked if each.images), None)
    for model in models:
        if shows is not None and model.engine != "openai":
            raise InputError(f"model {model.name}: question_id {shows} has images, which go to servers alone")
        if settings.samples > 1 and not model.temperature:
            raise InputError(f"model {model.name}: several samples need a temperature above 0, or all are the same")
        if settings.max_cost is not None and model.engine == "openai" and model.price is None:
            raise InputError(f"model {model.name}: max_cost needs its price (price: [0, 0] where it costs nothing)")
        if settings.max_cost is not None and model.most_tokens is None:
            said = "max_cost needs a bound of an answer: a whole max_tokens or max_completion_tokens, one n"
            raise InputError(f"model {model.name}: request_fields: {said}")


Prepared = tuple[AnswerModel, Server | LocalModel]


def _prepare(model: AnswerModel) -> Prepared:
    """Raises InputError where it cannot be had."""
    return model, model.server() if model.engine == "openai" else find_local(model)


def _describe(
    questions: Sequence[Question],
    asked: Sequence[Question],
    prepared: Mapping[str, Prepared],
    settings: CollectSettings,
) -> Collection:
    """As it is before anything is asked."""
    models = []
    for model, found in prepared.values():
        record = model.to_record()
        if isinstance(found, LocalModel):
            record |= {"dtype": found.dtype, "model_fingerprint": found.folder.fingerprint()}
        price = None if model.price is None else list(model.price)
        models.append(ModelAnswers(name=model.name, settings=json.loads(json.dumps(record)), price=price))
    return Collection(
        questions=len(asked),
        questions_sha256=hash_questions(questions),
        samples=settings.samples,
        seed=settings.seed,
        models=models,
        versions=versions(),
    )


def _check_same(folder: Path, log: ReplyLog, now: Collection, models: Sequence[AnswerModel]) -> None:
    """Raises InputError where the folder holds answers to other questions, or of models with other settings."""
    path, way_out = folder / "collect.json", "name another folder"
    if not path.exists():
        for there in (log.path, *(folder / _answer_file(each) for each in models)):
            if holds_lines(there):
                raise InputError(f"{there} exists already without {path.name}: move it, or {way_out}")
    if not len(log):
        return
    before = Collection.read(path)
    if before.questions_sha256 != now.questions_sha256:
        raise InputError(f"{folder} is a collection of answers to other questions: {way_out}")
    if before.seed != now.seed:
        raise InputError(f"{folder} is a collection with seed {before.seed}, now {now.seed}: {way_out}")
    settings = {each.name: each.settings for each in now.models}
    for each in before.models:
        if each.name in log.spent and each.name not in settings:
            raise InputError(f"{folder} has answers of {one_line(each.name)}, which is none of the models: {way_out}")
        for name, value in settings[each.name].items() if each.name in log.spent else ():
            if each.settings.get(name) != value:
                was, is_now = (repr(one)[:_SHOWN] for one in (each.settings.get(name), value))
                said = f"{each.name}: {name} was {was}, now {is_now}"
                raise InputError(one_line(f"{folder} is a collection with other settings: {said} ({way_out})"))


def _ask_rest(
    prepared: Mapping[str, Prepared], asks: Mapping[str, list[Ask]], log: ReplyLog, settings: CollectSettings
) -> list[str]:
    """Ask for all that is not there; what kept some of it from being asked, if anything did."""

    def is_done(ask: Ask) -> bool:
        return ask.name in log and not (settings.retry_failed and ask.name in again)

    again = {ask.name for each in asks.values() for ask in each if log.has_failed(ask.name)}
    total = sum(map(len, asks.values()))
    done = sum(is_done(ask) for each in asks.values() for ask in each)
    if done:
        print(f"judgelm: {done} of {total} answers are there already and are skipped", file=sys.stderr)
    if done == total:
        return []
    prices = {name: model.price for name, (model, _) in prepared.items()}
    budget = Budget(settings.max_cost, _total_cost(log, prices) or 0.0)
    servers = [
        Waiting(model, found, [ask for ask in asks[name] if not is_done(ask)], name in log.spent)
        for name, (model, found) in prepared.items()
        if isinstance(found, Server)
    ]
    local = [found for _, found in prepared.values() if isinstance(found, LocalModel)]
    problems: list[str] = []
    log.open()
    progress = tqdm(total=total, initial=done, unit=" answers", smoothing=0.1, dynamic_ncols=True)
    with closing(log), progress, closing(ask_servers(servers, settings.seed, budget)) as replies:
        rest = (ask_local(each, asks[each.model.name], settings.seed, is_done) for each in local)
        for reply in itertools.chain(replies, itertools.chain.from_iterable(rest)):
            if isinstance(reply, Failure):
                tqdm.write(one_line(f"judgelm: model {reply.model}: {reply.reason}"), sys.stderr)
                problems.append(f"model {reply.model}: {reply.reason}")
                continue
            log.append(reply)
            again.discard(reply.name)
            progress.update()
            if (cost := _total_cost(log, prices)) is not None:
                progress.set_postfix_str(f"cost {cost:.4g}", refresh=False)
    if budget.is_spent:
        problems.append(f"max_cost {settings.max_cost:g} has no room for more (cost so far {budget.spent:.6g})")
    return problems


def _total_cost(log: ReplyLog, prices: Mapping[str, tuple[float, float] | None]) -> float | None:
    """Of all that was ever replied in this folder; None without prices."""
    costs = [log.spent.get(name, Spent()).cost(price) for name, price in prices.items()]
    given = [each for each in costs if each is not None]
    return round(sum(given), 6) if given else None


def _write(folder: Path, begun: Collection, asks: Mapping[str, list[Ask]], log: ReplyLog) -> Collection:
    """The answers of each model of which all are there, and collect.json."""
    models = [_write_model(folder, each, asks[each.name], log) for each in begun.models]
    costs = [each.cost for each in models if each.cost is not None]
    finished = all(each.file for each in models)
    cost = round(sum(costs), 6) if costs else None
    found = begun.model_copy(update={"finished": finished, "models": models, "cost": cost})
    found.write(folder / "collect.json")
    return found


def _write_model(folder: Path, begun: ModelAnswers, asks: list[Ask], log: ReplyLog) -> ModelAnswers:
    there = [ask for ask in asks if ask.name in log]
    spent, model = log.spent.get(begun.name, Spent()), asks[0].model
    failed: list[NoAnswer] = []
    empty: list[str] = []
    counts: Counter[str] = Counter()

    def rows() -> Iterator[Record]:
        for ask, reply in log.replies(there) if there else ():
            if not reply.is_answer:
                failed.append(NoAnswer(question_id=ask.key, finish_reason=reply.finish_reason, reason=reply.reason))
            elif not reply.text.strip():
                empty.append(ask.key)
            counts["cut_off"] += reply.finish_reason == "length"
            counts["thoughts"] += reply.thoughts is not None
            yield _row(ask, reply)

    file = _answer_file(model) if len(there) == len(asks) else None
    if file is None:
        deque(rows(), maxlen=0)
    else:
        write_lines(folder / file, rows())
    said = {"file": file, "answers": len(there), "failed": failed, "empty": empty, "cost": spent.cost(model.price)}
    return begun.model_copy(update=said | counts | asdict(spent))


def _answer_file(model: AnswerModel) -> str:
    """In the folder."""
    return f"answers/{model.slug}.jsonl"


def _row(ask: Ask, reply: Reply) -> Record:
    """A row of an answer file."""
    question = ask.question.to_record()
    if ask.sample > 1:
        question["question_id"] = ask.key
    said = {"text": reply.text, "model": ask.model.name, "decoding_method": ask.model.decoding_method}
    more = {"thoughts": reply.thoughts, "reason": reply.reason}
    counts = {"prompt_tokens": reply.prompt_tokens, "generated_tokens": reply.generated_tokens}
    said |= {name: value for name, value in more.items() if value is not None}
    return {**question, **said, "finish_reason": reply.finish_reason, **counts}
