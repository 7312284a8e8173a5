"""Image fidelity metrics."""
