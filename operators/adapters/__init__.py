"""What a job adds to its checkpoint: low-rank changes of layers, learned words, control by the source."""
