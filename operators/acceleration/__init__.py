"""Doing less for nearly the same picture, by schedules that are fixed before anything is computed."""
