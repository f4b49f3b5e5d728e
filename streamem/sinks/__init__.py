"""Where results go. One format a file; `open_sink` picks by a table."""

from streamem.sinks.layout import ResultGrid, ResultLayout
from streamem.sinks.opening import open_parted_sink, open_sink
from streamem.sinks.parts import PartedSink, ResultPart

__all__ = ["PartedSink", "ResultGrid", "ResultLayout", "ResultPart", "open_parted_sink", "open_sink"]
