"""A docstring is understandable alone: it names its subject, and does not open with a word that refers elsewhere."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import streamem
from helpers.syntax import nodes

PACKAGE = Path(streamem.__file__).parent
PRONOUNS = "it|its|they|their|them|this|that|these|those|he|she"
REFERRING = re.compile(
    rf"""
    As\b | Like\b | The\ same\b | Same\b | So\ (many|much|few)\b | Such\b
    | (It|Its|They|Their|Them|Those|That|Itself|Ours|Theirs)\b
    | (This|These)\ (is|are|was|were|has|have|one|ones)\b
    | (Whether|What|How|Where|When|Why|Which|For|In|From|About)\ ({PRONOUNS})\b
    | (What|How|Which)\ (many|much)?\ ?({PRONOUNS})\b
    | All\ of\ ({PRONOUNS})\b | Everything\ (so\ far|accumulated|that\ one)\b
    | (Of|With|By|Without|To|Into|On)\b
    | (Nothing|None|Neither|Both|Either|Yes|No|Not|Only|Else|Then|And|Or|But)\b
    """,
    re.VERBOSE,
)
"""Openings that mean nothing in a tooltip: the words before or around them are not there."""

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@cache
def docstrings() -> dict[str, str]:
    """First lines of the docstrings of all modules, classes and functions, by file, line and name."""
    return {
        f"{path.relative_to(PACKAGE)}:{line} {name}": text
        for path in sorted(PACKAGE.rglob("*.py"))
        for line, name, text in found(path.read_text())
    }


def found(code: str) -> Iterator[tuple[int, str, str]]:
    for node in nodes(code):
        if isinstance(node, Documented) and (text := ast.get_docstring(node)):
            yield getattr(node, "lineno", 1), getattr(node, "name", "module"), text.splitlines()[0]


def test_no_docstring_opens_with_a_word_that_refers_elsewhere() -> None:
    assert len(docstrings()) > 2000
    assert {where: text for where, text in docstrings().items() if REFERRING.match(text)} == {}


@pytest.mark.parametrize(
    "text",
    [
        "As usual.",
        "As everywhere, once the attributes fit.",
        "Whether it is kept.",
        "Whether they are.",
        "The same block by block.",
        "It is computed once.",
        "They know no model.",
        "Those of the base.",
        "That of the codec.",
        "So many rows of a source.",
        "What it holds at most.",
        "With values in place of futures.",
        "Of the stored chunks that hold the positions.",
        "Nothing to do.",
        "None where there is none.",
        "Everything accumulated so far.",
    ],
)
def test_such_an_opening_is_seen(text: str) -> None:
    code = f'def function():\n    """{text}"""\n'
    assert [REFERRING.match(line) is not None for _, _, line in found(code)] == [True]


@pytest.mark.parametrize(
    "text",
    [
        "Rows of a NumPy array.",
        "Whether loading is a view.",
        "What a file holds at most.",
        "This layout, with its bytes in memory.",
        "Assert that two values are equal.",
        "Ordered keys.",
        "Bytes that the handle takes.",
    ],
)
def test_an_opening_that_names_its_subject_is_let_through(text: str) -> None:
    assert not REFERRING.match(text)
