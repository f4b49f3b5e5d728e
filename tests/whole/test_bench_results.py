"""Figures of the bench are kept by date and processor, one section a command."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("bench", reason="installed without the bench")
from bench import machine, results

ROOT = Path(__file__).parents[2]


def test_a_command_that_runs_again_replaces_its_section_and_no_other(tmp_path: Path) -> None:
    for command, text in (("grid", "one\n"), ("tight", "two\n"), ("grid", "three\n"), ("grid --quick", "four\n")):
        path = results.save(results.title(command, []), text, tmp_path)
    written = path.read_text()
    assert re.findall(r"^## (.*)$", written, re.MULTILINE) == [
        "python -m bench tight",
        "python -m bench grid",
        "python -m bench grid --quick",
    ]
    assert [word in written for word in ("one", "two", "three", "four")] == [False, True, True, True]


def test_the_file_names_date_processor_and_vectors(tmp_path: Path) -> None:
    path = results.save("python -m bench grid", "a table\n", tmp_path)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d-[a-z0-9-]+-(128|256|512)-bit-vectors-([a-z-]+-)?(strips|panels)\.md", path.name
    )
    assert path.read_text().startswith("# ")
    assert machine.processor() in path.read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            "Intel(R) Xeon(R) Processor @ 2.80GHz (sapphirerapids), 256-bit vectors, panels",
            "intel-xeon-sapphirerapids-256-bit-vectors-panels",
        ),
        ("AMD EPYC 7763 64-Core Processor, 256-bit vectors, strips", "amd-epyc-7763-256-bit-vectors-strips"),
        ("", "unknown"),
    ],
)
def test_a_processor_as_part_of_a_file_name(words: str, expected: str) -> None:
    assert results.slug(words) == expected


def test_where_the_output_goes_is_no_part_of_the_heading() -> None:
    assert results.title("grid", ["--only", "full float64", "--save", "--out", "x.md", "--rounds", "3"]) == (
        "python -m bench grid --only 'full float64' --rounds 3"
    )


def test_every_output_names_the_machine() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "bare_loop", "--quick"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    head, _, rest = done.stdout.partition("\n\n")
    assert head == machine.machine()
    assert re.search(r", (128|256|512)-bit vectors.*, (strips|panels); \d+ cores", head)
    assert "work of all" in rest
