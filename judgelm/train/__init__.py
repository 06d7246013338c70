"""Teacher judgements -> a judge."""

from judgelm.train.rows import RowCounts, count_rows
from judgelm.train.sample import TrainingSample

__all__ = ["RowCounts", "TrainingSample", "count_rows"]
