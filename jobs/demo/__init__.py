"""The demonstration: a bundled clip, a painted style reference, and the job that uses both."""
