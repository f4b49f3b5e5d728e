"""Small passes run in NumPy: the methods of models that compute on rows say so by `by_size`."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.ports import Model
from streamem.core.small_work import small_work

Method = TypeVar("Method", bound=Callable[..., Any])


def by_size(method: Method) -> Method:
    """A method (params, chunk, …) of a model that runs in NumPy where its pass is small; also (sample, …).

    The rows are those of the whole pass, where `for_pass_of` has told them to the parameters; else those of the chunk.
    """

    @wraps(method)
    def run(self: Model, first: Params | Chunk, *args: Any, **kwargs: Any) -> Any:
        chunk = first if isinstance(first, Chunk) else args[0]
        rows = float(first.rows) if isinstance(first, Chunk) or "rows" in first else chunk.rows
        with small_work(rows * self.products_a_row(chunk.x.shape[1])):
            return method(self, first, *args, **kwargs)

    return cast(Method, run)
