"""A judged folder and labels -> a map of its probabilities, fitted on some questions and checked on the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np

from judgelm.calibration import METHODS, Isotonic, Temperature, decide
from judgelm.errors import InputError, SettingError
from judgelm.evaluation.calibrated import check_pairs, check_probabilities, folder_settings
from judgelm.evaluation.calibration_map import CalibrationFile, IsotonicMap, MapCheck, MapCurve, TemperatureMap
from judgelm.evaluation.metrics.agreement import OUTCOMES, Codes, encode
from judgelm.evaluation.metrics.calibration import Confidences, brier, calibration_error
from judgelm.evaluation.metrics.intervals import SHARE, Floats, Mask, Statistic, quotient
from judgelm.evaluation.metrics.maps import fit_isotonic, fit_temperature, fit_tie_threshold, part_questions
from judgelm.evaluation.rate import rates_of
from judgelm.evaluation.results import JudgedSample, index_teacher, read_folder
from judgelm.forms import Columns
from judgelm.samples import PathLike

PARTS = 5
"""of the questions: each is checked by a map of the other four"""
LEAST_QUESTIONS = 50
"""with a label, of which a map is made"""
ISOTONIC_FROM = 1000
"""labelled questions from which isotonic steps are better than two numbers (Niculescu-Mizil & Caruana 2005)"""


@dataclass(frozen=True, slots=True)
class Labelled:
    """Samples with probabilities and a truth."""

    probabilities: Floats
    """the judge's own, of win, tie and lose of answer 1 in the file's order [n, orders, 3]"""
    truth: Codes
    """places in `OUTCOMES` [n]"""
    questions: Sequence[str]
    """samples of one are not independent, and never on both sides of a check [n]"""

    @classmethod
    def of(cls, samples: Sequence[JudgedSample]) -> Labelled:
        """Those of the samples that have both."""
        known = [each for each in samples if each.truth and each.own_probabilities]
        given = [[reading.probabilities or {} for reading in each.readings] for each in known]
        rows = [[[order[outcome] for outcome in OUTCOMES] for order in sample] for sample in given]
        truth = encode([each.truth.outcome for each in known if each.truth], -1)
        # what was rounded may be a little more than 1
        return cls(np.clip(np.array(rows, dtype=np.float64), 0, 1), truth, [each.cluster for each in known])

    def some(self, kept: Mask) -> Labelled:
        """Those that are kept [n]."""
        return Labelled(self.probabilities[kept], self.truth[kept], list(compress(self.questions, kept)))


def calibrate(
    folder: PathLike,
    labels: PathLike | None = None,
    method: str | None = None,
    columns: Columns | None = None,
    seed: int = 0,
) -> CalibrationFile:
    """A map of the probabilities in a folder that `judgelm judge --scoring expected` wrote.

    Args:
        labels: rows of `question_id` with `label` (1, 2, 0 for a tie, null) or `text`, of any part of what was judged;
            without it what the judged rows bring along.
        method: temperature or isotonic (default: isotonic from 1000 labelled questions on).
        columns: of a file of labels whose fields have other names.
        seed: splits the questions, and draws them for the intervals.

    Raises InputError for what `read_folder` refuses, a folder of another task, without probabilities or run.json, and
    for too few labels or labels that are all the same.
    """
    if method not in (None, *METHODS):
        raise SettingError("method", f"{method!r}: expected one of {', '.join(METHODS)}")
    check_pairs(folder)
    given = None if labels is None else index_teacher(labels, columns, "label").keys()
    samples = read_folder(folder, labels, only=given, columns=columns)
    if given is not None and not samples:
        raise InputError(f"{labels}: none of its {len(given)} rows is of a question_id judged in {folder}")
    check_probabilities(folder, samples)
    labelled = Labelled.of(samples)
    _check(labelled, str(labels or folder))
    return make_map(labelled, method, folder_settings(folder, samples), seed)


def _check(labelled: Labelled, place: str) -> None:
    """Raises InputError where nothing can be learnt from the labels."""
    questions = len(set(labelled.questions))
    if questions < LEAST_QUESTIONS:
        raise InputError(
            f"{place}: a calibration needs labels of {LEAST_QUESTIONS} judged questions or more, found {questions}"
        )
    if len(found := np.unique(labelled.truth)) < 2:
        said = OUTCOMES[found[0]].value
        raise InputError(
            f"{place}: a calibration needs labels of two outcomes or more, all {len(labelled.truth)} say {said}"
        )


def default_method(questions: int) -> str:
    """For so many labelled questions."""
    return "isotonic" if questions >= ISOTONIC_FROM else "temperature"


def make_map(labelled: Labelled, method: str | None, settings: Mapping[str, object], seed: int = 0) -> CalibrationFile:
    """The map of all labelled samples, and what maps of four fifths of the questions do on the last fifth, for each of
    the five.
    """
    questions = len(set(labelled.questions))
    chosen = method or default_method(questions)
    after, verdicts = cross_fit(labelled, chosen, seed)
    found = fit(labelled, chosen)
    threshold = fit_tie_threshold(mapped(found, labelled.probabilities), labelled.truth)
    counts = Counter(OUTCOMES[each].value for each in labelled.truth.tolist())
    return CalibrationFile(
        map=_section(found),
        tie_threshold=threshold,
        settings=dict(settings),
        labels=len(labelled.truth),
        questions=questions,
        outcomes={outcome.value: counts[outcome.value] for outcome in OUTCOMES},
        parts=PARTS,
        checked=_compare(labelled, after, verdicts, seed),
    )


def cross_fit(labelled: Labelled, method: str, seed: int = 0) -> tuple[Floats, Codes]:
    """Calibrated probabilities [n, 3], the mean over the orders, and verdicts [n], of each sample by a map and a tie
    threshold of other questions.
    """
    part = part_questions(labelled.questions, PARTS, seed)
    after, verdicts = np.zeros((len(part), len(OUTCOMES))), np.zeros(len(part), dtype=np.int64)
    for each in range(PARTS):
        others, held_out = labelled.some(part != each), part == each
        found = fit(others, method)
        threshold = fit_tie_threshold(mapped(found, others.probabilities), others.truth)
        after[held_out] = mapped(found, labelled.probabilities[held_out])
        rows = (dict(zip(OUTCOMES, row, strict=True)) for row in after[held_out].tolist())
        verdicts[held_out] = encode([decide(row, threshold) for row in rows], -1)
    return after, verdicts


def fit(labelled: Labelled, method: str) -> Temperature | Isotonic:
    """The map of all of them."""
    if method == "temperature":
        return fit_temperature(labelled.probabilities, labelled.truth)
    return fit_isotonic(labelled.probabilities, labelled.truth)


def mapped(found: Temperature | Isotonic, probabilities: Floats) -> Floats:
    """Calibrated probabilities [n, 3], the mean over the orders of [n, orders, 3]."""
    rows = [[found(*order) for order in sample] for sample in probabilities.tolist()]
    return np.asarray(np.mean(rows, axis=1), dtype=np.float64)


def _section(found: Temperature | Isotonic) -> TemperatureMap | IsotonicMap:
    if isinstance(found, Temperature):
        return _temperature(found)
    decided, tie = (MapCurve(x=list(each.x), y=list(each.y)) for each in (found.decided, found.tie))
    return IsotonicMap(decided=decided, tie=tie, mean=_temperature(found.mean))


def _temperature(found: Temperature) -> TemperatureMap:
    return TemperatureMap(temperature=found.temperature, tie=found.tie)


def _compare(labelled: Labelled, after: Floats, verdicts: Codes, seed: int) -> dict[str, MapCheck]:
    """All numbers from the same draws of questions."""
    truth, everyone = labelled.truth, np.ones(len(labelled.truth))
    own, new = (Confidences(each, truth, everyone > 0) for each in (labelled.probabilities.mean(axis=1), after))
    pairs = {
        "brier": (brier(own), brier(new)),
        "calibration_error": (calibration_error(own), calibration_error(new)),
        "agreement_likeliest": (quotient(own.right, everyone), quotient(new.right, everyone)),
        "agreement": (quotient(own.right, everyone), quotient(verdicts == truth, everyone)),
    }
    asked = {
        (name, part): statistic
        for name, (before, now) in pairs.items()
        for part, statistic in (("before", before), ("after", now), ("difference", _difference(before, now)))
    }
    found = rates_of(asked, labelled.questions, seed=seed)
    parts = ("before", "after", "difference")
    return {name: MapCheck(**{part: found[name, part] for part in parts}) for name in pairs}


def _difference(before: Statistic, after: Statistic) -> Statistic:
    """After - before."""
    width = before.columns.shape[1]

    def formula(sums: Floats) -> Floats:
        return np.asarray(after.formula(sums[..., width:]) - before.formula(sums[..., :width]))

    columns = np.concatenate([before.columns, after.columns], axis=1)
    (low, high), (least, most) = before.span or SHARE, after.span or SHARE
    biased = before.biased or after.biased
    return Statistic(columns, formula, before.count, (least - high, most - low), before.trials, biased)
