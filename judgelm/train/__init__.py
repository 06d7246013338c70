"""Teacher judgements -> a judge."""

from judgelm.train.counts import RowCounts
from judgelm.train.rows import count_rows
from judgelm.train.sample import TrainingSample

__all__ = ["RowCounts", "TrainingSample", "count_rows"]
