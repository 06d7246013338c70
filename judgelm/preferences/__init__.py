"""Judgements -> preference pairs for other trainers, of answers or of the judge's own texts."""

from judgelm.preferences.answers import prefer_answers
from judgelm.preferences.preferences import Pair, PreferenceCounts, Preferences, check_output
from judgelm.preferences.texts import prefer_texts

__all__ = ["Pair", "PreferenceCounts", "Preferences", "check_output", "prefer_answers", "prefer_texts"]
