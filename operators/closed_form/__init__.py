"""Priors whose posteriors are known in closed form, and how far samplers are from them."""
