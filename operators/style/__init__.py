"""Stylization methods and the statistics they share."""
