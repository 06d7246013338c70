"""Answer files of many models -> all pairs, judged in both orders, and a ranking."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from judgelm.answers import combine_lines, index_answers, model_names
from judgelm.errors import InputError
from judgelm.evaluation.results import read_folder
from judgelm.forms import Columns
from judgelm.jsonl import Record
from judgelm.judge.settings import JudgeSettings, Order
from judgelm.ranking.rank import RankSettings, rank
from judgelm.samples import PathLike, read_samples

if TYPE_CHECKING:
    from judgelm.judge.choice import AnyJudge, JudgeChoice
    from judgelm.judge.log import OrderFile
    from judgelm.ranking.ranking import Ranking


@dataclass(frozen=True)
class Arena:
    """Judged pairs of models."""

    folder: Path
    num_pairs: int
    """pairs of answers"""
    judged: Mapping[Order, OrderFile]
    judge: JudgeChoice
    settings: RankSettings

    @cached_property
    def ranking(self) -> Ranking:
        """Of all that is judged in the folder. Raises InputError where nothing can be ranked from."""
        return rank(read_folder(self.folder), self.settings)


def run_arena(
    answer_files: Sequence[PathLike],
    output_dir: PathLike,
    judge: AnyJudge,
    settings: JudgeSettings | None = None,
    ranking: RankSettings | None = None,
    *,
    pairs_per_question: int | None = None,
    limit: int | None = None,
    model_id: str | None = None,
    keep_judged: bool = False,
    columns: Columns | None = None,
    question_file: PathLike | None = None,
    keep_thinking: bool = False,
) -> Arena:
    """Pair the models' answers, judge in both orders what is not judged yet, and rank the models.

    Args:
        answer_files: one of each model; see `make_pairs`.
        output_dir: gets questions.jsonl, forward.jsonl, reversed.jsonl and run.json; an arena that was ended goes on.
        settings: how pairs are judged; its seed also draws the pairs.
        ranking: how judgements become a ranking.
        pairs_per_question: judge only so many pairs of models for each question (default: all).
        limit: judge only the first pairs.
        model_id: name of the judge in the records (default: the model's).
        keep_judged: go on though pairs were removed, changed or added, as by a model that joins.
        columns: of answer files whose fields have other names.
        question_file: the questions of answer files that have none, MT-bench's.
        keep_thinking: show the judge thoughts at the beginning of answers; see `read_samples`.

    Raises InputError for answer files that do not fit, for soft outcomes without scoring `expected`, and as
    `judge_folder`.
    """
    from judgelm.judge.choice import prepare
    from judgelm.judge.folder import judge_folder
    from judgelm.judge.kept import keep_questions

    settings, ranking = settings or JudgeSettings(), ranking or RankSettings()
    if ranking.outcomes == "soft" and settings.scoring != "expected":
        raise InputError("--outcomes soft needs --scoring expected, which gives probabilities")
    folder = Path(output_dir).expanduser()
    questions = folder / "questions.jsonl"
    pairs = make_pairs(answer_files, pairs_per_question, settings.seed, columns, question_file)
    keep_questions(questions, pairs, keep_judged, "holds other pairs")
    samples = read_samples(questions, seed=settings.seed, keep_thinking=keep_thinking)[:limit]
    chosen = prepare(judge)
    judged = judge_folder(samples, folder, chosen, settings, model_id=model_id, keep_judged=keep_judged)
    return Arena(folder, len(samples), judged, chosen, ranking)


def make_pairs(
    answer_files: Sequence[PathLike],
    pairs_per_question: int | None = None,
    seed: int = 0,
    columns: Columns | None = None,
    question_file: PathLike | None = None,
) -> list[Record]:
    """A judge sample for each question and pair of models; the id 17/1-3 is question 17, files 1 and 3.

    Raises InputError where the files do not answer the same questions, or two are of one model.
    """
    if len(answer_files) < 2:
        raise InputError(f"an arena needs two or more answer files, found {len(answer_files)}")
    indexes = index_answers(answer_files, columns, question_file)
    names = model_names(answer_files, indexes)
    records = []
    for key in indexes[0]:
        for one, other in _draw(key, len(names), pairs_per_question, seed):
            record = combine_lines([indexes[one][key], indexes[other][key]])
            models = {"answer1_model_id": names[one], "answer2_model_id": names[other]}
            records.append(record | models | {"question_id": f"{key}/{one + 1}-{other + 1}"})
    return records


def _draw(key: str, num_models: int, most: int | None, seed: int) -> list[tuple[int, int]]:
    pairs = list(combinations(range(num_models), 2))
    if most is None or most >= len(pairs):
        return pairs
    return sorted(random.Random(f"{seed}:{key}").sample(pairs, most))
