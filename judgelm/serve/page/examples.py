"""Examples on the web page, written for it."""

from __future__ import annotations

_CHESS = "A chess knight stands in a corner of an empty board. How many squares can it move to, and why?"
_CHESS_GOOD = (
    "Two. A knight moves two squares in one direction and one to the side; from a corner six of its eight moves would"
    " leave the board."
)
_CHESS_WRONG = "Eight, because a knight always has eight moves: two squares in any direction and then one to the side."
_CHESS_SHORT = "Two squares."
_SOUP = "My soup is far too salty. What can I do before my guests come in twenty minutes?"
_SOUP_GOOD = (
    "Thin it: add unsalted stock or water, a ladle at a time, and taste after each. Cream, coconut milk or a can of"
    " unsalted beans also spread the salt further. A little lemon juice or sugar makes what is left less noticeable."
)
_SOUP_MYTH = "Put a potato in it. The potato pulls all the salt out of the soup within minutes, then throw it away."
_SOUP_REFERENCE = "Dilute it with unsalted liquid or more ingredients. A potato takes up salty water, not salt alone."
_BRIDGE = "What is the boat in the picture doing?"
_BRIDGE_REFERENCE = "A red fishing boat passes under a raised drawbridge; two people on the deck coil ropes."
_BRIDGE_GOOD = "It is a red fishing boat going under a drawbridge that has been opened for it."
_BRIDGE_WRONG = "The boat is a white ferry that waits at a pier for passengers."

EXAMPLES: dict[str, tuple[tuple[str, ...], ...]] = {
    "judge": ((_CHESS, _CHESS_GOOD, _CHESS_WRONG), (_SOUP, _SOUP_MYTH, _SOUP_GOOD)),
    "judge-reference": ((_SOUP, _SOUP_REFERENCE, _SOUP_MYTH, _SOUP_GOOD),),
    "multi": ((_CHESS, _CHESS_GOOD, _CHESS_WRONG), (_SOUP, _SOUP_MYTH, _SOUP_GOOD)),
    "multi-reference": ((_SOUP, _SOUP_REFERENCE, _SOUP_MYTH, _SOUP_GOOD),),
    "single": ((_CHESS, _CHESS_GOOD, _CHESS_SHORT), (_CHESS, _CHESS_GOOD, _CHESS_WRONG)),
    "multimodal": ((_BRIDGE, _BRIDGE_REFERENCE, _BRIDGE_GOOD, _BRIDGE_WRONG),),
}
"""a tab's slug -> the texts of its form, from the top"""
