"""CF packing: how netCDF's conventions, and so xarray, store floats as integers and mark what is missing."""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.errors import SourceError
from streamem.sources.numeric import numeric_dtype

TIME_UNITS = frozenset({"days", "hours", "minutes", "seconds", "milliseconds", "microseconds", "nanoseconds"})


def times_in(attributes: Mapping[str, Any]) -> str | None:
    """What kind of times stored numbers stand for, in words, by the rules of xarray; None if they are numbers.

    Units alone make no time span, unless xarray has noted its dtype beside them: they may be those of a measurement.
    """
    units = str(attributes.get("units", ""))
    if " since " in units:
        return f"times ({units})"
    is_span = units in TIME_UNITS and str(attributes.get("dtype", "")).startswith("timedelta64")
    return f"time spans ({units})" if is_span else None


@dataclass(frozen=True)
class Packing:
    """How stored numbers become values: ``stored * scale + offset``, or NaN where the number is in `missing`.

    Attributes
    ----------
    stored : dtype of the numbers, after `_Unsigned` has been followed
    scale, offset : None where the attribute is absent
    missing : stored numbers that mean NaN
    """

    stored: np.dtype[Any]
    scale: float | None = None
    offset: float | None = None
    missing: tuple[int | float, ...] = ()

    def dtype(self, what: str) -> np.dtype[Any]:
        """The dtype of the values: float64 if scaled, else as for any array; `SchemaError` if not numeric."""
        plain = numeric_dtype(self.stored, what)
        return plain if self.scale is None and self.offset is None else np.dtype(np.float64)

    def is_identity(self, dtype: np.dtype[Any]) -> bool:
        """Whether numbers of `dtype` are the values already."""
        return self == Packing(dtype)

    def unpack(self, raw: NDArray[Any], out: NDArray[Any]) -> None:
        """Write the values of the stored numbers into `out`, of the same shape and of a float dtype."""
        raw = raw if raw.dtype == self.stored else raw.view(self.stored)
        np.copyto(out, raw)
        if self.scale is not None:
            out *= self.scale
        if self.offset is not None:
            out += self.offset
        for number in self.missing:
            np.copyto(out, np.nan, where=raw == number)

    def known(self, raw: NDArray[Any]) -> NDArray[Any]:
        """Values in their stored dtype, or as float64 where values are scaled or some are missing."""
        if self.stored.kind not in "biuf":
            return raw
        own = raw if raw.dtype == self.stored else raw.view(self.stored)
        scaled = self.scale is not None or self.offset is not None
        if not scaled and not any((own == number).any() for number in self.missing):
            return own
        out = np.empty(raw.shape)
        self.unpack(raw, out)
        return out


def packing(attributes: Mapping[str, Any], stored: np.dtype[Any], what: str) -> Packing:
    """The packing that attributes declare (CF conventions 1.11, sections 2.5.1 and 8.1).

    Parameters
    ----------
    attributes : may hold ``scale_factor``, ``add_offset``, ``_FillValue``, ``missing_value``, ``_Unsigned``
    stored : dtype in the store
    what : the array in words, for messages

    Raises
    ------
    SourceError : an attribute that should be a number is none
    """
    if stored.kind not in "biuf":
        return Packing(stored)
    signs = _signs(attributes, stored)
    scale = _numbers(attributes, "scale_factor", what)
    offset = _numbers(attributes, "add_offset", what)
    fills = [*_numbers(attributes, "_FillValue", what), *_numbers(attributes, "missing_value", what)]
    missing = dict.fromkeys(_reinterpret(fill, stored, signs) for fill in fills if _can_match(fill, stored))
    return Packing(signs, scale[0] if scale else None, offset[0] if offset else None, tuple(missing))


def _signs(attributes: Mapping[str, Any], stored: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype with the sign that ``_Unsigned`` asks for: netCDF-3 has signed integers only."""
    kind = {("i", "true"): "u", ("u", "false"): "i"}.get((stored.kind, str(attributes.get("_Unsigned"))))
    return stored if kind is None else np.dtype(f"{stored.byteorder}{kind}{stored.itemsize}")


def _reinterpret(fill: int | float, stored: np.dtype[Any], signs: np.dtype[Any]) -> int | float:
    """The fill value as it looks after the change of sign."""
    if stored == signs or not np.iinfo(stored).min <= fill <= np.iinfo(stored).max:
        return fill
    reinterpreted: int = np.array(int(fill), dtype=stored).view(signs).item()
    return reinterpreted


def _can_match(fill: int | float, stored: np.dtype[Any]) -> bool:
    """Whether a stored number can equal the fill value: NaN equals nothing, and needs no marking."""
    if stored.kind == "f":
        return not math.isnan(fill) and (math.isinf(fill) or abs(fill) <= np.finfo(stored).max)
    return math.isfinite(fill)


def _numbers(attributes: Mapping[str, Any], name: str, what: str) -> list[int | float]:
    found = attributes.get(name)
    items = [] if found is None else np.ravel(np.asarray(found)).tolist()
    try:
        return [_number(item) for item in items]
    except (TypeError, ValueError):
        raise SourceError(
            f"{what}: the attribute {name} is {found!r}, which is not a number, so the values cannot be "
            "unpacked; correct the attribute in the store"
        ) from None


def _number(item: Any) -> int | float:
    if isinstance(item, str):
        return _number_from_text(item)
    if not isinstance(item, int | float):
        raise TypeError(item)
    return item


def _number_from_text(text: str) -> float:
    """xarray writes float fill values to Zarr v3 as base64 of 8 little-endian bytes; others write "NaN"."""
    try:
        return float(struct.unpack("<d", base64.b64decode(text, validate=True))[0])
    except (binascii.Error, struct.error):
        return float(text)
