"""A start that is degenerate loses no row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from streamem import GaussianMixture
from streamem.running.memory import Budget


def test_a_degenerate_start_keeps_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a start is made of a sample of the batch: what was not sampled waits for the next try, too."""
    budget_of = Budget.of
    monkeypatch.setattr(Budget, "of", lambda *limits: replace(budget_of(*limits), sample_bytes=0))
    rng = np.random.default_rng(0)
    gm = GaussianMixture(2, reg_covar=0, init_params="random_from_data", random_state=0)
    for n, rows in ((40, np.ones((40, 2))), (100, rng.normal(size=(60, 2)))):
        gm.partial_fit(rows)
        assert gm._fitted is not None
        assert gm._fitted.pending is not None
        assert gm._fitted.pending.rows == n
