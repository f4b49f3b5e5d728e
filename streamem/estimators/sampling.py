"""Drawing rows from a fitted Gaussian mixture, and describing it in words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from streamem.core.errors import ParameterError
from streamem.estimators.streaming import StreamingMixture
from streamem.sinks import ResultLayout, open_sink

Array = NDArray[Any]
SAMPLE_PIECE_BYTES = 8 * 2**20


class SamplingMixture(StreamingMixture):
    """A mixture of Gaussians that has been fitted: its rows and its words."""

    covariance_type: str
    means_: Array
    covariances_: Array

    def sample(self, n_samples: int = 1) -> tuple[Array, Array]:
        """Draw rows from the fitted mixture, component after component.

        Returns
        -------
        X (n_samples, d), labels (n_samples,)
        """
        check_is_fitted(self)
        if isinstance(n_samples, bool) or not n_samples >= 1:
            raise ParameterError(
                f"Invalid value for 'n_samples': {n_samples}. The sampling requires at least one sample."
            )
        return self._draw_rows(check_random_state(self.random_state), n_samples)

    def _draw_rows(self, rng: np.random.RandomState, n_samples: int) -> tuple[Array, Array]:
        chances = np.asarray(self.weights_, dtype=np.float64)
        counts = rng.multinomial(n_samples, chances / chances.sum())
        rows = [self._draw(rng, k, int(count)) for k, count in enumerate(counts)]
        return np.vstack(rows), np.repeat(np.arange(len(counts)), counts)

    def sample_to(self, out: str | os.PathLike[str], n_samples: int, *, overwrite: bool = False) -> None:
        """Draw rows and write them to `out` (.zarr, .parquet, .npy) piece by piece, with memory that does not grow.

        Columns are named as in fit. Rows come in pieces of 8 MiB, component after component in each.
        """
        check_is_fitted(self)
        names = getattr(self, "feature_names_in_", [f"x{j}" for j in range(self.n_features_in_)])
        sink = open_sink(
            out,
            ResultLayout(
                rows=n_samples,
                width=self.n_features_in_,
                dtype=np.dtype(np.float64),
                names=tuple(str(name) for name in names),
                chunk_rows=max(1, SAMPLE_PIECE_BYTES // (8 * self.n_features_in_)),
            ),
            overwrite,
        )
        try:
            for piece in self._sample_pieces(n_samples):
                sink.write(piece)
            sink.commit()
        except BaseException:
            sink.abort()
            raise

    def _sample_pieces(self, n_samples: int) -> Iterator[Array]:
        # One generator for all pieces: an integer seed would give the same piece again and again.
        rng = check_random_state(self.random_state)
        step = max(1, SAMPLE_PIECE_BYTES // (8 * self.n_features_in_))
        for first in range(0, n_samples, step):
            yield self._draw_rows(rng, min(step, n_samples - first))[0]

    def describe(self) -> str:
        """The fitted model and its report as text for people."""
        check_is_fitted(self)
        names = list(getattr(self, "feature_names_in_", []))
        head = [
            f"GaussianMixture: {self.n_components} components of {self.n_features_in_} features, "
            f"{self.covariance_type} covariance, {self._n_parameters():,} free parameters",
            f"features: {', '.join(names[:12])}{' …' if len(names) > 12 else ''}" if names else "features: unnamed",
            *self._how_it_came(),
            "",
            "component   weight  mean",
        ]
        rows = [
            f"{k:9d}{self.weights_[k]:9.4f}  {' '.join(f'{value:.6g}' for value in self.means_[k][:8])}"
            f"{' …' if self.n_features_in_ > 8 else ''}"
            for k in np.argsort(-self.weights_, kind="stable")
        ]
        return "\n".join([*head, *rows, "", str(self.report_)])

    def _how_it_came(self) -> list[str]:
        """By iterations over data at rest, or by mini-batches; and how far in which streams."""
        memory = self._state.memory if hasattr(self, "_state") else None
        if memory is None or float(memory.batches) == 0:
            state = "converged" if self.converged_ else "not converged"
            return [f"{state} after {self.n_iter_} iterations, log-likelihood {self.lower_bound_:.12g} nats per row"]
        lines = [
            f"online for {float(memory.batches):,.0f} mini-batches, knows as much as "
            f"{self.effective_sample_size_:,.0f} rows tell, the last was predicted at "
            f"{self.lower_bound_:.6g} nats per row"
        ]
        for name, positions in getattr(self, "stream_positions_", {}).items():
            text = ", ".join(f"{part} {where}".strip() for part, (where, _) in list(positions.items())[:4])
            lines.append(f"stream {name}: {text[:200]}")
        return lines

    def _draw(self, rng: np.random.RandomState, k: int, count: int) -> Array:
        mean = self.means_[k]
        if self.covariance_type == "full":
            return rng.multivariate_normal(mean, self.covariances_[k], count)
        if self.covariance_type == "tied":
            return rng.multivariate_normal(mean, self.covariances_, count)
        noise = rng.standard_normal(size=(count, len(mean)))
        return np.asarray(mean + noise * np.sqrt(self.covariances_[k]))
