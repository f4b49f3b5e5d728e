"""A family of one's own on a cluster: counts with too many zeros, from Parquet, in under 30 lines."""

import tempfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from distributed import Client
from scipy.special import gammaln

from streamem import Mixture, Params, Stats


class ZeroInflatedPoisson:
    """P(x) = (1 − open)·[x = 0] + open·Poisson(x; rate) in every column (Lambert 1992): open shops sell."""

    def _zero_is_poisson(self, p):  # (k, d) that a zero is one of the Poisson distribution
        chance = p.open * np.exp(-p.rates)
        return chance / (1 - p.open + chance)

    def log_prob(self, p, x):
        counted = np.log(p.open) - p.rates + x[:, None] * np.log(p.rates) - gammaln(x + 1)[:, None]
        none = np.log(1 - p.open + p.open * np.exp(-p.rates))
        return np.where(x[:, None] == 0, none, counted).sum(axis=2)

    def stats(self, p, x, resp):
        zeros, weight = resp.T @ (x == 0.0), resp.sum(axis=0)[:, None] + np.zeros(x.shape[1])
        zero = 0.5 if p is None else self._zero_is_poisson(p)
        return Stats(weight=weight, open=weight - zeros + zero * zeros, x=resp.T @ x)

    def maximize(self, s, previous):
        return Params(open=s.open / s.weight, rates=s.x / s.open)


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    kind = rng.choice(2, size=200_000, p=[0.3, 0.7])
    is_open = rng.random((len(kind), 2)) < np.array([[0.9, 0.5], [0.4, 0.8]])[kind]
    sold = rng.poisson(np.array([[2.0, 9.0], [6.0, 3.0]])[kind]) * is_open

    with tempfile.TemporaryDirectory() as folder, Client(n_workers=2, threads_per_worker=1, dashboard_address=None):
        pq.write_table(
            pa.table({"bread": sold[:, 0], "cake": sold[:, 1]}), f"{folder}/sold.parquet", row_group_size=20_000
        )
        mix = Mixture(ZeroInflatedPoisson(), 2, tol=1e-8, max_iter=500, random_state=0).fit(f"{folder}/sold.parquet")
    order = np.argsort(mix.weights_)
    print("shares", mix.weights_[order].round(3), "after", mix.n_iter_, "iterations")
    print("open", mix.params_.open[order].round(2).tolist(), "rates", mix.params_.rates[order].round(2).tolist())
    assert np.abs(mix.params_.rates[order] - [[2, 9], [6, 3]]).max() < 0.2
