"""HTML for notebooks and pages: escaped text, tables with bars; no scripts, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from math import isfinite

BAR = "#4c78a8"
CELL = "padding:2px 8px;text-align:{align};vertical-align:top"
TABLE = "border-collapse:collapse;font-variant-numeric:tabular-nums;margin:0.4em 0"


@dataclass(frozen=True)
class Bar:
    """A number as a bar: `share` of the widest, 0 to 1, and the text beside it."""

    share: float
    text: str


Cell = str | Bar


def paragraph(text: str) -> str:
    """A paragraph of escaped text."""
    return f"<p style='margin:0.3em 0'>{escape(text)}</p>"


def preformatted(text: str) -> str:
    """Escaped text whose columns stand below each other."""
    return f"<pre style='margin:0.4em 0'>{escape(text)}</pre>"


def table(head: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """A table; numbers, bars and their heads stand on the right, words on the left.

    >>> "width:50%" in table(["name", "share"], [["<a>", Bar(0.5, "50%")]])
    True
    >>> "&lt;a&gt;" in table(["name"], [["<a>"]])
    True
    """
    body = [list(row) for row in rows]
    right = [all(_is_number(row[i]) for row in body) for i in range(len(head))]
    heads = "".join(_cell("th", name, side) for name, side in zip(head, right, strict=True))
    lines = "".join(
        "<tr>" + "".join(_cell("td", cell, side) for cell, side in zip(row, right, strict=True)) + "</tr>"
        for row in body
    )
    return (
        f"<div style='overflow-x:auto;max-width:100%'><table style='{TABLE}'><thead><tr>{heads}</tr></thead>"
        f"<tbody>{lines}</tbody></table></div>"
    )


def details(summary: str, inner: str, is_open: bool = False) -> str:
    """What can be folded; `inner` is HTML."""
    return f"<details{' open' if is_open else ''}><summary>{escape(summary)}</summary>{inner}</details>"


def _cell(tag: str, cell: Cell, right: bool) -> str:
    style = CELL.format(align="right" if right else "left")
    style += ";white-space:nowrap" if right else ""
    if isinstance(cell, str):
        return f"<{tag} style='{style}'>{escape(cell)}</{tag}>"
    width = 100 * min(1.0, max(0.0, cell.share)) if isfinite(cell.share) else 0.0
    bar = (
        "<span style='display:inline-block;width:6em;text-align:left;margin-right:0.5em'>"
        f"<span style='display:inline-block;height:0.7em;background:{BAR};width:{width:.3g}%'></span></span>"
    )
    return f"<{tag} style='{style}'>{bar}{escape(cell.text)}</{tag}>"


def _is_number(cell: Cell) -> bool:
    if isinstance(cell, Bar):
        return True
    if not cell or cell.startswith("…"):
        return True
    number, _, unit = cell.partition(" ")
    return _is_float(number.replace(",", "").rstrip("%")) and not unit.startswith(tuple("-0123456789"))


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
