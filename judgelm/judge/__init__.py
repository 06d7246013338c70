"""Samples -> judgements, in memory or on disk."""

from judgelm.judge.cache import cached
from judgelm.judge.choice import AnyJudge, JudgeChoice, ModelChoice, prepare
from judgelm.judge.folder import OUTPUT_FORMATS, judge_answer_file, judge_folder, write_beside
from judgelm.judge.judge import Judge, JudgeLike
from judgelm.judge.judged import Judged
from judgelm.judge.placement import Placement, place
from judgelm.judge.settings import JudgeSettings, Order, check_orders

__all__ = [
    "OUTPUT_FORMATS",
    "AnyJudge",
    "Judge",
    "JudgeChoice",
    "JudgeLike",
    "JudgeSettings",
    "Judged",
    "ModelChoice",
    "Order",
    "Placement",
    "cached",
    "check_orders",
    "judge_answer_file",
    "judge_folder",
    "place",
    "prepare",
    "write_beside",
]
