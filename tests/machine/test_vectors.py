"""Matrices that are transposed in registers, with vectors of every width and no typed pointers."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = """
import numpy as np
from streamem.machine.compiled import compiled
from streamem.machine.lanes import LANES
from streamem.machine.vectors import turn

@compiled
def transposed(values, out):
    turn(out, 3, out.shape[1], values, 2, values.shape[1])

values = np.arange(4.0 * LANES * LANES).reshape(LANES, 4 * LANES)
out = np.zeros((LANES, LANES + 5))
transposed(values, out)
assert np.array_equal(out[:, 3 : 3 + LANES], values[:, 2 : 2 + LANES].T), out
assert not out[:, :3].any() and not out[:, 3 + LANES :].any(), out
print(LANES)
"""


@pytest.mark.parametrize("width", [128, 256, 512])
def test_transposition(width: int) -> None:
    """Typed pointers, which llvmlite is going to remove, can be switched off there."""
    environment = {
        **os.environ,
        "STREAMEM_VECTORS": str(width),
        "LLVMLITE_ENABLE_IR_LAYER_TYPED_POINTERS": "0",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    command = [sys.executable, "-P", "-c", CODE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [str(width // 64)], done.stderr
