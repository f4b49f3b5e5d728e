"""Data that arrives: one file a kind, and `open_stream`, the table of them."""

from streamem.streams.opening import is_stream, open_stream

__all__ = ["is_stream", "open_stream"]
