"""Which token of one frame shows what a token of another frame shows, and what may be done with that."""
