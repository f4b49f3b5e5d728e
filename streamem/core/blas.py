"""One BLAS thread for everyone who computes here."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from threadpoolctl import threadpool_limits


class _OneBlasThread:
    """Limits BLAS while anyone in this process computes; the first in sets the limit, the last out restores it.

    A limit for each would not do: others would see it lifted halfway, and change their bits.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._limits: Any = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            self._running += 1
            if self._running == 1:
                self._limits = threadpool_limits(limits=1)
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                if self._running == 0:
                    self._limits.restore_original_limits()


one_blas_thread = _OneBlasThread()
