"""Attention banks, hat weights and processors shared across frames."""
