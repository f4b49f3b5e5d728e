"""``python -m streamem``."""

from streamem.cli import main

main()
