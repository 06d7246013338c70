"""Labels from people: rows, votes on them, and the labels that follow."""

from judgelm.labelling.labelling import Labelling, LabelSettings, Place, Progress, invite, open_labelling
from judgelm.labelling.labels import LabelRecord
from judgelm.labelling.people import People
from judgelm.labelling.votes import VoteRecord, Votes

__all__ = [
    "LabelRecord",
    "LabelSettings",
    "Labelling",
    "People",
    "Place",
    "Progress",
    "VoteRecord",
    "Votes",
    "invite",
    "open_labelling",
]
