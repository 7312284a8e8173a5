"""Forward operators y = A x + n, each with its exact adjoint."""
