"""Two sources side by side: handles of both are given what lies on a cluster."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
from distributed import Client

from streamem.sources import ReadOptions, open_source
from streamem.sources.apart import Apart
from streamem.sources.side_by_side import SideBySide

X, Y = np.arange(80.0).reshape(40, 2), -np.arange(40.0)[:, None]


@pytest.mark.parametrize("held", ["both", "responses", "rows"])
def test_values_are_given_to_both(held: str, client: Client) -> None:
    options = ReadOptions(chunk_bytes=160)
    lying = {"rows": held != "responses", "responses": held != "rows"}

    def opened(name: str, array: Any, block: int) -> Any:
        lazy = da.from_array(array, chunks=(block, -1))
        return open_source(lazy.persist(scheduler=client) if lying[name] else array, options=options)

    both = SideBySide(opened("rows", X, 10), opened("responses", Y, 7))
    for ref in (*both.chunks(), *Apart(both, [0]).chunks()):
        assert ref.on_cluster
        given = ref.given({key: future.result() for key, future in ref.on_cluster.items()})
        assert not given.on_cluster  # no future travels to a worker, or is asked for from there
        rows = slice(ref.start, ref.start + ref.rows)
        np.testing.assert_array_equal(given.load().x[:, -2:], np.column_stack([X[rows, 1], Y[rows]]))
