"""Sharing policies: what the frames of a unit read, one per file."""
