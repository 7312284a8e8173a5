"""Posterior samplers and restoration solvers, one algorithm per file."""
