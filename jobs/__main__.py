"""``python -m jobs`` is the same as ``reelweave``."""

from jobs.cli import main

main()
