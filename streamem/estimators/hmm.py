"""`HMM`: a hidden Markov model with emissions of any family, the user's own included."""

from __future__ import annotations

import os
from dataclasses import field
from typing import Any, ClassVar, Self

from streamem.core.arrays import Params
from streamem.core.ports import Family
from streamem.estimators.declaring import hyperparameters
from streamem.estimators.faces.any_hmm import AnyHMMFace
from streamem.estimators.sequences import SequenceEstimator

Path = str | os.PathLike[str]


@hyperparameters(priors=("unseen",), behind="missing")
class HMM(SequenceEstimator):
    """Hidden Markov model with emissions of any `Family`, fitted by EM (Baum & Welch), out of core.

    Parameters
    ----------
    family : object with ``log_prob(params, x)``, ``stats(params, x, resp)`` and ``maximize(stats, previous)``
        See `streamem.core.ports.Family`. Those of `streamem.families` and your own; what works in `Mixture` works here.
        One with a `lag`, such as `AutoregressiveGaussian`, sees each step together with those before it.
    n_components : int, default 1
        States K.
    params, init_params : str, default "ste"
        Which parts are updated, and which are made anew by `fit`: s startprob, t transmat, e emissions (`params_`).
    unseen : {"error", "missing"}, default "error"
        What a category is that the sequences of the fit did not hold: an error, or a missing value (with
        ``missing="integrate"``): its column drops out of the row.
    transition_covariates : list of columns, by name or by position from 0 on, or None
        Columns that no state emits, but that drive the transitions, as of R's depmixS4: the row of step t tells how
        probable each transition from step t to t + 1 is, log A_t[i, j] = α_ij + β_ij·u_t up to a constant
        (multinomial logits; an input–output HMM). Every step needs them, also where nothing was observed. One M-step
        is one step of Newton's method that is sure to raise the likelihood. A stream's records hold them by name.
        Not for other topologies than "ergodic", `tied_transitions` and `transmat_prior`.
    start, startprob_prior, transmat_prior, algorithm, random_state, n_iter, tol, n_init, topology, tied_transitions
    durations, max_duration, verbose, stopping, missing, n_threads, memory_limit, chunk_bytes
        As in `GaussianHMM`.

    Attributes
    ----------
    startprob_ (K,), transmat_ (K, K); with `transition_covariates`, transmat_ is that at covariates of 0
    transition_intercept_ (K, K), transition_coef_ (K, K, p) : α and β, with `transition_covariates`, in units of the
        data; state 0 as a destination has 0. They are where a fit starts if `init_params` leaves out t.
    params_ : Params of the family
    duration_means_, duration_sizes_, converged_, n_iter_, lower_bound_, lower_bounds_, report_, n_features_in_
        As in `GaussianHMM`

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import HMM
    >>> from streamem.families import Poisson
    >>> rng = np.random.default_rng(0)
    >>> calm_then_busy = rng.poisson(np.repeat([1.0, 9.0, 1.0], 50))[:, None]
    >>> hmm = HMM(Poisson(), 2, random_state=0).fit(calm_then_busy)
    >>> sorted(hmm.params_.rates.ravel().round().tolist())
    [1.0, 10.0]

    States that a second column switches, from the step in which it is 1:

    >>> switch = rng.random(300) < 0.3
    >>> busy = np.cumsum(np.append(False, switch[:-1])) % 2
    >>> X = np.column_stack([rng.poisson(np.where(busy, 9.0, 1.0)), switch])
    >>> driven = HMM(Poisson(), 2, transition_covariates=[1], random_state=0).fit(X)
    >>> bool((np.sign(driven.transition_coef_[:, 1, 0]) == [1, -1]).all() or
    ...      (np.sign(driven.transition_coef_[:, 1, 0]) == [-1, 1]).all())
    True
    """

    family: Family | str = field(kw_only=False)
    n_components: int = field(default=1, kw_only=False)
    unseen: str = "error"

    params_: Params = field(init=False)

    face: ClassVar[AnyHMMFace] = AnyHMMFace()

    @classmethod
    def load(cls, path: Path, **objects: Any) -> Self:
        """Read a model that `save` wrote; a family that is code of yours has to be given again: ``family=``.

        Raises
        ------
        ParameterError : neither the file nor the call has a family
        ModelFileError : not such a file, damaged, newer than this library, or not to be trusted

        Examples
        --------
        >>> import os, tempfile
        >>> from streamem import HMM, Poisson
        >>> path = os.path.join(tempfile.mkdtemp(), "model.npz")
        >>> HMM(Poisson(), 1).fit([[1], [2], [3]]).save(path)
        >>> HMM.load(path).params_.rates.tolist()
        [[2.0]]
        """
        return super().load(path, **objects)
