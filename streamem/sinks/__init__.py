"""Where results go. One format a file; `open_sink` picks by a table."""

from streamem.sinks.layout import Categories, ResultGrid, ResultLayout
from streamem.sinks.opening import open_parted_sink, open_sink, takes_parts
from streamem.sinks.parts import PartedSink, ResultPart
from streamem.sinks.uploading_parts import PartedUpload, UploadedPart

__all__ = [
    "Categories",
    "PartedSink",
    "PartedUpload",
    "ResultGrid",
    "ResultLayout",
    "ResultPart",
    "UploadedPart",
    "open_parted_sink",
    "open_sink",
    "takes_parts",
]
