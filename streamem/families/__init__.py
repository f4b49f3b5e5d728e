"""What one component emits. One distribution a file."""

from streamem.families.gaussian import Gaussian

__all__ = ["Gaussian"]
