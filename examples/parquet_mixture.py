"""Fit a mixture to chosen columns of a Parquet folder with sample weights; choose the number of components by BIC."""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from streamem import GaussianMixture

rng = np.random.default_rng(1)
columns = ["load", "latency_ms"]


def one_day(day: int) -> pa.Table:
    """Telemetry of one day: idle, busy and saturated servers."""
    kind = rng.choice(3, size=20_000, p=[0.6, 0.3, 0.1])
    return pa.table(
        {
            "id": [f"{day}-{i}" for i in range(20_000)],
            "load": rng.normal(np.array([0.2, 0.7, 0.95])[kind], np.array([0.05, 0.1, 0.02])[kind]),
            "latency_ms": rng.normal(np.array([5.0, 20.0, 90.0])[kind], np.array([1.0, 4.0, 15.0])[kind]),
            "requests": rng.integers(1, 5, size=20_000),
        }
    )


with tempfile.TemporaryDirectory() as folder:
    data = Path(folder, "telemetry")
    for day in range(3):
        part = data / f"day={day}"
        part.mkdir(parents=True)
        pq.write_table(one_day(day), part / "part.parquet", row_group_size=5_000)

    bic = {}
    for k in range(1, 6):
        gm = GaussianMixture(k, random_state=0, n_init=4, tol=1e-4, max_iter=300)
        gm.fit(data, sample_weight="requests", columns=columns)
        bic[k] = gm.bic(data, sample_weight="requests")
        print(f"K={k}: BIC {bic[k]:,.0f}")
    best = min(bic, key=bic.get)
    print(f"best by BIC: {best} components")
    assert best == 3

    gm = GaussianMixture(best, random_state=0).fit(data, sample_weight="requests", columns=columns)
    gm.save(Path(folder, "model.npz"))
    again = GaussianMixture.load(Path(folder, "model.npz"))
    again.score_samples(data, out=Path(folder, "density.parquet"))
    density = pq.read_table(Path(folder, "density.parquet"))["log_density"].to_numpy()
    print(f"the most unusual row has log-density {density.min():.1f}, the median {np.median(density):.1f}")
