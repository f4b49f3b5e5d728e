"""Numbers of things in messages: 1 factor, 2 factors."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """The number and its noun, in the plural unless the number is 1.

    >>> counted(1, "class"), counted(1200, "class"), counted(0, "row")
    ('1 class', '1,200 classes', '0 rows')
    """
    plural = f"{noun}es" if noun.endswith("ss") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"
