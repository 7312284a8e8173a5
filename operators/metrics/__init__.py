"""Fidelity, temporal consistency, style distance: no weights but the model's own, no downloads."""
