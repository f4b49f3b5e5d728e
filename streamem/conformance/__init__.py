"""The laws as suites: run them on a family, model, algorithm, source, sink, stream or executor of your own.

Subclass a suite under a name that pytest collects, override its ``make_…`` methods, and every law becomes a test::

    class TestMyFamily(FamilySuite):
        def make_family(self): return MyFamily()
        def make_params(self, rng): return Params(rates=rng.uniform(1, 9, (3, 2)))
        ...

`check_family` runs the laws of a family in one call, without a suite; `check_model` those of a model for `streamem.EM`.

Nothing here imports pytest: a ``test_…`` method is called without arguments, raises `AssertionError` where the law is
broken, and `unittest.SkipTest` where it does not apply.
"""

from streamem.conformance.algorithms import AlgorithmSuite
from streamem.conformance.checking import check_family
from streamem.conformance.executors import ExecutorSuite
from streamem.conformance.families import FamilySuite, Quadrature
from streamem.conformance.models import ModelSuite
from streamem.conformance.own_models import check_model
from streamem.conformance.sinks import SinkSuite
from streamem.conformance.sources import SourceSuite
from streamem.conformance.streams import StreamSuite
from streamem.conformance.tolerance import assert_close, assert_equal, relabelled, require, tolerance

__all__ = [
    "AlgorithmSuite",
    "ExecutorSuite",
    "FamilySuite",
    "ModelSuite",
    "Quadrature",
    "SinkSuite",
    "SourceSuite",
    "StreamSuite",
    "assert_close",
    "assert_equal",
    "check_family",
    "check_model",
    "relabelled",
    "require",
    "tolerance",
]
