"""Callbacks after every step of online EM."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Self

from streamem.core.state import State
from streamem.estimators.federated import SharingEstimator
from streamem.machine.importing import import_whole
from streamem.online.updates import Update, describe_update

REMEMBERED = 10_000
OWN = ("_callbacks", "_history", "_stopping", "_ahead", "_live_lengths", "_unread")
"""Attributes of a process, not of a model: neither copied nor pickled."""

Callback = Callable[[Update], object]


class WatchedEstimator(SharingEstimator):
    """A model whose updates can be followed."""

    _callbacks: list[Callback]
    _history: deque[Update]

    def on_update(self, callback: Callback) -> Self:
        """Call back after every mini-batch of `partial_fit` and `fit_stream`, with an `Update`.

        The attributes of the model are up to date then. An error in the callback ends the call; the mini-batch counts
        as learned.

        >>> from streamem import GaussianMixture
        >>> gm = GaussianMixture(1).on_update(lambda update: print(update.rows))
        >>> gm = gm.partial_fit([[0.0], [1.0], [2.0], [3.0]])
        4
        """
        self.__dict__.setdefault("_callbacks", []).append(callback)
        return self

    @property
    def history_(self) -> Any:
        """The latest 10,000 updates of this object, a pyarrow Table: see `Update` for its columns."""
        return import_whole("streamem.online.history").as_table(list(self.__dict__.get("_history", ())))

    def _note(self, before: State | None, after: State, drift: bool = False) -> Update:
        """Remember a step; whoever calls this publishes the state and then calls `_tell`."""
        update = describe_update(self._make_model(), before, after, drift)
        self.__dict__.setdefault("_history", deque(maxlen=REMEMBERED)).append(update)
        return update

    def _tell(self, update: Update) -> None:
        for callback in self.__dict__.get("_callbacks", ()):
            callback(update)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name not in OWN}
