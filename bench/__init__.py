"""Benchmarks: ours and its peers in turn, each in a process of its own. ``python -m bench`` runs them all."""
