"""Where rows come from. One format a file; `open_source` picks by a table."""

from streamem.sources.foreign import is_source
from streamem.sources.kinds import SourceKind, register, unregister
from streamem.sources.opening import open_source
from streamem.sources.opening_sequences import Known, open_sequences
from streamem.sources.options import ReadOptions

__all__ = ["Known", "ReadOptions", "SourceKind", "is_source", "open_sequences", "open_source", "register", "unregister"]
