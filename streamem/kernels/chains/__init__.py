"""Recursions along hidden Markov chains, compiled for a number of states."""
