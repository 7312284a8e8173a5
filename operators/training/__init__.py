"""Training of the embedded model from a folder of pictures."""
