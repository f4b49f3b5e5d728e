"""The command line: people at a terminal."""

from streamem.cli.main import main

__all__ = ["main"]
