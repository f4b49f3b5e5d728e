"""Numbers of weights that depend on concomitants: how the average weights move with them."""

from __future__ import annotations

import numpy as np
from scipy.special import softmax

from streamem.core.stats import Stats
from streamem.running.uncertainty.logit_ties import LogitTies


def test_average_weights_move_with_intercepts_and_coefficients() -> None:
    rng = np.random.default_rng(0)
    z, weight = rng.normal(size=(50, 2)), rng.uniform(0.5, 2.0, size=50)
    own = np.vstack([np.zeros(3), rng.normal(size=(2, 3))])  # of three components, 0 of the first

    def average(numbers: np.ndarray) -> np.ndarray:
        return weight @ softmax(np.column_stack([np.ones(50), z]) @ numbers.T, axis=1) / weight.sum()

    resp = softmax(np.column_stack([np.ones(50), z]) @ own.T, axis=1)
    ties = LogitTies(own[:, 0], own[:, 1:], np.stack([z.min(axis=0), z.max(axis=0)]), np.zeros((6, 3)))
    sums = Stats(weight=weight.sum(), **ties.sums(np.zeros((3, 50, 1)), resp, weight, z))
    shares = ties.known(sums).shares
    for s in range(6):
        step = np.zeros((3, 3))
        step[1:].reshape(-1)[s] = 1e-6
        np.testing.assert_allclose(shares[s], (average(own + step) - average(own - step)) / 2e-6, atol=1e-8)
