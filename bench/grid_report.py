"""What the grid says: a table, the figures that were to be reached, and a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median

from bench.cells import PEERS, Cell, Row


def table(rows: list[Row]) -> str:
    """Markdown."""
    peers = [peer for peer in PEERS if any(peer in row.ratios for row in rows)]
    head = ["cell", "rows", "ours, ms", *(f"{peer} ÷ ours" for peer in peers), "share of peak", "error", "MiB", "path"]
    lines = [" | ".join(["", *head, ""]).strip(), "|---" * len(head) + "|"]
    for row in rows:
        ratios = [_shown(row.ratios.get(peer, "–")) for peer in peers]
        error = f"{row.error:.0e}" + ("" if row.accurate else " **FAILED**")
        shown = [
            row.cell.name,
            f"{row.cell.rows:,}",
            f"{row.seconds * 1e3:.1f}",
            *ratios,
            f"{row.peak_share:.0%}",
            error,
        ]
        lines.append(f"| {' | '.join([*shown, f'{row.added_bytes / 2**20:.0f}', row.note])} |")
    return "\n".join(lines)


def _shown(ratio: float | str) -> str:
    return ratio if isinstance(ratio, str) else f"{ratio:.2f}"


def summary(rows: list[Row]) -> str:
    """The figures to reach, beside the median and the least of the cells that count."""
    lines = ["| figure | cells | median | least | where |", "|---|---:|---:|---:|---|"]
    for name, peer, counts in FIGURES:
        ratios = {row.cell.name: row.ratios.get(peer) for row in rows if counts(row.cell)}
        found = {cell: ratio for cell, ratio in ratios.items() if isinstance(ratio, float)}
        if found:
            least = min(found, key=lambda cell: found[cell])
            lines.append(f"| {name} | {len(found)} | {median(found.values()):.2f} | {found[least]:.2f} | {least} |")
    shares = {row.cell.name: row.peak_share for row in rows if _large(row.cell)}
    if shares:
        least = min(shares, key=lambda cell: shares[cell])
        middle = median(shares.values())
        lines.append(
            f"| dense flops ÷ peak, K≥64, d≥64, full | {len(shares)} | {middle:.2f} | {shares[least]:.2f} | {least} |"
        )
    failed = [row.cell.name for row in rows if not row.accurate]
    lines.append(f"| parameters other than float64's | {len(failed)} of {len(rows)} | | | {', '.join(failed)} |")
    return "\n".join(lines)


def _full(cell: Cell) -> bool:
    return cell.covariance_type == "full" and cell.k >= 16


def _large(cell: Cell) -> bool:
    return _full(cell) and cell.k >= 64 and cell.d >= 64


FIGURES: list[tuple[str, str, Callable[[Cell], bool]]] = [
    (
        "scikit-learn ÷ ours, full, float64, K≥16, d≥32",
        "scikit-learn",
        lambda cell: _full(cell) and cell.d >= 32 and cell.dtype == "float64",
    ),
    (
        "scikit-learn ÷ ours, diag, float64",
        "scikit-learn",
        lambda cell: cell.covariance_type == "diag" and cell.dtype == "float64",
    ),
    ("oneDAL ÷ ours, full, K≥16", "oneDAL", _full),
    (
        "oneDAL ÷ ours, full, K=64, d=64, separated",
        "oneDAL",
        lambda cell: _full(cell) and (cell.k, cell.d, cell.separation) == (64, 64, 2.0),
    ),
    ("oneDAL ÷ ours, diag", "oneDAL", lambda cell: cell.covariance_type == "diag"),
    ("pomegranate ÷ ours, full, float32", "pomegranate", lambda cell: cell.covariance_type == "full"),
    ("ours from Zarr ÷ in memory", "ours from Zarr", lambda cell: True),
    ("ours from Parquet ÷ in memory", "ours from Parquet", lambda cell: True),
]


def draw(rows: list[Row], path: Path) -> None:
    """For every peer, its time over ours by number of components and features; a logarithmic scale of colours."""
    import matplotlib
    import numpy as np

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    peers = [peer for peer in PEERS if any(isinstance(row.ratios.get(peer), float) for row in rows)]
    kinds = sorted({(row.cell.covariance_type, row.cell.dtype, row.cell.separation) for row in rows})
    ks, ds = sorted({row.cell.k for row in rows}), sorted({row.cell.d for row in rows})
    figure, axes = plt.subplots(
        len(peers), len(kinds), figsize=(2.2 * len(kinds) + 1, 2.4 * len(peers) + 0.6), squeeze=False
    )
    for peer, line in zip(peers, axes, strict=True):
        for (kind, dtype, separation), ax in zip(kinds, line, strict=True):
            values = np.full((len(ks), len(ds)), np.nan)
            for row in rows:
                ratio = row.ratios.get(peer)
                cell = row.cell
                if (cell.covariance_type, cell.dtype, cell.separation) == (kind, dtype, separation):
                    values[ks.index(cell.k), ds.index(cell.d)] = ratio if isinstance(ratio, float) else np.nan
            ax.imshow(np.log2(values), cmap="RdYlGn", vmin=-4, vmax=4, origin="lower")
            for (i, j), value in np.ndenumerate(values):
                if np.isfinite(value):
                    ax.text(j, i, f"{value:.1f}", ha="center", va="center", fontsize=7)
            ax.set_xticks(range(len(ds)), ds, fontsize=7)
            ax.set_yticks(range(len(ks)), ks, fontsize=7)
            ax.set_title(f"{kind} {dtype}\n{separation:g} apart", fontsize=7)
            ax.set_xlabel("features", fontsize=7)
        line[0].set_ylabel(f"{peer} ÷ ours\ncomponents", fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
