"""Syntax trees of the package, which several tests look through: each text is parsed once a process."""

from __future__ import annotations

import ast
import re
from functools import cache


@cache
def nodes(code: str) -> tuple[ast.AST, ...]:
    """All nodes of a file's text, its module first."""
    return tuple(ast.walk(ast.parse(code)))


def may_import_later(code: str) -> bool:
    """Whether a text has a line that may import within a function: most have none, and need no second look."""
    return (
        re.search(r"^[ \t]+(.*[;:][ \t]*)?(import|from)\b|:[ \t]*(import|from)\b|import_module", code, re.M) is not None
    )
