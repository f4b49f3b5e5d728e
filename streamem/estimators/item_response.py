"""`ItemResponse`: how hard the items of a test are, how well they tell people apart, and what people can do."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from streamem.estimators.asking import Target
from streamem.estimators.faces.item_response import ItemResponseFace
from streamem.estimators.mixtures import MixtureEstimator
from streamem.estimators.structure import DataArguments
from streamem.estimators.traits import TRAITS, no_classes

Array = NDArray[Any]
Path = str | os.PathLike[str]


class ItemResponse(MixtureEstimator):
    """Item response theory by marginal maximum likelihood (Bock & Aitkin 1981), fitted by EM, out of core.

    P(item j is answered right | ability θ) = 1 / (1 + exp(−a_j (θ − b_j))), with θ ~ N(0, 1) over people (Birnbaum
    1968), integrated over by Gauss–Hermite quadrature. Rows are people, columns items: 1 is right, 0 is wrong.

    Parameters
    ----------
    model : {"2pl", "rasch"}, default "2pl"
        "2pl" has a difficulty b_j and a discrimination a_j for each item, "rasch" one discrimination for all, which is
        the standard deviation of the ability in units where that discrimination is 1 (Rasch 1960).
    n_nodes : int, default 41
        Nodes of the quadrature, at most 200. The likelihood is exact but for these.
    missing : {"error", "integrate"}, default "error"
        Whether answers may be missing (NaN, null), at random: they drop out of their row.
    compress : {"auto", True, False}, default "auto"
        Whether EM runs over different rows with weights; see `LatentClass`.
    tol, max_iter, random_state, warm_start, verbose, stopping, n_threads, memory_limit, chunk_bytes
        As in `GaussianMixture`, but `tol` is 1e-8, `max_iter` 1000 and `stopping` "aitken" by default. Only `sample`
        draws numbers.

    Attributes
    ----------
    difficulty_ : (d,) b, in standard deviations of the ability
    discrimination_ : (d,) a; all equal with "rasch"
    converged_, n_iter_, lower_bound_, lower_bounds_, report_, n_features_in_ : as in `GaussianMixture`

    Notes
    -----
    Statistics are tables of nodes × items, on which the M-step is Newton's method to its end: it costs nothing beside a
    pass over rows, and is exact after a mini-batch too, so that `partial_fit` and `fit_stream` are stepwise EM as of
    mixtures (Cappé & Moulines 2009). Of an item that all answer alike the likelihood has no maximum: its curve ends at
    a bound, and a `NoMaximumWarning` names it.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import ItemResponse
    >>> rng = np.random.default_rng(0)
    >>> ability, difficulty = rng.normal(size=(5000, 1)), np.array([-1.0, -0.5, 0.5, 1.0])
    >>> right = rng.random((5000, 4)) < 1.0 / (1.0 + np.exp(-1.5 * (ability - difficulty)))
    >>> test = ItemResponse("rasch").fit(right.astype(float))
    >>> test.difficulty_.round(1).tolist(), test.discrimination_[0].round(1).item()
    ([-1.1, -0.5, 0.6, 1.1], 1.4)
    >>> bool(np.corrcoef(test.transform(right.astype(float))[:, 0], ability[:, 0])[0, 1] > 0.7)
    True
    """

    face: ClassVar[ItemResponseFace] = ItemResponseFace()
    structure = TRAITS
    instead_of_noise = "answers of people who guess are rows like others; LatentClass has a class for them"

    n_init = 1
    init_params = "shares"

    difficulty_: Array
    discrimination_: Array

    def __init__(
        self,
        model: str = "2pl",
        *,
        n_nodes: int = 41,
        missing: str = "error",
        compress: bool | str = "auto",
        tol: float = 1e-8,
        max_iter: int = 1000,
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        verbose: int = 0,
        stopping: str = "aitken",
        n_threads: int | None = None,
        memory_limit: str | int | None = None,
        chunk_bytes: str | int | None = None,
    ) -> None:
        self.model = model
        self.n_nodes = n_nodes
        self.missing = missing
        self.compress = compress
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.stopping = stopping
        self.n_threads = n_threads
        self.memory_limit = memory_limit
        self.chunk_bytes = chunk_bytes

    def transform(self, X: Any) -> Array:
        """Expected ability of every person given the answers (EAP), (n, 1), in standard deviations.

        Examples
        --------
        >>> from streamem import ItemResponse
        >>> answers = [[1, 0], [0, 0], [1, 1], [0, 0], [0, 1], [1, 1]]
        >>> few, many = ItemResponse("rasch", tol=1e-4).fit(answers).transform([[0, 0], [1, 1]]).ravel().tolist()
        >>> few < many
        True
        """
        found: Array = self._answer("ability", X, DataArguments(), Target(plain=True))
        return found

    def abilities(
        self,
        X: Any,
        *,
        out: Path | None = None,
        overwrite: bool = False,
        id_columns: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> Any:
        """Expected ability of every person given the answers, and its standard deviation, (n, 2).

        Parameters
        ----------
        X, out, overwrite, id_columns, columns, feature_axis, executor : as in `GaussianMixture.predict`

        Examples
        --------
        >>> from streamem import ItemResponse
        >>> answers = [[1, 0], [0, 0], [1, 1], [0, 0], [0, 1], [1, 1]]
        >>> ItemResponse("rasch", tol=1e-4).fit(answers).abilities(answers).shape
        (6, 2)
        """
        target = Target(out, overwrite, executor, id_columns)
        return self._answer("abilities", X, DataArguments(None, columns, feature_axis), target)

    predict = predict_proba = fit_predict = property(no_classes)

    @property
    def _n_features_out(self) -> int:
        """For `get_feature_names_out`: the ability."""
        return 1
