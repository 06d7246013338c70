"""Many models' answers and a teacher -> what a judge learns from."""

from judgelm.teaching.report import TeachReport
from judgelm.teaching.settings import TeachSettings
from judgelm.teaching.teach import teach

__all__ = ["TeachReport", "TeachSettings", "teach"]
