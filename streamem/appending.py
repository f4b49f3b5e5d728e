"""`read_appended` under the name that messages tell: what dead letters and a history hold, in a file or in a store."""

from streamem.online.append_only_arrow import read_appended

__all__ = ["read_appended"]
