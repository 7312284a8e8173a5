"""Probe, index, exact decode, colour, encode, assembly and verification of one video."""
