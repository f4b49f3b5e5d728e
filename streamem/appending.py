"""`read_appended` under the name that messages tell: the records of a dead-letter file."""

from streamem.online.append_only_arrow import read_appended

__all__ = ["read_appended"]
