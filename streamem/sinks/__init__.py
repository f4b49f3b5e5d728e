"""Where results go. One format a file; `open_sink` picks by a table."""

from streamem.sinks.opening import open_sink

__all__ = ["open_sink"]
