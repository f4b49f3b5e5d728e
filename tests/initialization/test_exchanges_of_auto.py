"""`auto` goes on from k-means through exchanges on the sample: what it finds, and where it leaves a start alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streamem import GaussianHMM, GaussianMixture, GroupedMixture, LatentClass, Mixture
from streamem.algorithms import AutoEM
from streamem.core.errors import NumericalError
from streamem.estimators import beginning

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::streamem.running.reached.LocalMaximumWarning"),
]
Array = NDArray[Any]
SETTINGS: dict[str, Any] = {"covariance_type": "diag", "stopping": "aitken", "tol": 1e-6}
PLAIN = AutoEM(exchanges=False)


def clusters(seed: int = 1) -> Array:
    """Five clusters, of which k-means from seed 0 misses one."""
    rng = np.random.default_rng(seed)
    return np.asarray(12.0 * rng.normal(size=(5, 2))[rng.integers(5, size=300)] + rng.normal(size=(300, 2)))


def test_auto_finds_clusters_that_k_means_missed() -> None:
    x = clusters()
    own, plain = (GaussianMixture(5, random_state=0, **SETTINGS).fit(x, algorithm=name) for name in ("auto", PLAIN))
    assert own.report_.start_exchanges > 0
    assert plain.report_.start_exchanges == 0
    assert own.lower_bound_ > plain.lower_bound_ + 0.2
    assert len(own.report_.passes) < len(plain.report_.passes)
    there = GaussianMixture(5, init_params="split_merge", random_state=0, **SETTINGS).fit(x, algorithm="auto")
    assert (own.means_ == there.means_).all()


LEFT_ALONE: dict[str, tuple[Any, Array, dict[str, Any]]] = {
    "n_init": (GaussianMixture(3, n_init=2, random_state=0), clusters(), {}),
    "start": (GaussianMixture(3, init_params="random_from_data", random_state=0), clusters(), {}),
    "means": (GaussianMixture(3, means_init=clusters()[:3], random_state=0), clusters(), {}),
    "weights": (GaussianMixture(3, weights_init=[0.2, 0.3, 0.5], random_state=0), clusters(), {}),
    "noise": (GaussianMixture(3, noise=True, random_state=0), clusters(), {}),
    "noise of rows": (GaussianMixture(3, random_state=0), clusters(), {"noise": np.full((300, 2), 0.1)}),
    "two": (GaussianMixture(2, random_state=0), clusters(), {}),
    "codes": (LatentClass(3, init_params="kmeans", random_state=0), np.arange(80)[:, None] % [2, 3, 2], {}),
    "chain": (GaussianHMM(3, random_state=0), clusters(), {}),
    "groups": (GroupedMixture("gaussian", 3, random_state=0), clusters(), {"lengths": [4] * 75}),
}


def test_other_starts_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    exchanged = []
    monkeypatch.setattr(beginning, "split_and_merged", lambda *given: exchanged.append(given))
    for name, (model, x, arguments) in LEFT_ALONE.items():
        try:
            model.set_params(**{model.structure.iterations: 4}).fit(x, algorithm="auto", **arguments)
        finally:
            assert not exchanged, name


def test_a_start_stays_as_it_is_where_exchanges_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """EM from k-means has no such error."""

    def failing(*given: Any) -> Any:
        raise NumericalError("planted")

    monkeypatch.setattr(beginning, "split_and_merged", failing)
    model = Mixture("gaussian", 3, init_params="kmeans", random_state=0).fit(clusters(), algorithm="auto")
    assert np.isfinite(model.lower_bound_)
