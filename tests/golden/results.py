"""What a fitted model says, as hashes (to compare bits) and as a few numbers (to compare on another machine)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from golden.data_sets import DataSet

Array = np.ndarray[Any, Any]

PARAMETERS = (
    "weights_",
    "means_",
    "covariances_",
    "covars_",
    "startprob_",
    "transmat_",
    "lambdas_",
    "emissionprob_",
)
BEYOND = ("precisions_", "precisions_cholesky_", "n_categories_", "params_")
"""Published too, but as far from each other on two machines as the conditioning of a covariance says."""

SAMPLED = 16


def result(estimator: Any, data: DataSet) -> dict[str, Any]:
    """A hash for each part of what a fitted estimator says, and numbers by name."""
    parts = {
        "parameters": parameters(estimator),
        "path": path(estimator),
        "progress": progress(estimator),
        "statistics": statistics(estimator, data),
        "answers": answers(estimator, data),
    }
    numbers = {"lower_bound": [float(estimator.lower_bound_)] * 2, "score": [float(parts["answers"]["score"])] * 2}
    numbers |= {name: weighed_sum(value) for name, value in parts["parameters"].items() if _is_smooth(name)}
    numbers["posteriors"] = weighed_sum(parts["answers"]["predict_proba"])
    return {"bits": {name: digest(part) for name, part in parts.items()}, "numbers": numbers}


def _is_smooth(name: str) -> bool:
    """Whether a parameter is no further from itself on another machine than a sum over the data is."""
    return name in PARAMETERS or (name.startswith("params_.") and "precision" not in name)


def parameters(estimator: Any) -> dict[str, Any]:
    """Everything that was estimated and is published."""
    published = {name: getattr(estimator, name) for name in PARAMETERS + BEYOND if hasattr(estimator, name)}
    family = published.pop("params_", None)
    return published | ({} if family is None else {f"params_.{name}": leaf for name, leaf in family.flatten().items()})


def path(estimator: Any) -> dict[str, Any]:
    """Which way the fit went: the arithmetic in words, and what every pass read and found."""
    report = estimator.report_
    told = {"arithmetic": report.setting.get("arithmetic", ""), "events": sorted(report.events.items())}
    told |= {"rows": report.n_rows, "features": report.n_features, "chunks": report.n_chunks}
    for number, record in enumerate(report.passes):
        words = f"{record.start} {record.iteration} {record.rows} {record.nbytes} {record.arithmetic}"
        told |= {f"pass {number}": words, f"log-likelihood {number}": record.log_likelihood}
    return told


def progress(estimator: Any) -> dict[str, Any]:
    """How the fit came to its end."""
    names = ("lower_bound_", "lower_bounds_", "n_iter_", "converged_", "effective_sample_size_")
    return {name: value for name in names if (value := getattr(estimator, name, None)) is not None}


def statistics(estimator: Any, data: DataSet) -> dict[str, Any]:
    """Expected statistics of the data."""
    return dict(estimator.expected_statistics(data.x, **data.options).stats.flatten())


def answers(estimator: Any, data: DataSet) -> dict[str, Any]:
    """Predictions and scores."""
    asked = ("predict", "predict_proba", "score", "bic")
    told = {name: getattr(estimator, name)(data.x, **data.options) for name in asked}
    if hasattr(estimator, "decode"):
        told["map"] = estimator.decode(data.x, **data.options, algorithm="map")[1]
    else:
        told["score_samples"] = estimator.score_samples(data.x)
    if hasattr(estimator, "covariance_type"):
        told["sample"] = np.column_stack(estimator.sample(SAMPLED))
    if data.far is not None:
        for name in ("predict", "predict_proba", "score_samples" if "lengths" not in data.options else "score"):
            told[f"{name} far"] = getattr(estimator, name)(data.far, **data.options)
    return told


def digest(part: Mapping[str, Any]) -> str:
    """A hash over names, types, shapes and bits."""
    hashed = hashlib.blake2b(digest_size=8)
    for name, value in sorted(part.items()):
        array = np.ascontiguousarray(value)
        hashed.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        hashed.update(array.tobytes())
    return hashed.hexdigest()


def weighed_sum(values: Any) -> list[float]:
    """Σ w·v over all entries, in which every place counts differently, and Σ |w·v|, against which errors are judged."""
    flat = np.ravel(values).astype(np.float64)
    products = flat * (1 + np.arange(flat.size) % 7)
    return [float(products.sum()), float(np.abs(products).sum())]


def far_apart(found: Mapping[str, list[float]], known: Mapping[str, list[float]], tolerance: float) -> list[str]:
    """Names of the numbers that differ by more than `tolerance` of their size, or that only one of both has."""
    return sorted(
        name
        for name in found.keys() | known.keys()
        if not (name in found and name in known and _near(found[name], known[name], tolerance))
    )


def _near(found: list[float], known: list[float], tolerance: float) -> bool:
    return abs(found[0] - known[0]) <= tolerance * max(abs(known[1]), 1.0)
