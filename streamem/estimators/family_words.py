"""Families in words: ``"poisson"``, or ``"income:lognormal,visits:poisson"`` for columns of several kinds."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

from streamem.core.errors import ParameterError
from streamem.core.ports import FullFamily
from streamem.families import (
    Bernoulli,
    Beta,
    Categorical,
    Exponential,
    Gamma,
    Gaussian,
    Geometric,
    LogNormal,
    Multinomial,
    NegativeBinomial,
    Poisson,
    Product,
    StudentT,
    VonMises,
    VonMisesFisher,
    Weibull,
)

WORDS: dict[str, Callable[[], FullFamily]] = {
    "bernoulli": Bernoulli,
    "beta": Beta,
    "categorical": Categorical,
    "exponential": Exponential,
    "gamma": Gamma,
    "gaussian": Gaussian,
    "gaussian-diag": partial(Gaussian, "diag"),
    "gaussian-spherical": partial(Gaussian, "spherical"),
    "gaussian-tied": partial(Gaussian, "tied"),
    "geometric": Geometric,
    "lognormal": LogNormal,
    "multinomial": Multinomial,
    "negative-binomial": NegativeBinomial,
    "poisson": Poisson,
    "student-t": StudentT,
    "student-t-diag": partial(StudentT, "diag"),
    "student-t-spherical": partial(StudentT, "spherical"),
    "student-t-tied": partial(StudentT, "tied"),
    "von-mises": VonMises,
    "von-mises-fisher": VonMisesFisher,
    "weibull": Weibull,
}
"""All that words can name: a model file that holds words holds no code."""

FORM = (
    'a family in words is one word for all columns, "poisson", or columns with a word each, '
    '"income:lognormal,lat+lon:gaussian,2:poisson"'
)


def family_of_text(text: str) -> FullFamily:
    """The family that words name: the same object for the same words.

    Parameters
    ----------
    text : a word of `WORDS`, or ``columns:word`` for each family, separated by commas
        Columns are a name, or an index 0, 1, … in digits; ``+`` joins those of a family of several columns.

    Raises
    ------
    ParameterError : other words

    Examples
    --------
    >>> family_of_text("gaussian-diag").covariance_type
    'diag'
    >>> [part.told for part in family_of_text("visits:poisson,lat+lon:gaussian").parts]
    ["Poisson of 'visits'", "Gaussian of 'lat', 'lon'"]
    """
    return _made(text)


def columns_of_text(text: str) -> list[str] | None:
    """The columns that words name, in their order; None where one is an index, or none is named."""
    items = _items(text)
    named = [column for columns, _ in items for column in columns]
    return [str(column) for column in named] if named and all(isinstance(one, str) for one in named) else None


@lru_cache(maxsize=64)
def _made(text: str) -> FullFamily:
    items = _items(text)
    if not items[0][0]:
        return WORDS[items[0][1]]()
    mapping: dict[Any, FullFamily] = {}
    for columns, word in items:
        if columns in mapping:
            raise ParameterError(f"{text!r:.200} names {'+'.join(map(str, columns))} twice; {FORM}")
        mapping[columns] = WORDS[word]()
    return Product(mapping)


def _items(text: str) -> list[tuple[tuple[str | int, ...], str]]:
    """Columns and word of each family; no columns where one word is for all."""
    found = [_item(item, text) for item in text.split(",")]
    if len(found) > 1 and not all(columns for columns, _ in found):
        raise ParameterError(f"{text!r:.200} names a family without its columns; {FORM}")
    return found


def _item(item: str, text: str) -> tuple[tuple[str | int, ...], str]:
    columns, colon, word = item.rpartition(":")
    named = tuple(_column(name.strip()) for name in columns.split("+")) if colon else ()
    if "" in named:
        raise ParameterError(f"{text!r:.200} has a colon without a column before it; {FORM}")
    return named, _known(word.strip())


def _column(name: str) -> str | int:
    return int(name) if name.isascii() and name.isdigit() else name


def _known(word: str) -> str:
    if word in WORDS:
        return word
    close = difflib.get_close_matches(word, WORDS, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    raise ParameterError(f"no family is called {word!r:.100}{hint} Known are {', '.join(WORDS)}; {FORM}")
