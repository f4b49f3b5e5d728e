"""A model of your own in three NumPy functions: probit regression, from Parquet on a cluster, and from a stream.

Whether a patient recovers (1) or not (0) is the sign of a hidden normal score, Xβ + ε, whose expectation given the sign
is all that EM needs (Albert & Chib 1993; the EM of Dempster, Laird & Rubin 1977, §4.2, for a hidden threshold).
"""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from distributed import Client, LocalCluster
from scipy.special import log_ndtr, ndtr

from streamem import EM
from streamem.conformance import check_model


class Probit:
    """p(y = 1 | x) = Φ(xβ); the response is the last column, and the first number of β belongs to a column of ones."""

    def parts(self, params, x):
        design = np.column_stack([np.ones(len(x)), x[:, :-1]])
        return design, design @ params["beta"], 2 * x[:, -1] - 1

    def init(self, sample, rng):
        return {"beta": np.zeros(sample.x.shape[1])}

    def e_step(self, params, chunk):
        design, mean, sign = self.parts(params, chunk.x)
        log_p = log_ndtr(sign * mean)
        score = mean + sign * np.exp(-0.5 * mean**2 - 0.5 * np.log(2 * np.pi) - log_p)  # E[Xβ + ε | sign]
        weighted = design * chunk.weight[:, None]
        return {"xx": weighted.T @ design, "xs": weighted.T @ score, "log_likelihood": chunk.weight @ log_p}

    def m_step(self, stats, previous):
        return {"beta": np.linalg.solve(stats["xx"], stats["xs"])}

    def predict(self, params, chunk):
        return ndtr(self.parts(params, chunk.x)[1])


def patients(n, rng):
    """Dose and age, standardized, and recovery: (n, 3)."""
    x = rng.normal(size=(n, 2))
    return np.column_stack([x, (x @ TRUE[1:] + TRUE[0] + rng.normal(size=n) > 0).astype(float)])


TRUE = np.array([0.3, 1.0, -0.5])
COLUMNS = ["dose", "age", "recovered"]


def main():
    """Workers are new processes that import this file, so what it does stands in a function."""
    rows = patients(100_000, np.random.default_rng(0))
    path = Path(tempfile.mkdtemp()) / "patients.parquet"
    pq.write_table(pa.table(dict(zip(COLUMNS, rows.T, strict=True))), path, row_group_size=10_000)

    laws = check_model(Probit(), rows[:500])
    print(f"{len(laws)} laws hold, such as: {laws[-1]}")

    em = EM(Probit(), tol=1e-9, max_iter=1000, chunk_bytes="240kB")
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):
        em.fit(path, columns=COLUMNS, algorithm="squarem")  # the active client is used
        print(em.report_)
        summary = em.summary(path, columns=COLUMNS)
        print(summary)
        em.predict(path, out=path.with_name("chances.parquet"))  # written by the workers

    here = EM(**em.get_params()).fit(path, columns=COLUMNS, algorithm="squarem")
    assert here.params_ == em.params_, "the same bits on threads"
    assert (np.abs(em.params_["beta"] - TRUE) < 4 * summary.errors["params_"]["beta"]).all()

    rng = np.random.default_rng(1)
    clinics = (pa.table(dict(zip(COLUMNS, patients(500, rng).T, strict=True))) for _ in range(200))
    live = EM(Probit()).fit_stream(clinics, batch_rows=500)
    print(f"from a stream of {live.report_.n_rows:,} patients: β = {live.params_['beta'].round(3)}")
    assert np.allclose(live.params_["beta"], TRUE, atol=0.05)


if __name__ == "__main__":
    main()
