"""The first fit of a new interpreter, with an empty and with a full compile cache, beside scikit-learn and hmmlearn.

Processor seconds of a process that imports the library, makes its rows, fits and predicts: user and system, of all
threads. Every process has a compile cache of its own folder, which the first one finds empty.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from statistics import median
from tempfile import TemporaryDirectory

from bench.results import add_options, recorded

ROUNDS, QUICK_ROUNDS = 5, 1

ROWS = """
import numpy as np
rng = np.random.default_rng(0)
x = rng.normal(size=({n}, {d})) + 3.0 * rng.integers(0, 3, size=({n}, 1))
"""
IRIS = """
import csv
import sklearn
from pathlib import Path
import numpy as np
with open(Path(sklearn.__file__).parent / "datasets" / "data" / "iris.csv") as file:
    x = np.array([row[:4] for row in list(csv.reader(file))[1:]], dtype=float)
"""
SKLEARN = "from sklearn.mixture import GaussianMixture"
STREAMEM = "from streamem import GaussianMixture"
MIXTURE = "\nprint(GaussianMixture(3, random_state=0).fit(x).predict(x)[:3])"
HMMLEARN, OUR_HMM = "from hmmlearn.hmm import GaussianHMM", "from streamem import GaussianHMM"
CHAIN = "\nprint(GaussianHMM(3, n_iter=20, random_state=0).fit(x).predict(x)[:3])"

CASES = {
    "iris, mixture of 3": (IRIS, SKLEARN, STREAMEM, MIXTURE),
    "iris in float32": (IRIS + "\nx = x.astype(np.float32)\n", SKLEARN, STREAMEM, MIXTURE),
    "chain of 200 steps, 3 states": (ROWS.format(n=200, d=2), HMMLEARN, OUR_HMM, CHAIN),
    "100,000 × 8, mixture of 3 (compiles)": (ROWS.format(n=100_000, d=8), SKLEARN, STREAMEM, MIXTURE),
}


def seconds(script: str, cache: str) -> float:
    """Processor seconds of a new interpreter that runs a script with this compile cache."""
    before = os.times()
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache, "PYTHONWARNINGS": "ignore"}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment, stdout=subprocess.DEVNULL)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def rows(rounds: int, only: str) -> Iterator[str]:
    """A line a case: medians of rounds in turn."""
    for name, (data, theirs, ours, fit) in CASES.items():
        if only not in name:
            continue
        peer, cold, warm = [], [], []
        for _ in range(rounds):
            with TemporaryDirectory() as cache:
                peer.append(seconds(theirs + data + fit, cache))
                cold.append(seconds(ours + data + fit, cache))
                warm.append(seconds(ours + data + fit, cache))
        them, first, later = (median(each) for each in (peer, cold, warm))
        yield f"| {name} | {them:.2f} | {first:.2f} | {first / them:.2f} | {later:.2f} | {later / them:.2f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench first_fit", description=__doc__)
    add_options(parser)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    options = parser.parse_args()
    with recorded("first_fit", options):
        print("| processor seconds | peer | empty cache | ÷ peer | full cache | ÷ peer |\n|---|---|---|---|---|---|")
        for line in rows(QUICK_ROUNDS if options.quick else ROUNDS, options.only):
            print(line, flush=True)


if __name__ == "__main__":
    main()
