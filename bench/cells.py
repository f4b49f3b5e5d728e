"""The cells of the grid, and what is measured in one."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

CELL_S = 0.3
"""Seconds that one of our iterations is meant to take on two cores of 50 GFLOP/s."""

ERROR_LIMIT = {"float64": 1e-8, "float32": 1e-3}
"""Largest difference from the oracle's parameters, relative to their largest value, after the iterations."""

LEAST_ROWS_A_COVARIANCE = 1.5
"""Rows a component and a feature, so that every covariance can be inverted; more make K = 256, d = 128 take minutes."""

QUICK_FEATURES = 3

STORES = {"ours from Zarr": "x.zarr", "ours from Parquet": "x.parquet"}
"""Ours again, of the same rows in a store."""

PEERS = ("scikit-learn", "oneDAL", "pomegranate", *STORES)


@dataclass(frozen=True)
class Shape:
    """Covariances of k components of d features, and the dtype of the rows."""

    covariance_type: str
    dtype: str
    k: int
    d: int

    @property
    def shape(self) -> str:
        """The shape as tables show it."""
        return f"{self.covariance_type} {self.dtype} K={self.k} d={self.d}"


@dataclass(frozen=True)
class Cell(Shape):
    """A mixture of the grid: a shape, how far its components lie apart, and how long an iteration is to take."""

    separation: float
    cell_s: float = CELL_S

    @property
    def name(self) -> str:
        """The cell as it is printed and chosen."""
        return f"{self.shape} separation={self.separation:g}"

    @property
    def flops(self) -> int:
        """Of the two products of the dense path, a row."""
        moments = {"full": self.d * (self.d + 1) // 2, "tied": 0, "diag": self.d, "spherical": 1}
        return 4 * self.k * (1 + self.d + moments[self.covariance_type])

    @property
    def rows(self) -> int:
        """Enough for an iteration to be measured, and for every covariance to be estimated."""
        if self.d == QUICK_FEATURES:
            return 20_000
        wanted = self.cell_s * 1e11 / (self.flops + 300 * self.k + 20 * self.d)
        most = 4e8 / (8 * self.d)
        return int(max(min(wanted, most, 4_000_000), LEAST_ROWS_A_COVARIANCE * self.k * (self.d + 1), 20_000))


def cells(quick: bool) -> list[Cell]:
    """The grid, or one corner of it."""
    if quick:
        return [
            Cell(kind, dtype, 4, QUICK_FEATURES, 2.0)
            for kind, dtype in product(("full", "diag"), ("float64", "float32"))
        ]
    grid = product(
        ("full", "diag", "tied", "spherical"),
        ("float64", "float32"),
        (4, 16, 64, 256),
        (2, 8, 32, 64, 128),
        (2.0, 0.5),
    )
    return [Cell(*values) for values in grid]


def peers_of(cell: Cell) -> list[str]:
    """Who can do this cell."""
    engines = ["scikit-learn", *STORES]
    if cell.covariance_type in ("full", "diag"):
        engines.append("oneDAL")
    if cell.covariance_type == "full" and cell.dtype == "float32" and cell.k <= 64:
        engines.append("pomegranate")
    return engines


@dataclass(frozen=True)
class Row:
    """What was measured in one cell: ratios are the peer's seconds divided by ours."""

    cell: Cell
    seconds: float
    ratios: dict[str, float | str]
    note: str
    error: float
    peak_share: float
    added_bytes: float

    @property
    def accurate(self) -> bool:
        """Whether the parameters are those of float64."""
        return self.error <= ERROR_LIMIT[self.cell.dtype]
