"""Arrow arrays as what they stand for."""

from __future__ import annotations

import pyarrow as pa


def plain(array: pa.Array) -> pa.Array:
    """Extension types as their storage, dictionaries as their values, text in the layout that Arrow computes with."""
    while True:
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        elif isinstance(array, pa.DictionaryArray):
            array = plain(array.dictionary).take(array.indices)  # dictionary_decode() has no views of text
        elif array.type == pa.string_view():
            array = array.cast(pa.large_string())
        else:
            return array
