"""Every error that streamem raises on purpose, drawn once.

Each is also the builtin that a caller would expect, so ``except ValueError`` and friends keep working. A message says
what was found, what was needed, and what to do.

    StreamemError
    ├── ParameterError (ValueError)          an argument that cannot be
    │   └── NoAbilityError (AttributeError)  what a user's own model has no function for
    ├── DataError (ValueError)               values that no model can use
    │   ├── NonFiniteError                   NaN or infinity in a chunk
    │   ├── ImpossibleValueError             a value that the distribution cannot emit
    │   └── DegenerateDataError              a start from which no covariance can be estimated
    ├── SourceError (OSError)                a store that cannot be read as it claims
    │   └── SourceChangedError               data rewritten while a fit was reading it
    ├── StreamError (OSError)                a stream that fails for good
    │   └── PoisonError (ValueError)         more unusable records than allowed
    ├── SchemaError (ValueError)             columns missing, not numeric, or of unequal types
    │   └── NotNumericError (TypeError)      an object that is no number
    ├── MemoryLimitError (MemoryError)       the projection exceeds the limit
    ├── MonotonicityError (ArithmeticError)  EM lowered its objective
    ├── NumericalError (ArithmeticError)     a density that overflowed
    ├── OutputError (OSError)                a result that cannot be written
    ├── ModelFileError (ValueError)          a model file or checkpoint that cannot be trusted
    │   ├── CheckpointMismatchError          a checkpoint of another run
    │   └── WriterConflictError              another process saves to the same file
    ├── ClusterError (RuntimeError)          a cluster that failed
    │   ├── WorkerLostError                  workers that died again and again on the same chunks
    │   └── SchedulerLostError               a scheduler that is gone
    └── MissingDependencyError (ImportError) an optional library is not installed
"""

from __future__ import annotations

from streamem.core.redaction import redacted


class StreamemError(Exception):
    """Root of all errors raised by streamem; their texts hold no passwords (`redacted`).

    Examples
    --------
    >>> from streamem import GaussianMixture
    >>> try:
    ...     GaussianMixture(0).fit([[0.0], [1.0]])
    ... except StreamemError as error:
    ...     print(type(error).__name__)
    ParameterError
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(redacted(arg) if isinstance(arg, str) else arg for arg in args))


class ParameterError(StreamemError, ValueError):
    """An argument that cannot be."""


class NoAbilityError(ParameterError, AttributeError):
    """What a user's own model has no function for."""


class DataError(StreamemError, ValueError):
    """Values that no model can use."""


class ImpossibleValueError(DataError):
    """A value that a distribution cannot emit.

    Attributes
    ----------
    value, column : what was found, and in which column
    needed : what the distribution can emit, and what to do
    place : where the value lies; the code that holds the chunk adds it
    """

    def __init__(self, value: float, column: int, needed: str, place: str = "") -> None:
        super().__init__(value, column, needed, place)
        self.value, self.column, self.needed, self.place = value, column, redacted(needed), redacted(place)

    def __str__(self) -> str:
        return f"{self.place or f'column {self.column}'} holds {self.value:.17g}; {self.needed}"


class NonFiniteError(DataError):
    """NaN or infinity where finite values are needed."""


class DegenerateDataError(DataError):
    """A start from which no covariance can be estimated."""


class SourceError(StreamemError, OSError):
    """A store that cannot be read as it claims: missing, truncated, corrupt."""


class SourceChangedError(SourceError):
    """Data that was rewritten while a fit was reading it."""


class StreamError(StreamemError, OSError):
    """A stream that fails for good: its broker, socket or file, or records that it no longer holds."""


class PoisonError(StreamError, ValueError):
    """More records that cannot be used than allowed."""


class SchemaError(StreamemError, ValueError):
    """Columns that are missing, not numeric, or of unequal types."""


class NotNumericError(SchemaError, TypeError):
    """An object that is no number."""


class MemoryLimitError(StreamemError, MemoryError):
    """The projected memory exceeds the limit."""


class MonotonicityError(StreamemError, ArithmeticError):
    """An EM iteration lowered its objective by more than rounding."""


class NumericalError(StreamemError, ArithmeticError):
    """A density that cannot be represented."""


class OutputError(StreamemError, OSError):
    """A result that cannot be written."""


class ModelFileError(StreamemError, ValueError):
    """A model file or checkpoint that cannot be read or trusted."""


class CheckpointMismatchError(ModelFileError):
    """A checkpoint that belongs to another run."""


class WriterConflictError(ModelFileError):
    """Another process saves to the same file."""


class ClusterError(StreamemError, RuntimeError):
    """A cluster that failed."""


class WorkerLostError(ClusterError):
    """Workers died again and again on the same chunks."""


class SchedulerLostError(ClusterError):
    """The scheduler is gone, and with it everything that the cluster held."""


class MissingDependencyError(StreamemError, ImportError):
    """An optional library is not installed."""
