"""Weights of the embedded prior; see README.md here."""
