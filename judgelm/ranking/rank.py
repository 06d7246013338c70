"""Many models from judgements of two or more answers or from grades: win rates and ratings, with intervals."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from judgelm.calibration import Calibration
from judgelm.criteria import READABLE
from judgelm.errors import InputError, SettingError, one_line
from judgelm.evaluation.grades import GradedSample
from judgelm.evaluation.many import ManyAnswers
from judgelm.evaluation.results import JudgedSample
from judgelm.forms import Columns
from judgelm.ranking.matches import Match, make_matches, match_grades, match_many, read_judged
from judgelm.samples import PathLike

if TYPE_CHECKING:
    from judgelm.evaluation.rate import Rate
    from judgelm.ranking.ranking import Ranking


@dataclass(frozen=True, slots=True)
class RankSettings:
    """How judgements become a ranking; the same settings and judgements give the same ranking."""

    outcomes: Literal["hard", "soft"] = "hard"
    """hard: a win where both orders agree, a tie where they contradict, and of calibrated judgements what their map's
    threshold for ties says; soft: the mean probabilities of both orders, which scoring `expected` gives"""
    length_control: bool = False
    """take out what the answers' lengths do: ratings, and win rates at equal length"""
    seed: int = 0
    """of the intervals and of the order in which Elo reads"""
    resamples: int = 1000
    """drawings of the questions for the intervals"""

    def __post_init__(self) -> None:
        if self.outcomes not in ("hard", "soft"):
            raise SettingError("outcomes", f"{self.outcomes!r}: expected hard or soft")
        if type(self.resamples) is not int or self.resamples < 1:
            raise SettingError("resamples", f"{self.resamples!r}: expected a whole number from 1 on")


def rank(
    judged: PathLike | Sequence[PathLike | JudgedSample | GradedSample | ManyAnswers],
    settings: RankSettings | None = None,
    human: PathLike | None = None,
    columns: Columns | None = None,
    calibration: Calibration | None = None,
) -> Ranking:
    """Rank the models whose answers were judged in pairs or many at once, or graded one by one.

    Of grades each two answers to the same question by different models are a match, which the higher grade wins; they
    may stand in several folders. Of many answers each two of a sample are one, which the higher mean score
    over the orders that were read wins.

    Args:
        judged: a folder of `judge_folder` or `judgelm judge`, a file in forward order, several of them, or samples as
            `read_folder`, `read_grades` or `read_many` gives them. Records name the models in answer1_model_id,
            answer2_model_id .., of grades in answer_model_id, answer1_model_id or model.
        settings: which outcomes count, and whether lengths do (default: hard ones, lengths do).
        human: people's labels of a random part of judged pairs, which correct the rates and ratings: rows of
            `question_id` and `label`.
        columns: of that file, where its fields have other names.
        calibration: a map of the judge's probabilities (`read_calibration`), by which those in folders are calibrated;
            samples come as they are.

    Returns a `judgelm.ranking.ranking.Ranking`: win rates from 0 to 1, ratings around 1000; `write` makes ranking.json.
    Raises InputError where a file is missing or damaged, a model has no name, or nothing can be ranked from.
    """
    settings = settings or RankSettings()
    places = [judged] if isinstance(judged, str | os.PathLike) else judged
    samples = [
        one
        for each in places
        for one in (
            [each] if isinstance(each, JudgedSample | GradedSample | ManyAnswers) else read_judged(each, calibration)
        )
    ]
    if len({type(one) for one in samples}) > 1:
        raise InputError(
            "judgements of pairs, of many answers and grades cannot be ranked together: name folders of one kind"
        )
    if human is not None:
        _check_correctable(samples, settings)
    if graded := [one for one in samples if isinstance(one, GradedSample)]:
        return _rank_graded(graded, settings)
    if many := [one for one in samples if isinstance(one, ManyAnswers)]:
        return _rank_many(many, settings)
    pairs = [one for one in samples if isinstance(one, JudgedSample)]
    matches = make_matches(pairs, settings.outcomes)
    ranking = _with_maps(rank_matches(matches, settings, unread=len(pairs) - len(matches)), pairs)
    return ranking if human is None else _correct(ranking, pairs, human, columns)


def _check_correctable(samples: Sequence[object], settings: RankSettings) -> None:
    """Raises InputError where labels of pairs could not correct the ranking."""
    if not all(isinstance(one, JudgedSample) for one in samples):
        raise InputError("--human corrects rankings of judged pairs; of grades judgelm evaluate corrects the means")
    if settings.length_control:
        raise InputError("--human and --length-control do not go together: people judge answers at their lengths")


def _correct(ranking: Ranking, samples: Sequence[JudgedSample], human: PathLike, columns: Columns | None) -> Ranking:
    """With what people's labels of a part make of it."""
    from judgelm.evaluation.labels import read_labels
    from judgelm.evaluation.pair_corrections import LabelledPairs
    from judgelm.ranking.corrected import correct_ranking

    counts = Counter(sample.key for sample in samples)
    labels = read_labels(human, counts, columns)
    if double := next((key for key in labels if counts[key] > 1), None):
        raise InputError(f"{human}: question_id {one_line(double)} was judged in several of the folders: whose label?")
    return ranking.model_copy(update={"corrected": correct_ranking(LabelledPairs.of(samples, labels), ranking)})


def _with_maps(ranking: Ranking, samples: Sequence[JudgedSample]) -> Ranking:
    """With a note where probabilities were calibrated."""
    maps = sorted({each.calibrated.map for each in samples if each.calibrated})
    if not maps:
        return ranking
    note = f"verdicts are of calibrated probabilities, by the map {', '.join(maps)}"
    return ranking.model_copy(update={"notes": [*ranking.notes, note]})


def _rank_many(samples: Sequence[ManyAnswers], settings: RankSettings) -> Ranking:
    """By matches of mean scores, and beside each model its mean score over the questions."""
    from judgelm.evaluation.places import summarize_many

    _check_scored(samples, settings)
    unread = sum(scores is None for sample in samples for scores in sample.shown.values())
    ranking = rank_matches(match_many(samples), settings, unread)
    summary = summarize_many(samples, settings.resamples, settings.seed)
    return _with_grades(ranking, {each.name: each.score for each in summary.answers})


def _check_scored(samples: Sequence[GradedSample | ManyAnswers], settings: RankSettings) -> None:
    """Raises SettingError and InputError for what single scores cannot give."""
    if settings.outcomes == "soft":
        raise SettingError("outcomes", "soft: grades have no probabilities of who wins (expected hard)")
    if len({sample.scale for sample in samples}) > 1:
        raise InputError("grades on different scales cannot be ranked together")


def _with_grades(ranking: Ranking, grades: Mapping[str, Rate]) -> Ranking:
    models = [model.model_copy(update={"grade": grades[model.name]}) for model in ranking.models]
    return ranking.model_copy(update={"models": models})


def _rank_graded(samples: Sequence[GradedSample], settings: RankSettings) -> Ranking:
    """By matches of grades, and beside each model its mean grade."""
    _check_scored(samples, settings)
    unread = sum(sample.grade is None for sample in samples)
    ranking = rank_matches(match_grades(samples), settings, unread)
    return _with_grades(ranking, {model.name: _grade(samples, model.name, settings) for model in ranking.models})


def _grade(samples: Sequence[GradedSample], name: str, settings: RankSettings) -> Rate:
    """The mean of a model's grades, all of its questions drawn."""
    from judgelm.evaluation.rate import mean_rate

    read = [(one.grade, one.cluster) for one in samples if one.model == name and one.grade is not None]
    grades, clusters = zip(*read, strict=True)
    scale = samples[0].scale or READABLE
    return mean_rate(grades, clusters, (scale.least, scale.most), settings.resamples, settings.seed)


def rank_matches(matches: Sequence[Match], settings: RankSettings | None = None, unread: int = 0) -> Ranking:
    """Rank the models. The order of the matches, and of each one's models, does not matter.

    Intervals are percentiles of a bootstrap over questions, except those of win rates that are counted alone: see
    `share_interval`. Raises ValueError for no match and for one of a model with itself.
    """
    from judgelm.ranking.ranking import Ranking
    from judgelm.ranking.standings import Fitted, find_notes, rank_models, rank_pairs

    settings = settings or RankSettings()
    if not matches:
        raise ValueError("there is no match to rank from")
    if any(each.first == each.second for each in matches):
        raise ValueError("a model cannot be compared with itself")
    ordered = sorted(
        (each.sorted() for each in matches), key=lambda m: (m.question, m.first, m.second, m.outcomes, m.lengths)
    )
    fitted = Fitted.of(ordered, settings.length_control, settings.resamples, settings.seed)
    models = rank_models(fitted)
    return Ranking(
        rule=settings.outcomes,
        length_controlled=settings.length_control,
        judgements=len(ordered),
        unread=unread,
        models=models,
        pairs=rank_pairs(fitted, [model.name for model in models]),
        notes=find_notes(fitted),
    )
