"""What runs the E-steps. One engine a file."""

from streamem.executors.threads import ThreadsExecutor

__all__ = ["ThreadsExecutor"]
