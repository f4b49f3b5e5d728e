"""One call from settings and a source to results: the loop, its memory, checkpoints, progress and report."""
