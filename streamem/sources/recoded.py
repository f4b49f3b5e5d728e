"""Numbers that are labels, as the codes 0, 1, … of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from streamem.core.chunk import Chunk
from streamem.core.errors import DataError
from streamem.core.ports import Source
from streamem.sources.wrapped import WrappedRef


@dataclass(frozen=True, eq=False)
class RecodedRef(WrappedRef):
    """A chunk of one column, with codes in place of labels."""

    labels: tuple[float, ...]
    what: str

    @property
    def load_nbytes(self) -> int:
        """The chunk of the base, codes, and what is compared."""
        return self.base.load_nbytes + 3 * self.nbytes

    def load(self) -> Chunk:
        """Codes (n, 1) of the numbers; NaN stays NaN.

        Raises
        ------
        DataError : a number that is no label
        """
        chunk, known = self.base.load(), np.array(self.labels)
        found = np.asarray(chunk.x, dtype=np.float64)
        codes = np.minimum(np.searchsorted(known, found), len(known) - 1).astype(np.float64)
        unknown = (known[codes.astype(np.intp)] != found) & ~np.isnan(found)
        if unknown.any():
            row = int(np.flatnonzero(unknown[:, 0])[0])
            raise DataError(
                f"{self.what} holds {found[row, 0]:g} in row {self.start + row}, which the fit did not know; it knows "
                f"{[f'{label:g}' for label in self.labels][:20]}: leave such rows out, or fit to rows that hold it"
            )
        codes[np.isnan(found)] = np.nan
        return replace(chunk, x=codes)


class Recoded(Source):
    """A source of one column of numbers, of which each is a label.

    Parameters
    ----------
    base : one column
    labels : those that are known, in rising order
    what : how messages call the column
    """

    def __init__(self, base: Source, labels: Sequence[float], what: str) -> None:
        self._base, self._labels, self._what = base, tuple(float(label) for label in labels), what
        self.n_rows = base.n_rows
        self.schema = replace(base.schema, dtype=np.dtype(np.float64))

    def fingerprint(self) -> str:
        """The fingerprint of the base, and the labels."""
        return f"{self._base.fingerprint()}|labels {list(self._labels)}"

    def chunks(self) -> Sequence[RecodedRef]:
        """The plan of the base."""
        return [RecodedRef(ref, self._labels, self._what) for ref in self._base.chunks()]
