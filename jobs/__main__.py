"""``python -m jobs`` is the same as ``reelweave``."""

from jobs.entry import main

main()
