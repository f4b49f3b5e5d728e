"""Where the output of a bench is kept: one file by date and processor, one section a command."""

from __future__ import annotations

import re
import shlex
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from datetime import date
from io import StringIO
from pathlib import Path
from typing import TextIO

from bench.machine import machine, processor

RESULTS = Path(__file__).parent / "results"


def add_options(parser: ArgumentParser) -> None:
    """The options that every bench has."""
    parser.add_argument("--quick", action="store_true", help="small cases: a check that the bench works")
    parser.add_argument("--out", type=Path, help="also write the output to this file")
    parser.add_argument(
        "--save", action="store_true", help="also write the output into bench/results/, by date and processor"
    )


@contextmanager
def recorded(name: str, options: Namespace) -> Iterator[None]:
    """Print the machine, then what is printed within; keep both where `options` (of `add_options`) ask for it."""
    output = StringIO()
    with redirect_stdout(_Both(sys.stdout, output)):
        print(f"{machine()}\n")
        yield
    text = output.getvalue().strip() + "\n"
    if options.out:
        options.out.write_text(text)
    if options.save:
        print(f"saved in {save(title(name, sys.argv[1:]), text)}", file=sys.stderr)


def title(name: str, arguments: Sequence[str]) -> str:
    """The command as a heading, without the options that say where its output goes."""
    shown = re.sub(r" ?--(save|out[ =]\S+)", "", " ".join(shlex.quote(argument) for argument in arguments)).strip()
    return f"python -m bench {name} {shown}".strip()


def save(heading: str, text: str, folder: Path = RESULTS) -> Path:
    """Write a section of today's file of this processor, in place of one of the same heading."""
    path = folder / f"{date.today()}-{slug(processor())}.md"
    before = path.read_text() if path.exists() else f"# {date.today()}, {processor()}\n"
    head, *sections = re.split(r"^## ", before, flags=re.MULTILINE)
    others = [section for section in sections if section.partition("\n")[0] != heading]
    kept = [*others, f"{heading}\n\n{text}"]
    path.write_text("\n\n".join([head.strip(), *(f"## {section.strip()}" for section in kept)]) + "\n")
    return path


def slug(words: str) -> str:
    """Words as part of a file's name: ``AMD EPYC (znver3), strips`` becomes ``amd-epyc-znver3-strips``."""
    plain = re.sub(r"\((r|tm)\)|\b(cpu|processor|\d+-core)\b|@ *[\d.]+ *ghz", " ", words.lower())
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or "unknown"


class _Both(StringIO):
    """A text stream that writes to a terminal and to a record of what was written."""

    def __init__(self, terminal: TextIO, record: StringIO) -> None:
        super().__init__()
        self._terminal, self._record = terminal, record

    def write(self, text: str) -> int:
        self._record.write(text)
        return self._terminal.write(text)

    def flush(self) -> None:
        self._terminal.flush()
