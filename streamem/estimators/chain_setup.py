"""From the hyperparameters of a `LinearGaussianChain` to what is fixed about its model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.errors import ParameterError
from streamem.models.gaussian_setup import LETTERS, Setup, chain_faults, shapes_of

Array = NDArray[Any]

NOISES = ("full", "diag")
STARTS = frozenset({"initial_mean", "initial_covariance"})


def setup_of(settings: Any) -> Setup:
    """What is fixed about the chain.

    Raises
    ------
    ParameterError : names and letters that are none, arrays that are not numbers
    """
    given = given_arrays(settings)
    updates = frozenset(LETTERS) - given.keys() if settings.params is None else named(settings.params)
    if settings.diffuse:
        updates -= STARTS
    return Setup(
        int(settings.n_latent),
        given,
        updates,
        bool(settings.diffuse),
        settings.transition_noise,
        settings.observation_noise,
    )


def given_arrays(settings: Any) -> dict[str, Array]:
    """The arrays that the user gave, by name; a diagonal that is given as one is a matrix where one is needed."""
    found = {}
    for name in LETTERS:
        value = getattr(settings, name)
        if value is None:
            continue
        try:
            own = np.array(value, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ParameterError(f"{name} is {value!r:.200}; an array of numbers is needed") from error
        diagonal = settings.observation_noise == "diag"
        if name == "observation_covariance" and diagonal and own.ndim == 2 and own.shape[0] == own.shape[1]:
            if np.any(own - np.diag(np.diagonal(own))):
                raise ParameterError(
                    'observation_covariance has entries beside its diagonal, and observation_noise is "diag": pass '
                    'observation_noise="full"'
                )
            own = np.diagonal(own).copy()
        found[name] = own
    return found


def named(params: Any) -> frozenset[str]:
    """The names that ``params`` means: letters, names between commas, or a list of names.

    Raises
    ------
    ParameterError : what is neither
    """
    by_letter = {letter: name for name, letter in LETTERS.items()}
    if isinstance(params, str) and set(params) <= by_letter.keys():
        return frozenset(by_letter[letter] for letter in params)
    names = params.split(",") if isinstance(params, str) else params
    try:
        found = frozenset(str(name).strip() for name in names)
    except TypeError:
        found = frozenset({repr(params)})
    if found <= LETTERS.keys():
        return found
    letters = ", ".join(f"{letter} {name}" for name, letter in LETTERS.items())
    raise ParameterError(
        f"params is {params!r}; it must be of the letters {letters}, or of these names, or None for all not given"
    )


def check_setup(settings: Any) -> None:
    """Refuse hyperparameters that cannot be, as far as no data is needed.

    Raises
    ------
    ParameterError : naming the hyperparameter, its value and what is needed
    """
    if isinstance(settings.n_latent, bool) or not isinstance(settings.n_latent, int | np.integer):
        raise ParameterError(f"n_latent is {settings.n_latent!r}; it must be an integer >= 1")
    if settings.n_latent < 1:
        raise ParameterError(f"n_latent is {settings.n_latent!r}; it must be an integer >= 1")
    for name in ("transition_noise", "observation_noise"):
        if getattr(settings, name) not in NOISES:
            raise ParameterError(f"{name} is {getattr(settings, name)!r}; it must be one of {sorted(NOISES)}")
    if not isinstance(settings.diffuse, bool | np.bool_):
        raise ParameterError(f"diffuse is {settings.diffuse!r}; it must be True or False")
    setup = setup_of(settings)
    clash = [name for name in sorted(STARTS) if settings.diffuse and name in setup.given]
    if clash:
        raise ParameterError(
            f"diffuse=True says that nobody knows the first state, and {' and '.join(clash)} tell it: leave that out"
        )
    features = features_given(setup.given)
    require_arrays(setup, 1 if features is None else features, of_observations=features is not None)
    if settings.transition_noise == "diag" and "transition_covariance" in setup.given:
        own = setup.given["transition_covariance"]
        if np.any(own - np.diag(np.diagonal(own))):
            raise ParameterError(
                'transition_covariance has entries beside its diagonal, and transition_noise is "diag": pass '
                'transition_noise="full"'
            )


def features_given(given: Mapping[str, Array]) -> int | None:
    """d, as far as arrays tell it."""
    for name in ("observation_matrix", "observation_offset", "observation_covariance"):
        if name in given and given[name].ndim:
            return len(given[name])
    return None


def require_arrays(setup: Setup, n_features: int, of_observations: bool = True) -> None:
    """Refuse given arrays of other shapes than n_latent and the columns of the data need, or that cannot be.

    Raises
    ------
    ParameterError : naming each
    """
    noise = (n_features, n_features) if setup.observation_noise == "full" else (n_features,)
    shapes = shapes_of(setup.n_latent, n_features, noise)
    asked = {
        name: shape
        for name, shape in shapes.items()
        if name in setup.given and (of_observations or not name.startswith("observation"))
    }
    if found := chain_faults(setup.given, asked):
        told = f"{'; '.join(found)} (n_latent={setup.n_latent}, {n_features} columns)"
        raise ParameterError(told + _remedy(features_given(setup.given), n_features))


def _remedy(wanted: int | None, n_features: int) -> str:
    """What to do about data of other columns than given arrays are for; nothing where columns are not at fault."""
    if wanted is None or wanted == n_features:
        return ""
    columns = f"{wanted} column" if wanted == 1 else f"{wanted} columns"
    if wanted > n_features:
        return f"; the given arrays are for {columns}: pass data of so many, or arrays for {n_features}"
    return (
        f"; the given arrays are for {columns}: choose {wanted} of the {n_features} with columns= (of an array, slice "
        f"it), or give arrays for {n_features}"
    )
