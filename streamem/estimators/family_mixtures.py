"""Mixtures of one family each, under names of their own: a face from a table; hyperparameters are those of all."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.estimators.faces.named import NamedFace
from streamem.estimators.mixtures import MixtureEstimator
from streamem.families import Bernoulli, Gamma, Multinomial, NegativeBinomial, Poisson, VonMisesFisher

Array = NDArray[Any]


def _success(components: Params) -> Array:
    """SciPy's p of negative binomial counts."""
    return np.asarray(1.0 / (1.0 + components.means / components.sizes))


class PoissonMixture(MixtureEstimator):
    """Mixture of independent Poisson counts, fitted by EM, out of core; see `streamem.families.Poisson`.

    Parameters
    ----------
    n_components : int, default 1
    tol, max_iter, n_init, init_params, random_state, warm_start, verbose, stopping
    missing, noise, weight_concentration_prior, n_threads, memory_limit, chunk_bytes
        As in `Mixture`.

    Attributes
    ----------
    weights_ : (K,)
    rates_ : (K, d)
    converged_, n_iter_, lower_bound_, lower_bounds_, report_, n_features_in_ : as in `GaussianMixture`

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import PoissonMixture
    >>> counts = np.repeat(np.arange(10.0), [162, 267, 271, 185, 111, 61, 27, 8, 3, 1])[:, None]
    >>> mix = PoissonMixture(2, tol=1e-10, max_iter=20_000, random_state=0).fit(counts)
    >>> sorted(mix.rates_.ravel().round(2).tolist())
    [1.26, 2.66]
    """

    face: ClassVar[NamedFace] = NamedFace(Poisson, {"rates_": "rates"})

    rates_: Array


class BernoulliMixture(MixtureEstimator):
    """Mixture of independent values of 0 or 1, fitted by EM, out of core; see `streamem.families.Bernoulli`.

    Parameters
    ----------
    n_components : int, default 1
    tol, max_iter, n_init, init_params, random_state, warm_start, verbose, stopping
    missing, noise, weight_concentration_prior, n_threads, memory_limit, chunk_bytes
        As in `Mixture`.

    Attributes
    ----------
    weights_ : (K,)
    probabilities_ : (K, d) of 1
    converged_, n_iter_, lower_bound_, lower_bounds_, report_, n_features_in_ : as in `GaussianMixture`

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import BernoulliMixture
    >>> answers = np.repeat([[0.0, 0.0, 1.0], [1.0, 1.0, 0.0]], [6, 4], axis=0)
    >>> BernoulliMixture(2, random_state=0).fit(answers).weights_.round(2).tolist()
    [0.6, 0.4]
    """

    face: ClassVar[NamedFace] = NamedFace(Bernoulli, {"probabilities_": "probabilities"}, discrete=True)

    probabilities_: Array


class GammaMixture(MixtureEstimator):
    """Mixture of independent gamma variables, fitted by EM, out of core; see `streamem.families.Gamma`.

    Parameters
    ----------
    n_components : int, default 1
    tol, max_iter, n_init, init_params, random_state, warm_start, verbose, stopping
    missing, noise, weight_concentration_prior, n_threads, memory_limit, chunk_bytes
        As in `Mixture`.

    Attributes
    ----------
    weights_ : (K,)
    shapes_, scales_ : (K, d), SciPy's ``a`` and ``scale``
    converged_, n_iter_, lower_bound_, lower_bounds_, report_, n_features_in_ : as in `GaussianMixture`

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import GammaMixture
    >>> x = np.random.default_rng(0).gamma(np.repeat([2.0, 50.0], 500))[:, None]
    >>> GammaMixture(2, random_state=0).fit(x).weights_.round(2).tolist()
    [0.5, 0.5]
    """

    face: ClassVar[NamedFace] = NamedFace(Gamma, {"shapes_": "shapes", "scales_": "scales"})

    shapes_: Array
    scales_: Array


class NegativeBinomialMixture(MixtureEstimator):
    """Mixture of negative binomial counts, fitted by EM, out of core; see `streamem.families.NegativeBinomial`.

    Parameters
    ----------
    n_components : int, default 1
    tol, max_iter, n_init, init_params, random_state, warm_start, verbose, stopping
    missing, noise, weight_concentration_prior, n_threads, memory_limit, chunk_bytes
        As in `Mixture`.

    Attributes
    ----------
    weights_ : (K,)
    sizes_, means_ : (K, d), SciPy's ``n``, and the mean n (1 − p)/p
    probabilities_ : (K, d), SciPy's ``p`` = sizes_/(sizes_ + means_)
    converged_, n_iter_, lower_bound_, lower_bounds_, report_, n_features_in_ : as in `GaussianMixture`

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import NegativeBinomialMixture
    >>> x = np.random.default_rng(0).negative_binomial(np.repeat([5, 200], 500), 0.5)[:, None]
    >>> NegativeBinomialMixture(2, random_state=0, max_iter=2000).fit(x).weights_.round(2).tolist()
    [0.5, 0.5]
    """

    face: ClassVar[NamedFace] = NamedFace(
        NegativeBinomial,
        {"sizes_": "sizes", "means_": "means"},
        derived={"probabilities_": _success},
    )

    sizes_: Array
    means_: Array
    probabilities_: Array


class MultinomialMixture(MixtureEstimator):
    """Mixture of counts of a row over all columns, fitted by EM, out of core; see `streamem.families.Multinomial`.

    Parameters
    ----------
    n_components : int, default 1
    tol, max_iter, n_init, init_params, random_state, warm_start, verbose, stopping
    missing, noise, n_threads, memory_limit, chunk_bytes
        As in `Mixture`; a count that is missing is an error, and so is noise.

    Attributes
    ----------
    weights_ : (K,)
    probabilities_ : (K, d), which sum to 1 over the columns
    converged_, n_iter_, lower_bound_, lower_bounds_, report_, n_features_in_ : as in `GaussianMixture`

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import MultinomialMixture
    >>> words = np.repeat([[9, 1, 0], [0, 2, 8]], [6, 4], axis=0)
    >>> MultinomialMixture(2, random_state=0).fit(words).weights_.round(2).tolist()
    [0.6, 0.4]
    """

    face: ClassVar[NamedFace] = NamedFace(Multinomial, {"probabilities_": "probabilities"})

    probabilities_: Array


class VonMisesFisherMixture(MixtureEstimator):
    """Mixture of unit vectors (von Mises–Fisher), fitted by EM, out of core; see `streamem.families.VonMisesFisher`.

    Parameters
    ----------
    n_components : int, default 1
    tol, max_iter, n_init, init_params, random_state, warm_start, verbose, stopping
    missing, noise, n_threads, memory_limit, chunk_bytes
        As in `Mixture`; a part of a vector that is missing is an error, and so is noise.

    Attributes
    ----------
    weights_ : (K,)
    directions_ : (K, d) unit vectors
    kappas_ : (K,) concentrations
    converged_, n_iter_, lower_bound_, lower_bounds_, report_, n_features_in_ : as in `GaussianMixture`

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import VonMisesFisherMixture
    >>> x = np.random.default_rng(0).normal(np.repeat([[5.0, 0, 0], [0, 0, 5.0]], 300, axis=0))
    >>> mix = VonMisesFisherMixture(2, random_state=0).fit(x / np.linalg.norm(x, axis=1, keepdims=True))
    >>> mix.weights_.round(1).tolist()
    [0.5, 0.5]
    """

    face: ClassVar[NamedFace] = NamedFace(
        VonMisesFisher, {"directions_": "directions", "kappas_": "kappas"}, alone=("kappas_",)
    )

    directions_: Array
    kappas_: Array
