"""Deterministic inversions of the sampling ODE."""
