"""A distribution of your own in ten lines: waiting times, as a mixture and as a hidden Markov model.

The same three functions serve both, out of core, on a cluster and online; `streamem.conformance` looks for mistakes.
"""

import numpy as np

from streamem import HMM, Mixture, Params, Stats
from streamem.conformance import check_family


class Exponential:
    """Waiting times with rates (K, d): p(x) = λ·exp(−λx)."""

    def log_prob(self, p, x):
        return np.log(p.rates).sum(axis=1) - x @ p.rates.T

    def stats(self, p, x, resp):
        return Stats(weight=resp.sum(axis=0), x=resp.T @ x)

    def maximize(self, s, previous):
        return Params(rates=s.weight[:, None] / s.x)


rng = np.random.default_rng(0)
rush = np.repeat(np.arange(40) % 2, 250)  # calls come in quiet and busy spells
waits = rng.exponential(np.where(rush, 0.5, 8.0))[:, None]

laws = check_family(
    Exponential(),
    Params(rates=[[0.5], [2.0]]),
    waits[:500],
    perturbed=lambda p, rng, scale: Params(rates=p.rates * np.exp(scale * rng.normal(size=p.rates.shape))),
)
print(f"{len(laws)} laws hold, such as: {laws[-1]}")

mix = Mixture(Exponential(), n_components=2, tol=1e-6, max_iter=1000, random_state=0).fit(waits)
hmm = HMM(Exponential(), n_components=2, tol=1e-6, n_iter=1000, random_state=0).fit(waits)
for name, model in (("mixture", mix), ("HMM", hmm)):
    means = np.sort(1 / model.params_.rates.ravel())
    busy = np.argmax(model.params_.rates.ravel())
    right = np.mean((model.predict(waits) == busy) == rush)
    print(f"{name:8} mean waits {means.round(2)} minutes, {right:.1%} of the spells known")

assert right > 0.98  # the chain knows that spells last; the mixture cannot
