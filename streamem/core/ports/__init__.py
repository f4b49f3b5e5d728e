"""The ports: what a family, model, source, sink, executor or algorithm does. A user's own need not inherit."""

from streamem.core.ports.data import ChunkRef, Schema, Sink, Source, Stream
from streamem.core.ports.family import Family, FullFamily, full_family, kernel_of
from streamem.core.ports.kernel import Kernel, Mixing, MixtureSums, PlainKernel
from streamem.core.ports.model import Model
from streamem.core.ports.running import (
    REJECTED,
    Algorithm,
    ChunkDone,
    Executor,
    Job,
    Limits,
    OnChunk,
    PassTask,
    StoppingRule,
    Task,
    Variant,
    variant_of,
)

__all__ = [
    "REJECTED",
    "Algorithm",
    "ChunkDone",
    "ChunkRef",
    "Executor",
    "Family",
    "FullFamily",
    "Job",
    "Kernel",
    "Limits",
    "Mixing",
    "MixtureSums",
    "Model",
    "OnChunk",
    "PassTask",
    "PlainKernel",
    "Schema",
    "Sink",
    "Source",
    "StoppingRule",
    "Stream",
    "Task",
    "Variant",
    "full_family",
    "kernel_of",
    "variant_of",
]
