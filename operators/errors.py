"""Errors of the mathematics half; the pipeline maps them to its own at the border."""

from __future__ import annotations


class ModelError(ValueError):
    """A checkpoint cannot be used; the message names the file and what to do."""


class OperatorError(ValueError):
    """A degradation, solver or style spec is impossible; the message names the parameter."""


class TrainingError(OperatorError):
    """Training cannot start or go on; the message names the file, the folder or the setting."""
