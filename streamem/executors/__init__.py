"""Executors run E-steps over chunks. One engine a file."""

from streamem.executors.threads import ThreadsExecutor

__all__ = ["ThreadsExecutor"]
