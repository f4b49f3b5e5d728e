"""`Face`: the public names of a family's parameters, one of the two things that vary between estimators."""

from streamem.estimators.faces.face import Face

__all__ = ["Face"]
