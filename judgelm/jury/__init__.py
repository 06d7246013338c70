"""Several judges as one: juries, and cascades replayed from verdicts that are there already."""

from judgelm.jury.jury import METHODS, run_jury
from judgelm.jury.members import Member, Members, read_members
from judgelm.jury.replay import replay_cascade

__all__ = ["METHODS", "Member", "Members", "read_members", "replay_cascade", "run_jury"]
