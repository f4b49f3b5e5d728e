"""DESIGN.md stays a page, names every room, and what it and the rooms' README.md name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import streamem

PACKAGE = Path(streamem.__file__).parent
MOST_BYTES = 8192
ROOMS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
PAGES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.md"))
FILES = [
    path.relative_to(PACKAGE.parent).as_posix() for path in PACKAGE.parent.rglob("*.py") if ".git" not in path.parts
]
SECTIONS = ["The one idea", "Map", "Laws", "Where do I add …", "Glossary", "Letters"]
NAMED = re.compile(r"`([\w/]+\.py)`")


def test_the_design_is_a_page() -> None:
    text = (PACKAGE / "DESIGN.md").read_text()
    assert len(text.encode()) <= MOST_BYTES
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS
    assert all(f"](#{section.lower().replace(' ', '-').replace('…', '')})" in text for section in SECTIONS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_has_a_line_on_the_map(room: str) -> None:
    the_map = (PACKAGE / "DESIGN.md").read_text().partition("## Map")[2].partition("## Laws")[0]
    assert len(re.findall(rf"^ +(\d  )? *{room}/ ", the_map, re.MULTILINE)) == 1


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_are_there(page: str) -> None:
    named = {name for name in NAMED.findall((PACKAGE / page).read_text()) if "NAME" not in name}
    assert {name for name in named if not any(f"/{file}".endswith(f"/{name}") for file in FILES)} == set()


def test_the_record_of_decisions_is_kept() -> None:
    """Rooms have their decisions in one form; there were 65 when they left DESIGN.md."""
    decisions = [text for page in PAGES for text in re.findall(r"\*Decision\.\*", (PACKAGE / page).read_text())]
    assert len(decisions) >= 65
