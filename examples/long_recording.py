"""One recording that is longer than a chunk: learned, decoded and scored as if it were in memory as a whole.

Three hours of a made-up machine, ten values a second, in a Zarr store of small chunks: idle, running hot, stalling.
What a chunk must know of those before and after it is passed between them, so cuts leave no trace.
"""

import tempfile
from pathlib import Path

import numpy as np
import zarr

from streamem import GaussianHMM

STEPS, SENSORS = 108_000, 3

truth = GaussianHMM(n_components=3, covariance_type="diag")
truth.startprob_ = np.array([1.0, 0.0, 0.0])
truth.transmat_ = np.array([[0.995, 0.004, 0.001], [0.002, 0.997, 0.001], [0.01, 0.0, 0.99]])
truth.means_ = np.array([[20.0, 0.1, 1.0], [65.0, 3.0, 4.0], [70.0, 0.5, 9.0]])
truth.covars_ = np.array([[4.0, 0.01, 0.2], [25.0, 0.3, 1.0], [25.0, 0.1, 4.0]])

with tempfile.TemporaryDirectory() as folder:
    store = str(Path(folder, "recording.zarr"))
    values, states = truth.sample(STEPS, random_state=0)
    recording = zarr.create_array(store=store, shape=(STEPS, SENSORS), chunks=(5_000, SENSORS), dtype="float64")
    recording[:] = values

    hmm = GaussianHMM(n_components=3, random_state=0, memory_limit="100MiB").fit(store)
    print(hmm.report_)
    hmm.decode(store, out=Path(folder, "states.zarr"))
    found = zarr.open_array(str(Path(folder, "states.zarr")))[:]

    order = np.argsort(hmm.means_[:, 2])
    for name, k in zip(("idle", "hot", "stalling"), order, strict=True):
        print(f"{name:9} {hmm.means_[k].round(1)} for {0.1 / (1 - hmm.transmat_[k, k]):.0f} s at a time")
    right = np.mean(np.argsort(order)[found] == states)
    print(f"{right:.2%} of the states found")

    whole = GaussianHMM(n_components=3, chunk_bytes="1GiB")  # the same model, all steps in one chunk
    for name in ("startprob_", "transmat_", "means_", "covars_"):
        setattr(whole, name, getattr(hmm, name))
    print(f"log-likelihood {hmm.score(store):.6f} in chunks, {whole.score(values):.6f} at once")

    assert right > 0.99
    assert np.isclose(hmm.score(store), whole.score(values), rtol=1e-12)
