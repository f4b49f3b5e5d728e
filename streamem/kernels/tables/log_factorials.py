"""Logarithms of the factorials of small counts."""

from __future__ import annotations

import math

import numpy as np

LOG_FACTORIALS = np.array([math.lgamma(count + 1.0) for count in range(1024)])
"""log x! of small counts; a logarithm of the gamma function takes thirty times as long as a look-up."""
