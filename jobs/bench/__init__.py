"""Benchmarks: ratios measured in one run on the bundled clip, against stated bounds."""
