"""E-steps on rows of which values were not observed: what follows from the rest, for eight components at a time."""
