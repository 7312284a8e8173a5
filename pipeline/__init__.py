"""Ray graph, storage, video containers, plan, keys and manifests; no diffusion maths."""
