"""Record linkage beside splink's EM on DuckDB: the same comparison levels, start and number of iterations.

Seconds of EM alone: pairs are compared and blocked beforehand, and lie in memory (ours as bytes, splink's as a table of
DuckDB). splink has two ways, both timed: over all pairs, its default, and over agreement patterns
(``estimate_without_term_frequencies=True``); each is compared with ours of that way. m, u and λ have to agree.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.results import add_options, recorded
from streamem import RecordLinkage

Array = NDArray[Any]
SIZES, ITERATIONS, TOLERANCE = (2, 3, 4, 2, 3, 5), 10, 1e-8


@dataclass(frozen=True)
class Found:
    """λ, and m and u (levels,) of every comparison."""

    prior: float
    m: list[Array]
    u: list[Array]

    def gap(self, other: Found) -> float:
        """The largest difference."""
        pairs = zip([*self.m, *self.u], [*other.m, *other.u], strict=True)
        return max(abs(self.prior - other.prior), *(float(np.abs(a - b).max()) for a, b in pairs))


def pairs_of(rows: int, seed: int = 0) -> Array:
    """Levels (rows, comparisons) int8 of pairs of which 15 % match, a larger one of more agreement."""
    rng = np.random.default_rng(seed)
    same, x = rng.random(rows) < 0.15, np.empty((rows, len(SIZES)), dtype=np.int8)
    for j, size in enumerate(SIZES):
        agrees = rng.random(rows) < np.where(same, 0.9, 0.08)
        x[:, j] = np.where(agrees, size - 1, rng.integers(0, size - 1, rows))
    return x


def ours(x: Array, iterations: int, compress: bool) -> Found:
    """A fit from the documented start."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = RecordLinkage(tol=0.0, max_iter=iterations, compress=compress, n_levels=SIZES).fit(x)
    m, u = (list(tables.values()) for tables in (model.m_probabilities_, model.u_probabilities_))
    return Found(model.match_prior_, m, u)


class Splink:
    """splink's EM over levels (rows, comparisons), −1 or NaN where one is missing, that stand in a table of DuckDB."""

    def __init__(self, x: Array, sizes: tuple[int, ...], iterations: int) -> None:
        import pyarrow as pa
        from splink import DuckDBAPI, SettingsCreator

        logging.getLogger("splink").setLevel(logging.ERROR)
        self._api = DuckDBAPI()
        columns: dict[str, Any] = {f"unique_id_{side}": pa.array(np.arange(len(x))) for side in "lr"}
        for j in range(x.shape[1]):
            columns[f"gamma_c{j}"] = np.nan_to_num(x[:, j], nan=-1).astype(np.int32)
        columns["match_key"] = np.zeros(len(x), dtype=np.int8)
        self._api.register(pa.table(columns), table_name="pairs_in")
        self._api.duckdb_con.execute("create table pairs as select * from pairs_in")
        self._pairs = self._api.table_to_splink_dataframe("__splink__df_comparison_vectors", "pairs")
        settings = SettingsCreator(
            link_type="dedupe_only",
            comparisons=[_comparison(j, size) for j, size in enumerate(sizes)],
            probability_two_random_records_match=0.01,
            max_iterations=iterations,
            em_convergence=1e-300,
        )
        self._settings = settings.get_settings("duckdb")

    def em(self, patterns: bool) -> Found:
        """λ, m and u after so many iterations."""
        from splink.internals.expectation_maximisation import expectation_maximisation

        own = self._settings
        identifiers = own.column_info_settings.unique_id_input_columns
        start: Any = own.core_model_settings
        end = expectation_maximisation(
            self._api, own.training_settings, patterns, start.copy(), identifiers, set(), self._pairs
        )[-1]
        levels = [
            sorted(_observable(each), key=lambda level: level.comparison_vector_value) for each in end.comparisons
        ]
        m = [np.array([level.m_probability for level in own]) for own in levels]
        u = [np.array([level.u_probability for level in own]) for own in levels]
        return Found(end.probability_two_random_records_match, m, u)


def _observable(comparison: Any) -> list[Any]:
    return [level for level in comparison.comparison_levels if not level.is_null_level]


def _comparison(j: int, size: int) -> Any:
    """One of so many levels, at the start that `RecordLinkage` documents; its conditions are never asked."""
    import splink.comparison_level_library as levels
    import splink.comparison_library as comparisons

    chosen: list[Any] = [levels.NullLevel(f"c{j}")]
    for v in range(size - 1, -1, -1):
        level = (
            levels.CustomLevel(f"c{j}_l = c{j}_r and {v} = {v}", label_for_charts=str(v)) if v else levels.ElseLevel()
        )
        highest, other = 0.95, 0.05 / (size - 1)
        m, u = (highest, 0.05) if v == size - 1 else (other, highest / (size - 1))
        chosen.append(level.configure(m_probability=m, u_probability=u))
    return comparisons.CustomComparison(output_column_name=f"c{j}", comparison_levels=chosen)


def seconds(run: Callable[[], Found], rounds: int) -> tuple[float, Found]:
    """The median of some calls, and what the last one found."""
    taken, found = [], run()
    for _ in range(rounds):
        begun = time.perf_counter()
        found = run()
        taken.append(time.perf_counter() - begun)
    return float(np.median(taken)), found


def show(rows: int, rounds: int) -> None:
    """Print the table."""
    x = pairs_of(rows)
    try:
        peer: Splink | None = Splink(x, SIZES, ITERATIONS)
    except ImportError:
        print("splink is missing: pip install splink")
        peer = None
    shape = f"{rows:,} pairs × {len(SIZES)} comparisons, {ITERATIONS} iterations"
    print(f"| {shape} | streamem, s | splink, s | ÷ | agree to |")
    print("|---|---:|---:|---:|---:|")
    for name, patterns in (("all pairs", False), ("agreement patterns", True)):
        own, found = seconds(lambda patterns=patterns: ours(x, ITERATIONS, patterns), rounds)  # type: ignore[misc]
        if peer is None:
            print(f"| {name} | {own:.3f} | | | |", flush=True)
            continue
        other, beside = seconds(lambda patterns=patterns: peer.em(patterns), rounds)  # type: ignore[misc]
        gap = found.gap(beside)
        if gap > TOLERANCE:
            raise SystemExit(f"{name}: m, u or λ differ by {gap:.1e}")
        print(f"| {name} | {own:.3f} | {other:.3f} | {other / own:.1f} | {gap:.0e} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench record_linkage", description=__doc__)
    add_options(parser)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=10_000_000)
    options = parser.parse_args()
    with recorded("record_linkage", options):
        show(20_000 if options.quick else options.rows, 1 if options.quick else options.rounds)


if __name__ == "__main__":
    main()
