"""What a fitted model of a user's own answers, whatever its hyperparameters: the base of `EM`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, ClassVar

from numpy.typing import ArrayLike, NDArray
from sklearn.base import TransformerMixin
from sklearn.utils import check_random_state

from streamem.core.errors import ParameterError
from streamem.core.ports.own import takes_missing
from streamem.estimators.asking import Target, scores_of
from streamem.estimators.diagnosis import Diagnosis
from streamem.estimators.estimator import Estimator
from streamem.estimators.faces.own_model import OwnModelFace
from streamem.estimators.own_answers import if_able, own_answer
from streamem.estimators.own_errors import own_standard_errors
from streamem.estimators.own_rows import OWN_ROWS
from streamem.estimators.structure import DataArguments
from streamem.estimators.uncertainty import StandardErrors

Array = NDArray[Any]
Path = str | os.PathLike[str]


class OwnModel(TransformerMixin, Estimator, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """An estimator whose `model` is code of a user: questions that are functions of the model, and scores.

    Raises
    ------
    NoAbilityError : at the lookup of a method whose function the model has not
    """

    structure = OWN_ROWS
    face: ClassVar[OwnModelFace] = OwnModelFace()
    n_components: ClassVar[int] = 1
    init_params: ClassVar[str] = "model"
    instead_of_noise = "rows that the model does not explain are for its own e_step to weigh"

    @property
    def missing(self) -> str:  # type: ignore[override]
        """ "integrate" where the model says that it takes NaN, else "error"; no hyperparameter.

        Examples
        --------
        >>> from types import SimpleNamespace
        >>> from streamem import EM
        >>> EM(SimpleNamespace(missing="values")).missing
        'integrate'
        """
        return "integrate" if takes_missing(self.__dict__.get("model")) else "error"

    set_output = Estimator.set_output

    # --- questions that the model answers ----------------------------------------------------------------------------

    @if_able("predict")
    def predict(
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
        """What ``predict(params, chunk)`` of the model says of every row: (n,) or (n, m).

        Parameters
        ----------
        X, out, overwrite, id_columns, columns, feature_axis, executor : as in `GaussianMixture.predict`

        Raises
        ------
        NoAbilityError : the model has no `predict`; to Python, the method is not there

        Examples
        --------
        >>> from types import SimpleNamespace
        >>> from streamem import EM
        >>> normal = SimpleNamespace(
        ...     init=lambda sample, rng: {"m": 0.0},
        ...     e_step=lambda p, c: {
        ...         "x": c.weight @ c.x[:, 0], "log_likelihood": -c.weight @ (c.x[:, 0] - p["m"]) ** 2 / 2
        ...     },
        ...     m_step=lambda s, previous: {"m": s["x"] / s["weight"]},
        ...     predict=lambda p, c: c.x[:, 0] - p["m"],
        ... )
        >>> EM(normal).fit([[0.0], [1.0], [5.0]]).predict([[3.0]]).tolist()
        [1.0]
        """
        target = Target(out, overwrite, executor, id_columns)
        return own_answer(self, self._now(), "predict", X, DataArguments(None, columns, feature_axis), target)

    @if_able("predict_proba")
    def predict_proba(
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
        """What ``predict_proba(params, chunk)`` of the model says of every row (n, m); arguments as in `predict`.

        Examples
        --------
        >>> import numpy as np
        >>> from types import SimpleNamespace
        >>> from streamem import EM
        >>> normal = SimpleNamespace(
        ...     init=lambda sample, rng: {"m": 0.0},
        ...     e_step=lambda p, c: {
        ...         "x": c.weight @ c.x[:, 0], "log_likelihood": -c.weight @ (c.x[:, 0] - p["m"]) ** 2 / 2
        ...     },
        ...     m_step=lambda s, previous: {"m": s["x"] / s["weight"]},
        ...     predict_proba=lambda p, c: np.column_stack([c.x[:, 0] <= p["m"], c.x[:, 0] > p["m"]]) * 1.0,
        ... )
        >>> EM(normal).fit([[0.0], [1.0], [5.0]]).predict_proba([[3.0]]).tolist()
        [[0.0, 1.0]]
        """
        target = Target(out, overwrite, executor, id_columns)
        return own_answer(self, self._now(), "predict_proba", X, DataArguments(None, columns, feature_axis), target)

    @if_able("transform")
    def transform(self, X: Any) -> Any:
        """What ``transform(params, chunk)`` of the model says of every row (n, m), as features for a next step.

        Examples
        --------
        >>> from types import SimpleNamespace
        >>> from streamem import EM
        >>> normal = SimpleNamespace(
        ...     init=lambda sample, rng: {"m": 0.0},
        ...     e_step=lambda p, c: {
        ...         "x": c.weight @ c.x[:, 0], "log_likelihood": -c.weight @ (c.x[:, 0] - p["m"]) ** 2 / 2
        ...     },
        ...     m_step=lambda s, previous: {"m": s["x"] / s["weight"]},
        ...     transform=lambda p, c: c.x - p["m"],
        ... )
        >>> EM(normal).fit([[0.0], [1.0], [5.0]]).transform([[3.0]]).tolist()
        [[1.0]]
        """
        return own_answer(self, self._now(), "transform", X, DataArguments(), Target())

    @if_able("score_samples")
    def score_samples(
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
        """What ``score_samples(params, chunk)`` of the model says: log p(row) (n,), in nats; arguments as in `predict`.

        Examples
        --------
        >>> from types import SimpleNamespace
        >>> from streamem import EM
        >>> normal = SimpleNamespace(
        ...     init=lambda sample, rng: {"m": 0.0},
        ...     e_step=lambda p, c: {
        ...         "x": c.weight @ c.x[:, 0], "log_likelihood": -c.weight @ (c.x[:, 0] - p["m"]) ** 2 / 2
        ...     },
        ...     m_step=lambda s, previous: {"m": s["x"] / s["weight"]},
        ...     score_samples=lambda p, c: -((c.x[:, 0] - p["m"]) ** 2) / 2,
        ... )
        >>> EM(normal).fit([[0.0], [1.0], [5.0]]).score_samples([[3.0]]).tolist()
        [-0.5]
        """
        target = Target(out, overwrite, executor, id_columns)
        return own_answer(self, self._now(), "score_samples", X, DataArguments(None, columns, feature_axis), target)

    @if_able("sample")
    def sample(self, n_samples: int = 1) -> Array:
        """Rows (n_samples, d) that ``sample(params, n, rng)`` of the model draws.

        Raises
        ------
        NoAbilityError : the model has no `sample`

        Examples
        --------
        >>> from types import SimpleNamespace
        >>> from streamem import EM
        >>> normal = SimpleNamespace(
        ...     init=lambda sample, rng: {"m": 0.0},
        ...     e_step=lambda p, c: {
        ...         "x": c.weight @ c.x[:, 0], "log_likelihood": -c.weight @ (c.x[:, 0] - p["m"]) ** 2 / 2
        ...     },
        ...     m_step=lambda s, previous: {"m": s["x"] / s["weight"]},
        ...     sample=lambda p, n, rng: rng.normal(p["m"], 1.0, size=(n, 1)),
        ... )
        >>> EM(normal).fit([[0.0], [1.0], [5.0]]).sample(3).shape
        (3, 1)
        """
        fitted = self._now()
        if isinstance(n_samples, bool) or not n_samples >= 1:
            raise ParameterError(f"n_samples is {n_samples}; an integer >= 1 is needed")
        rng = check_random_state(self.random_state)
        return next(OWN_ROWS.pieces(self, fitted, n_samples, n_samples, rng))

    # --- how well it fits --------------------------------------------------------------------------------------------

    def score(
        self,
        X: Any,
        y: Any = None,
        sample_weight: ArrayLike | str | None = None,
        *,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> float:
        """Mean log-likelihood per unit of weight, in nats, by the E-step of the model.

        Examples
        --------
        >>> from types import SimpleNamespace
        >>> from streamem import EM
        >>> normal = SimpleNamespace(
        ...     init=lambda sample, rng: {"m": 0.0},
        ...     e_step=lambda p, c: {
        ...         "x": c.weight @ c.x[:, 0], "log_likelihood": -c.weight @ (c.x[:, 0] - p["m"]) ** 2 / 2
        ...     },
        ...     m_step=lambda s, previous: {"m": s["x"] / s["weight"]},
        ... )
        >>> EM(normal).fit([[0.0], [1.0], [5.0]]).score([[4.0]])
        -2.0
        """
        arguments = DataArguments(sample_weight, columns, feature_axis)
        return scores_of(self, self._now(), X, arguments, executor)["log_likelihood_per_row"]

    def scores(self, X: Any, *, executor: Any = None, **options: Any) -> dict[str, float]:
        """Scores of X from one pass: weight, log-likelihood (total, per row), AIC, BIC; options as in `score`.

        Free parameters are as many as ``n_parameters(params)`` of the model says, else all numbers of the parameters.

        Examples
        --------
        >>> from types import SimpleNamespace
        >>> from streamem import EM
        >>> normal = SimpleNamespace(
        ...     init=lambda sample, rng: {"m": 0.0},
        ...     e_step=lambda p, c: {
        ...         "x": c.weight @ c.x[:, 0], "log_likelihood": -c.weight @ (c.x[:, 0] - p["m"]) ** 2 / 2
        ...     },
        ...     m_step=lambda s, previous: {"m": s["x"] / s["weight"]},
        ... )
        >>> EM(normal).fit([[0.0], [1.0], [5.0]]).scores([[4.0]])["aic"]
        6.0
        """
        return scores_of(self, self._now(), X, DataArguments(**options), executor)

    def bic(self, X: Any, **options: Any) -> float:
        """Bayesian information criterion (Schwarz 1978): −2ℓ + p·log(Σ weights). Options are those of `score`.

        Examples
        --------
        >>> from types import SimpleNamespace
        >>> from streamem import EM
        >>> normal = SimpleNamespace(
        ...     init=lambda sample, rng: {"m": 0.0},
        ...     e_step=lambda p, c: {
        ...         "x": c.weight @ c.x[:, 0], "log_likelihood": -c.weight @ (c.x[:, 0] - p["m"]) ** 2 / 2
        ...     },
        ...     m_step=lambda s, previous: {"m": s["x"] / s["weight"]},
        ... )
        >>> EM(normal).fit([[0.0], [1.0], [5.0]]).bic([[4.0]])
        4.0
        """
        return self.scores(X, **options)["bic"]

    def aic(self, X: Any, **options: Any) -> float:
        """Akaike's information criterion (1974): −2ℓ + 2p. Options are those of `score`.

        Examples
        --------
        >>> from types import SimpleNamespace
        >>> from streamem import EM
        >>> normal = SimpleNamespace(
        ...     init=lambda sample, rng: {"m": 0.0},
        ...     e_step=lambda p, c: {
        ...         "x": c.weight @ c.x[:, 0], "log_likelihood": -c.weight @ (c.x[:, 0] - p["m"]) ** 2 / 2
        ...     },
        ...     m_step=lambda s, previous: {"m": s["x"] / s["weight"]},
        ... )
        >>> EM(normal).fit([[0.0], [1.0], [5.0]]).aic([[4.0]])
        6.0
        """
        return self.scores(X, **options)["aic"]

    def standard_errors(
        self,
        X: Any,
        lengths: Any = None,
        *,
        method: str = "observed",
        sample_weight: Any = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        offsets: Any = None,
        sequence_column: str | None = None,
        executor: Any = None,
    ) -> StandardErrors:
        """How far `params_` are likely to be off, from two passes over X, the data of the fit.

        Parameters
        ----------
        X, sample_weight, columns, feature_axis, executor : as in `fit`
        method : "observed", "opg" or "sandwich", default "observed"
            As in `GaussianMixture.standard_errors`; "opg" and "sandwich" need ``scores`` or ``score_samples`` of the
            model.
        lengths, offsets, sequence_column : refused, since rows stand alone

        Returns
        -------
        StandardErrors
            ``errors["params_"]`` has arrays shaped like `params_`; 0 is the error of what `m_step` keeps fixed. Its
            `covariance` is that of as many of the numbers as are free.

        Warns
        -----
        UncertaintyWarning : parameters that the data do not tell, which are NaN; a fit that is not at the maximum

        Raises
        ------
        ParameterError : a method that the model cannot serve, or more than 100 free numbers

        Notes
        -----
        The log-likelihood of `e_step` is differentiated numerically along ways that `m_step` can go, so that ties
        between parameters (probabilities that sum to 1) need not be told. With p free numbers, a chunk takes p² + 2·p
        E-steps; 2·p for "opg", or where the model has ``scores``.

        Examples
        --------
        >>> import numpy as np
        >>> from types import SimpleNamespace
        >>> from streamem import EM
        >>> normal = SimpleNamespace(
        ...     init=lambda sample, rng: {"m": 0.0},
        ...     e_step=lambda p, c: {
        ...         "x": c.weight @ c.x[:, 0], "log_likelihood": -c.weight @ (c.x[:, 0] - p["m"]) ** 2 / 2
        ...     },
        ...     m_step=lambda s, previous: {"m": s["x"] / s["weight"]},
        ... )
        >>> x = np.linspace(0.0, 1.0, 100)[:, None]
        >>> round(float(EM(normal).fit(x).standard_errors(x)["params_"]["m"]), 6)
        0.1
        """
        if lengths is not None or offsets is not None or sequence_column is not None:
            raise ParameterError("lengths, offsets and sequence_column are those of sequences; rows of EM stand alone")
        arguments = DataArguments(sample_weight, columns, feature_axis)
        return own_standard_errors(self, self._now(), X, arguments, method, executor)

    def diagnose(self, X: Any, lengths: Any = None, *, executor: Any = None, **options: Any) -> Diagnosis:
        """Refused: a diagnosis tells components apart, and a model of one's own says nothing of such.

        Raises
        ------
        ParameterError : always

        Examples
        --------
        >>> from types import SimpleNamespace
        >>> from streamem import EM, StreamemError
        >>> try:
        ...     EM(SimpleNamespace()).diagnose([[0.0]])
        ... except StreamemError as error:
        ...     print(str(error)[:36])
        EM has no diagnose: a diagnosis tell
        """
        raise ParameterError(
            "EM has no diagnose: a diagnosis tells components apart, and a model of your own says nothing of such; "
            "report_ tells how fast EM converged, and check_model of streamem.conformance looks for mistakes"
        )
