"""What runs inside Ray workers: one function or actor per step of `pipeline.graph`.

Nothing here raises, because a raised error would cost the neighbours of a bad row: `guarded` makes rows of
errors."""
