"""`MixtureProportions`: the weights of components whose likelihoods are known."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from streamem.estimators.faces.mixture_proportions import MixtureProportionsFace
from streamem.estimators.making import model_of
from streamem.estimators.mixtures import MixtureEstimator
from streamem.estimators.proportions import PROPORTIONS
from streamem.running.fitted import Fitted


class MixtureProportions(MixtureEstimator):
    """Weights of a mixture whose likelihoods are given: max_w Σ_i log Σ_k w_k L_ik, by EM, out of core.

    Rows of X are L (n, K), the likelihood of each row under each of K components that somebody else worked out: a grid
    of a nonparametric mixing distribution (Kiefer & Wolfowitz 1956; Koenker & Mizera 2014), reference genomes, topics.
    K is the number of columns.

    Parameters
    ----------
    scale : {"plain", "log"}, default "plain"
        Whether X holds likelihoods >= 0, or their logarithms in nats. They may be multiplied by any number > 0, one a
        row. A logarithm of −∞ is refused: write −1e300 for a likelihood of 0.
    weights_init : (K,), optional
        Weights to start from, by default 1/K each. A weight of 0 stays 0, whatever the data say: EM multiplies.
    weight_concentration_prior : float or (K,), optional
        As in `GaussianMixture`.
    tol, max_iter, random_state, warm_start, verbose, stopping, n_threads, memory_limit, chunk_bytes
        As in `GaussianMixture`, but `tol` is 1e-8, `max_iter` 10,000 and `stopping` "aitken" by default.

    Attributes
    ----------
    weights_ : (K,)
    n_components : K, known from the data: no hyperparameter
    kkt_certificate_ : float, max_k mean_i L_ik/(Lw)_i − 1, in nats per row
        No weights whatever have a log-likelihood per row that is higher by more; 0 at the maximum, up to rounding. It
        is of likelihoods without a prior. `report_` tells it too.
    converged_, n_iter_, lower_bound_, lower_bounds_, objective_, report_, n_features_in_ : as in `GaussianMixture`

    Notes
    -----
    The log-likelihood is concave, so that every maximum is the highest; several starts would be of no use. EM is slow
    where components are alike: read the certificate, not `converged_` alone.

    Examples
    --------
    What the distribution of effects was, seen through noise of standard deviation 1:

    >>> import numpy as np
    >>> from scipy.stats import norm
    >>> from streamem import MixtureProportions
    >>> rng = np.random.default_rng(0)
    >>> seen = rng.choice([0.0, 4.0], p=[0.7, 0.3], size=5000) + rng.normal(size=5000)
    >>> grid = np.array([-4.0, 0.0, 4.0, 8.0])
    >>> fit = MixtureProportions().fit(norm.pdf(seen[:, None] - grid))
    >>> fit.weights_.round(2).tolist(), fit.kkt_certificate_ < 1e-4
    ([0.0, 0.7, 0.3, 0.0], True)
    """

    face: ClassVar[MixtureProportionsFace] = MixtureProportionsFace()
    instead_of_noise = "add a column to the likelihoods, one divided by the volume of the box of the data in every row"
    structure = PROPORTIONS

    n_init = 1
    init_params = "equal"
    missing = "error"

    def __init__(
        self,
        *,
        scale: str = "plain",
        weights_init: ArrayLike | None = None,
        weight_concentration_prior: float | ArrayLike | None = None,
        tol: float = 1e-8,
        max_iter: int = 10_000,
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        verbose: int = 0,
        stopping: str = "aitken",
        n_threads: int | None = None,
        memory_limit: str | int | None = None,
        chunk_bytes: str | int | None = None,
    ) -> None:
        self.scale = scale
        self.weights_init = weights_init
        self.weight_concentration_prior = weight_concentration_prior
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.stopping = stopping
        self.n_threads = n_threads
        self.memory_limit = memory_limit
        self.chunk_bytes = chunk_bytes

    @property
    def n_components(self) -> int:  # type: ignore[override]
        """K, the number of columns, once data or weights tell it."""
        known = self.__dict__.get("_columns")
        if known is None and self._fitted is not None and self._fitted.shape is not None:
            known = self._fitted.shape.features
        if known is None and "weights_" in self.__dict__:
            known = len(self.__dict__["weights_"])
        if known is None:
            raise AttributeError("n_components: the number of columns is not known yet; fit first")
        return int(known)

    @property
    def kkt_certificate_(self) -> float:
        """The most by which any weights have a higher log-likelihood per row than `weights_`, in nats."""
        fitted, found = self._fitted, None
        if fitted is not None and fitted.state is not None and not fitted.learns_online:
            found = PROPORTIONS.certificate(model_of(self, fitted), fitted.state)
        if found is None:
            raise AttributeError("kkt_certificate_: no pass has seen all rows at these weights; fit first")
        return found

    def _fit(self, *arguments: Any) -> None:
        """Fit; a fit that fails leaves the model, and the number of its columns, as it was."""
        try:
            super()._fit(*arguments)
        finally:
            self.__dict__.pop("_columns", None)

    def _show(self, fitted: Fitted) -> Fitted:
        """Take over what is fitted, which then tells the number of columns."""
        shown = super()._show(fitted)
        if shown.shape is not None:
            self.__dict__.pop("_columns", None)
        return shown
