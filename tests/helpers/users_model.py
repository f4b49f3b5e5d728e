"""Models as a user writes them for `streamem.EM`: plain NumPy, nothing inherited."""

from __future__ import annotations

from typing import Any

import numpy as np


class GaussianBlend:
    """A mixture of K Gaussians with full covariances."""

    missing: Any = None

    def __init__(self, weights: Any, means: Any, covariances: Any) -> None:
        self.weights, self.means, self.covariances = weights, means, covariances

    def init(self, sample: Any, rng: Any) -> dict[str, Any]:
        return {"weights": self.weights, "means": self.means, "covariances": self.covariances}

    def joint(self, p: Any, x: Any) -> Any:
        found = []
        for weight, mean, cov in zip(p["weights"], p["means"], p["covariances"], strict=True):
            z = np.linalg.solve(np.linalg.cholesky(cov), (x - mean).T)
            log_det = np.linalg.slogdet(2 * np.pi * cov)[1]
            found.append(np.log(weight) - 0.5 * (log_det + (z**2).sum(axis=0)))
        return np.array(found).T

    def score_samples(self, p: Any, chunk: Any) -> Any:
        return np.logaddexp.reduce(self.joint(p, chunk.x), axis=1)

    def predict_proba(self, p: Any, chunk: Any) -> Any:
        joint = self.joint(p, chunk.x)
        return np.exp(joint - np.logaddexp.reduce(joint, axis=1)[:, None])

    def predict(self, p: Any, chunk: Any) -> Any:
        return self.joint(p, chunk.x).argmax(axis=1)

    def sample(self, p: Any, n: int, rng: Any) -> Any:
        picked = rng.choice(len(p["weights"]), size=n, p=p["weights"] / p["weights"].sum())
        return np.array([rng.multivariate_normal(p["means"][k], p["covariances"][k]) for k in picked])

    def e_step(self, p: Any, chunk: Any) -> dict[str, Any]:
        resp = self.predict_proba(p, chunk) * chunk.weight[:, None]
        return {
            "n": resp.sum(axis=0),
            "x": resp.T @ chunk.x,
            "xx": np.einsum("nk,ni,nj->kij", resp, chunk.x, chunk.x),
            "log_likelihood": chunk.weight @ self.score_samples(p, chunk),
        }

    def m_step(self, s: Any, previous: Any) -> dict[str, Any]:
        means = s["x"] / s["n"][:, None]
        second = s["xx"] / s["n"][:, None, None]
        return {
            "weights": s["n"] / s["weight"],
            "means": means,
            "covariances": second - means[:, :, None] * means[:, None, :],
        }


class Censored:
    """Normal values that are known only to be at least `limit`, where they are (tobit); some may be missing."""

    def __init__(self, limit: float = 1.0, missing: str | None = None) -> None:
        self.limit, self.missing = limit, missing

    def init(self, sample: Any, rng: Any) -> dict[str, Any]:
        return {"mean": np.nanmean(sample.x), "var": np.nanvar(sample.x)}

    def e_step(self, p: Any, chunk: Any) -> dict[str, Any]:
        from scipy.special import log_ndtr

        seen = ~np.isnan(chunk.x[:, 0])
        x, w = chunk.x[seen, 0], chunk.weight[seen]
        mean, sd = p["mean"], np.sqrt(p["var"])
        above = x >= self.limit
        z = (self.limit - mean) / sd
        tail = log_ndtr(-z)
        hazard = np.exp(-0.5 * z**2 - 0.5 * np.log(2 * np.pi) - tail)
        first = np.where(above, mean + sd * hazard, x)
        second = np.where(above, mean**2 + sd**2 + sd * hazard * (self.limit + mean), x**2)
        density = np.where(above, tail, -0.5 * ((x - mean) / sd) ** 2 - 0.5 * np.log(2 * np.pi * p["var"]))
        return {"n": w.sum(), "x": w @ first, "xx": w @ second, "log_likelihood": w @ density}

    def m_step(self, s: Any, previous: Any) -> dict[str, Any]:
        mean = s["x"] / s["n"]
        return {"mean": mean, "var": s["xx"] / s["n"] - mean**2}


class Scored(Censored):
    """`Censored` that says the slopes of its log-likelihood, too."""

    def scores(self, p: Any, chunk: Any) -> dict[str, Any]:
        from scipy.special import log_ndtr

        x, mean, var = chunk.x[:, 0], p["mean"], p["var"]
        z = (self.limit - mean) / np.sqrt(var)
        hazard = np.exp(-0.5 * z**2 - 0.5 * np.log(2 * np.pi) - log_ndtr(-z))
        above = x >= self.limit
        return {
            "mean": np.where(above, hazard / np.sqrt(var), (x - mean) / var),
            "var": np.where(above, hazard * z / (2 * var), ((x - mean) ** 2 / var - 1) / (2 * var)),
        }


class Center:
    """Rows of any width, normal about one point, of variance 1."""

    def init(self, sample: Any, rng: Any) -> dict[str, Any]:
        return {"center": np.zeros(sample.x.shape[1])}

    def score_samples(self, p: Any, chunk: Any) -> Any:
        return -0.5 * ((chunk.x - p["center"]) ** 2 + np.log(2 * np.pi)).sum(axis=1)

    def predict(self, p: Any, chunk: Any) -> Any:
        return (chunk.x > p["center"]).all(axis=1)

    def transform(self, p: Any, chunk: Any) -> Any:
        return chunk.x - p["center"]

    def e_step(self, p: Any, chunk: Any) -> dict[str, Any]:
        return {"x": chunk.weight @ chunk.x, "log_likelihood": chunk.weight @ self.score_samples(p, chunk)}

    def m_step(self, s: Any, previous: Any) -> dict[str, Any]:
        return {"center": s["x"] / s["weight"]}


def two_clusters(n: int = 600) -> Any:
    """Rows (n, 2) of two clusters."""
    rng = np.random.default_rng(0)
    far = rng.random(n) < 0.4
    return rng.normal(size=(n, 2)) @ np.array([[1.0, 0.4], [0.0, 0.8]]) + 2.5 * far[:, None]


def blend() -> GaussianBlend:
    """A start for `two_clusters`."""
    return GaussianBlend(np.array([0.5, 0.5]), np.array([[0.0, 0.0], [2.0, 2.5]]), np.array([np.eye(2), np.eye(2)]))


def censored_rows(n: int = 500, holes: bool = False) -> Any:
    """Rows (n, 1) of which those above 1 are 1, and some not observed."""
    x = np.minimum(np.random.default_rng(1).normal(0.5, 1.0, size=(n, 1)), 1.0)
    if holes:
        x[::7] = np.nan
    return x
