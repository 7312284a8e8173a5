"""Features of source pictures, by which tokens of different frames are matched.

Diffusion features (DIFT, Tang et al. 2023, arXiv 2306.03881): a picture is noised to one timestep and shown
to the network once. COVE takes t = 261. Our reading of which features: in each layer the tokens that enter
its self-attention, as in TokenFlow, since they are what is to be matched there. The noise is the same for all
frames, so that equal pictures have equal features.
"""

from __future__ import annotations

from torch import Tensor

from operators.attention.harvest import Keep
from operators.attention.session import SharedAttention
from operators.correspondence.fields import Features
from operators.noise import keyed_normal
from operators.solvers.base import LatentPrior

TIMESTEP = 261


def source_features(z0: Tensor, session: SharedAttention, prior: LatentPrior) -> Features:
    """Features of one picture, given its clean latent [1, C, h, w], in each layer that shares attention.

    ``prior`` without prompt and guidance: what a picture shows does not depend on what is made of it.
    """
    ab = prior.alphas_cumprod[TIMESTEP]
    noise = keyed_normal(tuple(z0.shape[1:]), "source features").to(z0)
    z = ab.sqrt() * z0 + (1 - ab).sqrt() * noise
    kept = Keep(moments=False, norms=False, inputs=True)
    harvest = session.harvest(lambda: prior.predict(z, TIMESTEP), keep=kept)
    return {layer: left.inputs[0] for (_, layer), left in harvest.layers.items() if left.inputs is not None}
