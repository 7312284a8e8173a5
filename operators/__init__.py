"""The mathematics: models, forward operators, solvers, attention, style; torch, and no Ray."""
