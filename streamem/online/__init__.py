"""From messages to mini-batches, and from mini-batches to a model that has learned them."""
