"""What two fits of a `GaussianMixture` must have in common, as bytes."""

from __future__ import annotations

from typing import Any

import numpy as np


def fitted(gm: Any) -> dict[str, bytes]:
    """What two fits must have in common, bit for bit."""
    numbers = {name: getattr(gm, name) for name in ("weights_", "means_", "covariances_", "precisions_cholesky_")}
    numbers |= {"lower_bounds": gm.lower_bounds_, "lower_bound": gm.lower_bound_, "n_iter": gm.n_iter_}
    return {name: np.asarray(value).tobytes() for name, value in numbers.items()}
