"""Prompts of a wanted number of tokens, each different from its first word on, so that no prefix cache helps."""

from __future__ import annotations

import random

# Short words that common vocabularies keep whole; how many tokens they really take, the server says.
_TEXT = (
    "time year people way day man thing woman life child world school state family student group country problem "
    "hand part place case week company system program question work government number night point home water room "
    "mother area money story fact month lot right study book eye job word business issue side kind head house "
    "service friend"
)
_WORDS = _TEXT.split()


def prompt_of(words: int, seed: int) -> str:
    """`words` random words; the same for the same seed."""
    pick = random.Random(seed)
    return " ".join(pick.choices(_WORDS, k=max(1, words)))


def words_for(tokens: int, words: int, counted: int | None) -> int:
    """How many words make `tokens` tokens, when `words` of them made `counted`; a word a token where nobody counted."""
    if not counted or counted < 1:
        return tokens
    return max(1, round(words * tokens / counted))
