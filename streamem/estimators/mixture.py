"""`Mixture`: a mixture of any family, the user's own included."""

from __future__ import annotations

import os
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from streamem.core.arrays import Params
from streamem.core.ports import Family
from streamem.estimators.faces.family import FamilyFace
from streamem.estimators.mixtures import MixtureEstimator


class Mixture(MixtureEstimator):
    """Mixture of any `Family`, fitted by EM, out of core.

    Parameters
    ----------
    family : object with ``log_prob(params, x)``, ``stats(params, x, resp)`` and ``maximize(stats, previous)``
        See `streamem.core.ports.Family`; axis 0 of every parameter is the component. Families of this library have
        words too: ``"poisson"``, or ``"income:lognormal,lat+lon:gaussian,region:categorical"`` for columns of several
        kinds. Files hold them with their settings; a family that is code of yours is given again at `load`.
    n_components : int, default 1
    tol, max_iter, n_init, init_params, random_state, warm_start, verbose, stopping
    n_threads, memory_limit, chunk_bytes
        As in `GaussianMixture`, but `stopping` is "aitken" by default.
    missing : {"error", "integrate"}, default "error"
        As in `GaussianMixture`; "integrate" needs a family that knows missing values (`FullFamily.integrating`): all of
        ours for rows but `Multinomial` and `VonMisesFisher`, and your own with ``allows_missing = True`` whose
        `log_prob` and `stats` leave out what is NaN.
    unseen : {"error", "missing"}, default "error"
        What a category is that the data of the fit did not hold: an error, or a missing value (with
        ``missing="integrate"``): its column drops out of the row.
    noise : bool, default False
        As in `GaussianMixture`; columns of counts or codes have a probability for each whole number in the box.
    weight_concentration_prior : float or (K,), optional
        As in `GaussianMixture`. Priors of a family's parameters belong to the family: `GammaPrior`, `NormalWishart`,
        ``Categorical(prior=...)``.

    Attributes
    ----------
    weights_ : (K,)
    params_ : Params of the family
    converged_, n_iter_, lower_bound_, lower_bounds_, objective_, report_, n_features_in_ : as in `GaussianMixture`

    Examples
    --------
    A distribution of your own in four lines:

    >>> import numpy as np
    >>> from scipy.special import gammaln
    >>> from streamem import Mixture, Params, Stats
    >>> class Poisson:
    ...     def log_prob(self, p, x):
    ...         return x @ np.log(p.rates).T - p.rates.sum(1) - gammaln(x + 1).sum(1, keepdims=True)
    ...     def stats(self, p, x, resp): return Stats(weight=resp.sum(0), x=resp.T @ x)
    ...     def maximize(self, s, previous): return Params(rates=s.x / s.weight[:, None])
    >>> x = np.repeat(np.arange(10.0), [162, 267, 271, 185, 111, 61, 27, 8, 3, 1])[:, None]
    >>> mix = Mixture(Poisson(), 2, tol=1e-12, max_iter=20_000, random_state=0).fit(x)
    >>> sorted(mix.params_.rates.ravel().round(3).tolist())
    [1.256, 2.663]
    """

    face: ClassVar[FamilyFace] = FamilyFace()

    params_: Params

    def __init__(
        self,
        family: Family | str,
        n_components: int = 1,
        *,
        tol: float = 1e-3,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: str = "kmeans",
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        verbose: int = 0,
        stopping: str = "aitken",
        missing: str = "error",
        unseen: str = "error",
        noise: bool = False,
        weight_concentration_prior: float | ArrayLike | None = None,
        n_threads: int | None = None,
        memory_limit: str | int | None = None,
        chunk_bytes: str | int | None = None,
    ) -> None:
        self.family = family
        self.n_components = n_components
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.stopping = stopping
        self.missing = missing
        self.unseen = unseen
        self.noise = noise
        self.weight_concentration_prior = weight_concentration_prior
        self.n_threads = n_threads
        self.memory_limit = memory_limit
        self.chunk_bytes = chunk_bytes

    @classmethod
    def load(cls, path: str | os.PathLike[str], **objects: Any) -> Self:
        """Read a model that `save` wrote; a family that is code of yours has to be given again: ``family=``.

        Raises
        ------
        ParameterError : neither the file nor the call has a family
        ModelFileError : not such a file, damaged, newer than this library, or not to be trusted

        Examples
        --------
        >>> import os, tempfile
        >>> from streamem import Mixture, Poisson
        >>> path = os.path.join(tempfile.mkdtemp(), "model.npz")
        >>> Mixture(Poisson(), 1).fit([[1], [2], [3]]).save(path)
        >>> Mixture.load(path).params_.rates.tolist()
        [[2.0]]
        """
        return super().load(path, **objects)
