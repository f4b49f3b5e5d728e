"""What a fitted linear Gaussian chain answers: the base of `LinearGaussianChain`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from streamem.core.errors import ParameterError
from streamem.estimators.asking import Target, scores_of
from streamem.estimators.chain_answers import Forecast, feature_names, filled, forecast, states, told
from streamem.estimators.chain_errors import chain_standard_errors
from streamem.estimators.chain_steps import CHAIN_STEPS
from streamem.estimators.diagnosis import Diagnosis
from streamem.estimators.estimator import Estimator
from streamem.estimators.labels import lengths_told
from streamem.estimators.structure import DataArguments
from streamem.estimators.uncertainty import StandardErrors

Array = NDArray[Any]
Path = str | os.PathLike[str]


class ChainQuestions(Estimator):
    """Questions about sequences whose hidden state is Gaussian: states, values, forecasts, scores and their errors."""

    def smooth(
        self,
        X: Any,
        lengths: Any = None,
        *,
        covariances: bool = False,
        offsets: Any = None,
        sequence_column: str | None = None,
        out: Path | None = None,
        overwrite: bool = False,
        id_columns: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> Any:
        """States given all steps of their sequence (Kalman's smoother).

        Parameters
        ----------
        X, lengths, offsets, sequence_column, columns, feature_axis, executor : as in `fit`
        covariances : bool, default False
            Answer ``(means, covariances)``; in a file, k² columns more behind the means.
        out, overwrite, id_columns : as in `GaussianHMM.decode`

        Returns
        -------
        (n, k) means, NaN for padding; or a tuple of these and (n, k, k) covariances; or `out`

        Examples
        --------
        >>> from streamem import LinearGaussianChain
        >>> steps = [[0.0], [1.0], [float("nan")], [4.0]]
        >>> chain = LinearGaussianChain.local_level(n_iter=5, tol=0.1).fit(steps)
        >>> means, covariances = chain.smooth(steps, covariances=True)
        >>> means.shape, covariances.shape
        ((4, 1), (4, 1, 1))
        """
        arguments = DataArguments(None, columns, feature_axis, lengths, offsets, sequence_column)
        target = Target(out, overwrite, executor, id_columns)
        return states(self, self._now(), "smoothed", X, arguments, covariances, target)

    def filter(
        self,
        X: Any,
        lengths: Any = None,
        *,
        covariances: bool = False,
        offsets: Any = None,
        sequence_column: str | None = None,
        out: Path | None = None,
        overwrite: bool = False,
        id_columns: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> Any:
        """States given the steps up to theirs (Kalman's filter); arguments and result as in `smooth`.

        Steps that do not yet tell a diffuse start are NaN.

        Examples
        --------
        >>> from streamem import LinearGaussianChain
        >>> steps = [[0.0], [1.0], [2.0], [4.0]]
        >>> chain = LinearGaussianChain.local_level(n_iter=5, tol=0.1).fit(steps)
        >>> bool((chain.filter(steps)[-1] == chain.smooth(steps)[-1]).all() or abs(chain.filter(steps)[-1]) < 5)
        True
        """
        arguments = DataArguments(None, columns, feature_axis, lengths, offsets, sequence_column)
        target = Target(out, overwrite, executor, id_columns)
        return states(self, self._now(), "filtered", X, arguments, covariances, target)

    def forecast(
        self,
        X: Any,
        steps: int = 1,
        lengths: Any = None,
        *,
        offsets: Any = None,
        sequence_column: str | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> Forecast:
        """Values of the steps that follow each sequence of X.

        Parameters
        ----------
        X, lengths, offsets, sequence_column, columns, feature_axis, executor : as in `fit`; None as X stands for the
            endless sequence that `partial_fit` or `fit_stream` learned last (``continued=True``)
        steps : how many

        Returns
        -------
        ``(means, covariances)``: (steps, d) and (steps, d, d) of one sequence, (s, steps, d) and (s, steps, d, d) of
        several; the noise of observations is included

        Examples
        --------
        >>> from streamem import LinearGaussianChain
        >>> steps = [[0.0], [1.0], [2.0], [4.0]]
        >>> chain = LinearGaussianChain.local_level(n_iter=5, tol=0.1).fit(steps)
        >>> chain.forecast(steps, 3).means.shape
        (3, 1)
        """
        arguments = DataArguments(None, columns, feature_axis, lengths, offsets, sequence_column)
        return forecast(self, self._now(), X, steps, arguments, executor)

    def predict(
        self,
        X: Any,
        lengths: Any = None,
        *,
        offsets: Any = None,
        sequence_column: str | None = None,
        out: Path | None = None,
        overwrite: bool = False,
        id_columns: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> Any:
        """The signal: values of every step without their noise, C·E[x] + d given the whole sequence, (n, d).

        Arguments as in `smooth`.

        Examples
        --------
        >>> from streamem import LinearGaussianChain
        >>> steps = [[0.0], [1.0], [2.0], [4.0]]
        >>> LinearGaussianChain.local_level(n_iter=5, tol=0.1).fit(steps).predict(steps).shape
        (4, 1)
        """
        arguments = DataArguments(None, columns, feature_axis, lengths, offsets, sequence_column)
        target, fitted = Target(out, overwrite, executor, id_columns), self._now()
        return told(self, fitted, "signal", feature_names(fitted, X, self, arguments), X, arguments, target)

    def impute(
        self,
        X: Any,
        lengths: Any = None,
        *,
        n_draws: int = 0,
        offsets: Any = None,
        sequence_column: str | None = None,
        out: Path | None = None,
        overwrite: bool = False,
        id_columns: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> Any:
        """X with expected values, given all that was observed of their sequence, in place of NaN, (n, d).

        Arguments as in `smooth`; padding stays NaN. Steps depend on each other, and are not drawn: `n_draws` is 0.

        Examples
        --------
        >>> from streamem import LinearGaussianChain
        >>> steps = [[0.0], [1.0], [float("nan")], [4.0]]
        >>> LinearGaussianChain.local_level(n_iter=5, tol=0.1).fit(steps).impute(steps).ravel()[[0, 1, 3]].tolist()
        [0.0, 1.0, 4.0]
        """
        arguments = DataArguments(None, columns, feature_axis, lengths, offsets, sequence_column)
        if n_draws != 0:
            raise ParameterError(
                f"n_draws is {n_draws!r}: missing steps of a chain depend on each other, and are not drawn; 0 gives "
                "their expected values"
            )
        return filled(self, self._now(), X, arguments, Target(out, overwrite, executor, id_columns))

    def score_samples(
        self,
        X: Any,
        lengths: Any = None,
        *,
        offsets: Any = None,
        sequence_column: str | None = None,
        out: Path | None = None,
        overwrite: bool = False,
        id_columns: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> Any:
        """log p(step | steps before it) of every step, in nats, (n,), NaN for padding; they sum to `score`.

        Before a diffuse start is told, only the sum of steps means something. Arguments as in `smooth`.

        Examples
        --------
        >>> import numpy as np
        >>> from streamem import LinearGaussianChain
        >>> steps = [[0.0], [1.0], [2.0], [4.0]]
        >>> chain = LinearGaussianChain.local_level(n_iter=5, tol=0.1).fit(steps)
        >>> bool(np.isclose(chain.score_samples(steps).sum(), chain.score(steps)))
        True
        """
        arguments = DataArguments(None, columns, feature_axis, lengths, offsets, sequence_column)
        target = Target(out, overwrite, executor, id_columns)
        return told(self, self._now(), "step_densities", None, X, arguments, target)

    def score(
        self,
        X: Any,
        y: Any = None,
        *,
        lengths: Any = None,
        offsets: Any = None,
        sequence_column: str | None = None,
        sample_weight: Any = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> float:
        """Log-likelihood of all sequences together, in nats; with a diffuse start, of what follows it.

        Examples
        --------
        >>> from streamem import LinearGaussianChain
        >>> steps = [[0.0], [1.0], [2.0], [4.0]]
        >>> chain = LinearGaussianChain.local_level(n_iter=5, tol=0.1).fit(steps)
        >>> chain.score(steps) > chain.score([[0.0], [9.0], [-9.0], [9.0]])
        True
        """
        arguments = DataArguments(
            sample_weight, columns, feature_axis, lengths_told(X, y, lengths), offsets, sequence_column
        )
        return scores_of(self, self._now(), X, arguments, executor)["log_likelihood"]

    def scores(self, X: Any, lengths: Any = None, *, executor: Any = None, **options: Any) -> dict[str, float]:
        """Scores of X from one pass: weight, log-likelihood (total, per row), AIC, BIC. Options are those of `score`.

        Examples
        --------
        >>> from streamem import LinearGaussianChain
        >>> steps = [[0.0], [1.0], [2.0], [4.0]]
        >>> sorted(LinearGaussianChain.local_level(n_iter=5, tol=0.1).fit(steps).scores(steps))
        ['aic', 'bic', 'log_likelihood', 'log_likelihood_per_row', 'weight']
        """
        return scores_of(self, self._now(), X, DataArguments(lengths=lengths, **options), executor)

    def bic(self, X: Any, lengths: Any = None, **options: Any) -> float:
        """Bayesian information criterion (Schwarz 1978): −2ℓ + p·log(rows). Options are those of `score`.

        Numbers that only turn or stretch the latent space are not counted.

        Examples
        --------
        >>> from streamem import LinearGaussianChain
        >>> steps = [[0.0], [1.0], [2.0], [4.0]]
        >>> chain = LinearGaussianChain.local_level(n_iter=5, tol=0.1).fit(steps)
        >>> chain.bic(steps) < chain.bic([[0.0], [9.0], [-9.0], [9.0]])
        True
        """
        return self.scores(X, lengths, **options)["bic"]

    def aic(self, X: Any, lengths: Any = None, **options: Any) -> float:
        """Akaike's information criterion (1974): −2ℓ + 2p. Options are those of `score`.

        Examples
        --------
        >>> from streamem import LinearGaussianChain
        >>> steps = [[0.0], [1.0], [2.0], [4.0]]
        >>> chain = LinearGaussianChain.local_level(n_iter=5, tol=0.1).fit(steps)
        >>> chain.aic(steps) < chain.aic([[0.0], [9.0], [-9.0], [9.0]])
        True
        """
        return self.scores(X, lengths, **options)["aic"]

    def sample(
        self,
        n_samples: int = 1,
        random_state: int | np.random.RandomState | None = None,
        currstate: ArrayLike | None = None,
    ) -> tuple[Array, Array]:
        """Draw one sequence of `n_samples` steps.

        Parameters
        ----------
        random_state : None uses that of the estimator
        currstate : (k,) the state of the first step; None draws it, which a diffuse start cannot

        Returns
        -------
        X (n_samples, d), states (n_samples, k)

        Examples
        --------
        >>> from streamem import LinearGaussianChain
        >>> chain = LinearGaussianChain.local_level(n_iter=5, tol=0.1).fit([[0.0], [1.0], [2.0], [4.0]])
        >>> x, states = chain.sample(5, random_state=0, currstate=[4.0])
        >>> x.shape, float(states[0, 0])
        ((5, 1), 4.0)
        """
        fitted, state = self._now(), None
        if currstate is not None:
            state = np.asarray(currstate, dtype=np.float64)
            if state.shape != (int(self.n_latent),) or not np.isfinite(state).all():
                raise ParameterError(f"currstate is {currstate!r}; {self.n_latent} finite numbers are needed")
        rng = check_random_state(self.random_state if random_state is None else random_state)
        return CHAIN_STEPS.drawn(self, fitted, n_samples, rng, state)

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
        """How far the fitted matrices are likely to be off, from two passes over X, the data of the fit.

        Of a chain whose matrices are all free, the states can be turned and stretched, and nothing has an error: give
        some of the matrices.

        Parameters
        ----------
        X, lengths, sample_weight, columns, feature_axis, offsets, sequence_column, executor : as in `fit`
        method : {"observed", "opg", "sandwich"}, default "observed"
            The inverse of the observed information; of the products of the scores of steps, each given the steps
            before it, so that one sequence is enough; or the information's inverse on both sides of the products of
            the scores of sequences, which holds where the chain is not the truth and needs as many sequences as free
            numbers.

        Returns
        -------
        StandardErrors
            ``errors["transition_covariance_"]`` and so on, shaped like the matrices; 0 is the error of what is given.

        Warns
        -----
        UncertaintyWarning : parameters that the data do not tell, which are NaN; a fit that is not at the maximum

        Raises
        ------
        ParameterError : another method, more than 400 free numbers, or fewer steps or sequences than a method needs

        Notes
        -----
        Slopes of the log-likelihood (Fisher's identity, by an E-step) are differentiated numerically. With p free
        numbers a chunk takes 2·p + 1 E-steps; where chunks cut sequences, the data is read as often besides.

        Examples
        --------
        >>> import numpy as np
        >>> from streamem import LinearGaussianChain
        >>> walk = np.cumsum(np.random.default_rng(0).normal(size=(300, 1)), axis=0)
        >>> chain = LinearGaussianChain.local_level(observation_covariance=[0.1], tol=1e-9).fit(walk)
        >>> bool(0.05 < chain.standard_errors(walk)["transition_covariance_"][0, 0] < 0.2)
        True
        """
        arguments = DataArguments(sample_weight, columns, feature_axis, lengths, offsets, sequence_column)
        return chain_standard_errors(self, self._now(), X, arguments, method, executor)

    def diagnose(self, X: Any, lengths: Any = None, *, executor: Any = None, **options: Any) -> Diagnosis:
        """Refused: a diagnosis tells components apart, and a chain has none.

        Raises
        ------
        ParameterError : always

        Examples
        --------
        >>> from streamem import LinearGaussianChain, StreamemError
        >>> try:
        ...     LinearGaussianChain.local_level().diagnose([[0.0]])
        ... except StreamemError as error:
        ...     print(str(error)[:35])
        LinearGaussianChain has no diagnose
        """
        raise ParameterError(
            "LinearGaussianChain has no diagnose: a diagnosis tells components apart, and a chain has none; report_ "
            "tells how fast EM converged, standard_errors what the data do not tell"
        )
