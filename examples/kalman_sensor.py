"""A long sensor series with gaps, smoothed by a Kalman smoother whose noise EM has found.

Two thermometers on one pipe, a value every second for a day, in a Zarr store of small chunks. Either drops out now
and then, and both stop for some minutes. The temperature drifts, and a drift fades in a quarter of an hour; how much
it moves and how much each thermometer errs is estimated. Neither the fit nor the smoother holds the series in memory:
chunks tell each other what they know of the state at their ends.
"""

import tempfile
from pathlib import Path

import numpy as np
import zarr
from scipy.signal import lfilter

from streamem import LinearGaussianChain

STEPS = 86_400
rng = np.random.default_rng(0)

drift = lfilter([1.0], [1.0, -0.999], rng.normal(scale=2e-4, size=STEPS))
truth = 60.0 + np.cumsum(drift + rng.normal(scale=0.02, size=STEPS))
values = truth[:, None] + [0.0, 1.5] + rng.normal(size=(STEPS, 2)) * [0.5, 2.0]
values[rng.random((STEPS, 2)) < [0.001, 0.0005]] = np.nan  # single values
values[20_000:20_600] = np.nan  # both thermometers, for ten minutes
values[50_000:80_000, 0] = np.nan  # the better one, for eight hours

with tempfile.TemporaryDirectory() as folder:
    store = str(Path(folder, "pipe.zarr"))
    zarr.create_array(store=store, shape=values.shape, chunks=(20_000, 2), dtype="float32")[:] = values

    apart = float(np.nanmean(values[:, 1] - values[:, 0]))
    chain = LinearGaussianChain(
        2,
        transition_matrix=[[1.0, 1.0], [0.0, 0.999]],
        transition_noise="diag",
        observation_matrix=[[1.0, 0.0], [1.0, 0.0]],
        observation_offset=[0.0, apart],
        diffuse=True,
        tol=1e-6,
        n_iter=100,
        chunk_bytes="128KiB",
        memory_limit="200MiB",
    )
    chain.fit(store, algorithm="anderson")
    print(f"{chain.n_iter_} iterations over {chain.report_.n_chunks} chunks")
    print(chain.describe().split("\n\n")[1])

    chain.smooth(store, covariances=True, out=Path(folder, "states.zarr"))
    states = zarr.open_array(str(Path(folder, "states.zarr")))[:]
    error, told = states[:, 0] - truth, np.sqrt(states[:, 2])
    for name, rows in (
        ("both", slice(19_000)),
        ("neither", slice(20_000, 20_600)),
        ("the second alone", slice(50_000, 80_000)),
    ):
        off, said = np.sqrt(np.mean(error[rows] ** 2)), np.sqrt(np.mean(told[rows] ** 2))
        print(f"{name:18} off by {off:.3f} degrees, {said:.3f} said; single values by 0.5 and 2")
    minute = chain.forecast(store, 60)
    print(f"in a minute: {minute.means[-1, 0]:.2f} ± {np.sqrt(minute.covariances[-1, 0, 0]):.2f} degrees")

    inside = np.mean(np.abs(error) < 2 * told)
    print(f"{inside:.1%} of the true values lie within two standard deviations")
    assert np.sqrt(np.mean(error**2)) < 0.3
    assert 0.93 < inside < 0.97
    assert np.isclose(np.sqrt(chain.observation_covariance_[0]), 0.5, atol=0.05)
