"""Many models, from judgements of their answers in pairs: win rates and ratings."""

from judgelm.ranking.arena import Arena, make_pairs, run_arena
from judgelm.ranking.matches import Match
from judgelm.ranking.rank import RankSettings, rank, rank_matches

__all__ = ["Arena", "Match", "RankSettings", "make_pairs", "rank", "rank_matches", "run_arena"]
