"""Baum–Welch by peers in environments of their own, with the names of hmmlearn's estimators; needs NumPy alone.

Both get float64, all sequences as one batch, and otherwise what their libraries do by default, on all cores.

dynamax: ``fit_em``, compiled once for each shape and number of iterations. Its M-step takes modes of posteriors, which
are the maximum of likelihood, exactly, under Dirichlet priors of concentration 1 and a normal-inverse-gamma prior of
mean concentration 0, concentration -3/2 and scale 0. Filtered and backward probabilities between 0 and 1e-15 count as
1e-15 in it. Where the expected count of a start or a transition is below 1e-16 there is no mode: all become NaN.

pomegranate: ``summarize`` and ``from_summaries``, which its ``fit`` repeats. Its chains choose to end, and ours do not:
the ends are frozen at probability 1, and the transitions from a state, which leave room for an end after each M-step,
are scaled to sum to 1: the maximum without ends, exactly. (``fit`` has no place for that.) Its square root of 2π has
twelve digits, which moves a log-density by 4e-13 per feature.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, Self

import numpy as np

Array = Any


class _Peer:
    """A model whose parameters are set, iterated some times from there, and scored."""

    startprob_: Array
    transmat_: Array
    means_: Array
    covars_: Array

    def __init__(self, iterations: int) -> None:
        self.iterations = iterations


class Dynamax(_Peer):
    """JAX."""

    def fit(self, x: Array, lengths: list[int]) -> Self:
        """Iterate; the first call for a shape and a number of iterations compiles."""
        found = _compiled(*self.means_.shape)[0](self._parameters(), _batch(x, lengths), self.iterations)
        self.startprob_, self.transmat_, self.means_, scales = (np.asarray(part) for part in found)
        self.covars_ = scales**2
        return self

    def score(self, x: Array, lengths: list[int]) -> float:
        """Log-likelihood of all sequences, in nats."""
        return float(_compiled(*self.means_.shape)[1](self._parameters(), _batch(x, lengths)))

    def _parameters(self) -> tuple[Array, ...]:
        return self.startprob_, self.transmat_, self.means_, np.sqrt(self.covars_)


@cache
def _compiled(k: int, d: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """(parameters, batch, iterations) → parameters, and (parameters, batch) → log-likelihood."""
    import jax

    jax.config.update("jax_enable_x64", True)
    from dynamax.hidden_markov_model import DiagonalGaussianHMM

    names = ("initial_probs", "transition_matrix", "emission_means", "emission_scale_diags")
    model = DiagonalGaussianHMM(
        k,
        d,
        initial_probs_concentration=1.0,
        transition_matrix_concentration=1.0,
        emission_prior_mean_concentration=0.0,
        emission_prior_concentration=-1.5,
        emission_prior_scale=0.0,
    )

    @partial(jax.jit, static_argnums=2)
    def fit(start: tuple[Array, ...], batch: Array, iterations: int) -> tuple[Array, ...]:
        params, properties = model.initialize(**dict(zip(names, start, strict=True)))
        (initial, transitions, emissions), _ = model.fit_em(
            params, properties, batch, num_iters=iterations, verbose=False
        )
        return initial.probs, transitions.transition_matrix, emissions.means, emissions.scale_diags

    @jax.jit  # type: ignore[untyped-decorator]
    def score(start: tuple[Array, ...], batch: Array) -> Array:
        params, _ = model.initialize(**dict(zip(names, start, strict=True)))
        return jax.vmap(partial(model.marginal_log_prob, params))(batch).sum()

    return fit, score


class Pomegranate(_Peer):
    """torch."""

    def fit(self, x: Array, lengths: list[int]) -> Self:
        """Iterate."""
        import torch
        from pomegranate.distributions import Normal
        from pomegranate.hmm import DenseHMM

        torch.set_default_dtype(torch.float64)  # its log-densities are of this type, whatever the parameters' is
        batch = torch.from_numpy(_batch(x, lengths))
        states = [Normal(*pair, covariance_type="diag") for pair in zip(self.means_, self.covars_, strict=True)]
        model = DenseHMM(states, self.transmat_, self.startprob_, np.ones(len(states)))
        model.ends.frozen = True
        for _ in range(self.iterations):
            model.summarize(batch)
            model.from_summaries()
            model.edges -= torch.logsumexp(model.edges, dim=1, keepdim=True)
        self._model = model
        return self

    def score(self, x: Array, lengths: list[int]) -> float:
        """Log-likelihood of all sequences, in nats."""
        import torch

        return float(self._model.log_probability(torch.from_numpy(_batch(x, lengths))).sum())


PEERS: dict[str, type[Dynamax | Pomegranate]] = {"dynamax": Dynamax, "pomegranate": Pomegranate}


def _batch(x: Array, lengths: list[int]) -> Array:
    """Steps (n, d) of sequences of one length as (sequences, steps, d)."""
    return x.reshape(len(lengths), lengths[0], x.shape[1])
