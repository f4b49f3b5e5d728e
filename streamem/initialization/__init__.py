"""Where EM starts: a uniform sample, and responsibilities on it."""

from streamem.initialization.few_rows import from_few_rows
from streamem.initialization.merging import merged_down, most_rows
from streamem.initialization.ordered import in_order
from streamem.initialization.parallel_means import Cells, Mapped, SumCells, parallel_means
from streamem.initialization.responsibilities import (
    DISCRETE_STARTS,
    MERGED,
    PARALLEL,
    SHORT_EM,
    SPLIT_MERGE,
    STARTS,
    Start,
)
from streamem.initialization.sampling import drawn_rows, located_in_source, sample_rows
from streamem.initialization.short_runs import best_of_short_runs, part_of
from streamem.initialization.splitting import split_and_merged

__all__ = [
    "DISCRETE_STARTS",
    "MERGED",
    "PARALLEL",
    "SHORT_EM",
    "SPLIT_MERGE",
    "STARTS",
    "Cells",
    "Mapped",
    "Start",
    "SumCells",
    "best_of_short_runs",
    "drawn_rows",
    "from_few_rows",
    "in_order",
    "located_in_source",
    "merged_down",
    "most_rows",
    "parallel_means",
    "part_of",
    "sample_rows",
    "split_and_merged",
]
