"""Where results go. One format a file; `open_sink` picks by a table."""

from streamem.sinks.layout import Layout
from streamem.sinks.opening import open_parted_sink, open_sink
from streamem.sinks.parts import Part, PartedSink

__all__ = ["Layout", "Part", "PartedSink", "open_parted_sink", "open_sink"]
