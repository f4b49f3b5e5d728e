"""Record what a version of streamem computes on this machine, beside what was recorded on others.

The bits of the golden cases belong to one processor and to the versions of a few libraries. On another machine the
tests compare numbers, and say that bits were not compared. To have bits there too, run a version that is known to be
right, such as a clone of the commit before a change, on the cases of the present tests:

    cd tests && PYTHONPATH=/path/to/the/clone python -m golden.make

Where something recorded is not what this version computes, every such case is named and nothing is written. A case
whose result has changed for a good reason is recorded anew by its name:

    cd tests && PYTHONPATH=.. python -m golden.make --renew "HMM: Poisson, prior"

Files under `files/` that are missing are written by the version that runs; those that are there stay.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamem
from golden import other_vectors
from golden.cases import CASES
from golden.files import FILE_CASES, result_of, write_missing
from golden.recording import machine, record
from golden.results import result


def all_results() -> dict[str, Any]:
    """The results of all cases, by name."""
    return {
        **{name: result(*case.run()) for name, case in CASES.items()},
        **{name: result_of(name) for name in FILE_CASES},
        **other_vectors.results(),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Record."""
    os.environ["STREAMEM_SMALL_WORK"] = "compiled"  # as in the tests
    parser = argparse.ArgumentParser(prog="python -m golden.make", description="Record the golden cases here.")
    parser.add_argument("--renew", nargs="+", default=[], metavar="CASE", help="cases that may differ from before")
    renewed = set(parser.parse_args(arguments).renew)
    print(f"{Path(streamem.__file__).parent} on {machine()}")
    print(f"new files: {', '.join(write_missing()) or 'none'}")
    results = all_results()
    if unknown := renewed - set(results):
        sys.exit(f"no such case: {', '.join(sorted(unknown))}")
    if lines := record(results, renewed):
        sys.exit("\n".join([*lines, "nothing was written"]))
    print(f"{len(results)} cases recorded")


if __name__ == "__main__":
    main()
