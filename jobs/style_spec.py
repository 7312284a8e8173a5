"""What a stylization takes its look from, by which method, and how the content is kept: frozen values.

Which of them go together is in `pipeline.style_fit`.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from jobs.places import Place
from jobs.spec_base import Section

Walk = Annotated[int, Field(ge=1, le=200)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Iterations = Annotated[int, Field(ge=1, le=50)]
Weight = Annotated[float, Field(gt=0.0, le=1000.0)]
Text = Annotated[str, Field(max_length=2000)]


class StylePicture(Section):
    """One of several references; weights are relative to each other."""

    image: Place
    weight: Weight = 1.0


def _one_or_many(reference: Any) -> str:
    return "many" if isinstance(reference, list | tuple) else "one"


Reference = Annotated[
    Annotated[Place, Tag("one")]
    | Annotated[tuple[StylePicture, ...], Field(min_length=1, max_length=16, strict=False), Tag("many")],
    Discriminator(_one_or_many),
]


class Blend(Section):
    """A further prompt, blended in cross-attention (EBCA, Park et al. 2023); the main one weighs 1. Negative
    weights push away."""

    prompt: Annotated[str, Field(min_length=1, max_length=2000)]
    weight: Annotated[float, Field(ge=-0.9, le=10.0)] = 0.5


class _OfPicture(Section):
    """``steps`` of the full schedule; ``statistics`` weighs the alignment of latent colours, one map per
    scene, which happens first and is no part of what was published."""

    steps: Walk = 10
    statistics: Share = 0.0


class StyleAligned(_OfPicture):
    """Shared attention with a style reference (Hertz et al. 2023).

    ``shift`` is added to the logits of the reference's keys; ``adain`` aligns queries and keys to the
    reference; ``norms`` shares group normalisation statistics as well.
    """

    name: Literal["style_aligned"] = "style_aligned"
    shift: Annotated[float, Field(ge=-10.0, le=10.0)] = math.log(2.0)
    adain: bool = True
    norms: bool = False
    statistics: Share = 1.0


class AdaIn(_OfPicture):
    """Statistics of queries and keys, and of group normalisation with ``norms`` (Huang and Belongie 2017):
    nothing of the reference is attended to, so nothing of its layout can leak."""

    name: Literal["adain"]
    norms: bool = True
    statistics: Share = 1.0


class StyleId(_OfPicture):
    """The reference's keys and values in place of a frame's own in fine layers (Chung, Hyun and Heo 2024);
    ``queries`` is the share of the content's, less gives a stronger style."""

    name: Literal["styleid"]
    queries: Share = 0.75
    sharpness: Annotated[float, Field(gt=0.0, le=10.0)] = 1.5


class Rival(_OfPicture):
    """The reference's keys in place of a frame's own, then beside them (Zhang et al. 2023), from the share
    ``until`` of the noise level on that the job begins at; before that the noise takes its statistics too."""

    name: Literal["rival"]
    until: Share = 0.6


class Soc(_OfPicture):
    """Stochastic optimal control (RB-Modulation, Rout et al. 2024) of anchors and knots, which frames read.

    ``form`` proximal moves the clean estimate, as released; full differentiates the network, as in the
    paper's first algorithm. ``descriptor``: a folder with the weights of CLIP or CSD; the model's own encoder
    describes the style without one. ``shared``: all frames also read the reference as style_aligned does.
    ``aggregation``: cross-attention is the mean of that to the text, to the tokens of an IP-Adapter, and to
    both, in all frames.
    """

    name: Literal["soc"]
    form: Literal["proximal", "full"] = "proximal"
    iterations: Iterations = 3
    rate: Annotated[float, Field(gt=0.0, le=1000.0)] = 0.1
    anchor: Annotated[float, Field(ge=0.0, le=1000.0)] = 1.0
    optimiser: Literal["adam", "normalised"] = "adam"
    descriptor: Place | None = None
    shared: bool = True
    aggregation: bool = False
    statistics: Share = 1.0


class Prompted(Section):
    """No picture: what is kept of the content is sampled again under the prompt."""

    name: Literal["prompt"]
    steps: Walk = 10


class DreamSampler(Section):
    """Distillation towards the prompt between unconditional steps (Kim, Park and Ye 2024)."""

    name: Literal["dreamsampler"]
    steps: Walk = 10
    weight: Annotated[float, Field(gt=0.0, le=10.0)] = 0.2


class SchroedingerBridge(Section):
    """From what the ``caption`` says of the source to the prompt (Kim, Kim and Ye 2024): ``tau`` is the noise
    of the bridge, ``weight`` that of the difference of both estimates. It begins at 1 - strength."""

    name: Literal["schroedinger_bridge"]
    steps: Annotated[int, Field(ge=2, le=200)] = 10
    caption: Text = ""
    tau: Annotated[float, Field(gt=0.0, le=100.0)] = 2.3
    weight: Annotated[float, Field(ge=0.0, le=100.0)] = 11.0


Method = Annotated[
    StyleAligned | AdaIn | StyleId | Rival | Soc | Prompted | DreamSampler | SchroedingerBridge,
    Field(discriminator="name"),
]


def named_method(method: Any) -> Any:
    """``method`` with the name of the default one where it has none."""
    return {"name": "style_aligned", **method} if isinstance(method, dict) else method


class Ddim(Section):
    """Inverted, and sampled again (Song et al. 2021): nothing else holds the content."""

    name: Literal["ddim"]


class FixedPoint(Section):
    """Inverted to a fixed point (Pan et al. 2023), nearer to the path that sampling takes."""

    name: Literal["fixed_point"]
    iterations: Iterations = 3
    accelerated: bool = False


class Uniform(Section):
    """Inverted under uniform cross-attention maps (Mo et al. 2024)."""

    name: Literal["uniform"]
    iterations: Iterations = 1


class Pinned(Section):
    """Direct Inversion (Ju et al. 2024) with Plug-and-Play's features (Tumanyan et al. 2023): the inverted
    source is read beside the edit, and gives it the share ``structure`` of its queries, keys and residual.
    ``noise_share`` of fresh noise is mixed into the start."""

    name: Literal["pinned"]
    structure: Share = 0.5
    iterations: Iterations = 1
    noise_share: Share = 0.0


class EditFriendly(Section):
    """Edit-friendly DDPM (Huberman-Spiegelglas et al. 2024); ``chain: posterior`` is CycleDiffusion.
    ``caption`` says what the source shows."""

    name: Literal["edit_friendly"]
    eta: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    chain: Literal["independent", "posterior"] = "independent"
    caption: Text = ""


class Ddcm(Section):
    """Virtual inversion with few-step models (InfEdit, Xu et al. 2024)."""

    name: Literal["ddcm"]
    caption: Text = ""


class Edict(Section):
    """Two coupled latents (Wallace, Gokul and Naik 2023); wants float32."""

    name: Literal["edict"]
    mixing: Annotated[float, Field(gt=0.5, le=1.0)] = 0.93


class Bdia(Section):
    """Bidirectional integration (Zhang, Lewis and Kleijn 2024); wants float32."""

    name: Literal["bdia"]
    gamma: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0


class FlowEdit(Section):
    """The difference of two velocities along the source's path (Kulikov et al. 2025), averaged over
    ``draws``; the last ``plain`` steps are plain sampling."""

    name: Literal["flow_edit"]
    draws: Annotated[int, Field(ge=1, le=16)] = 1
    plain: Annotated[int, Field(ge=0, le=199)] = 0
    caption: Text = ""


class RfEdit(Section):
    """Second-order steps of a flow (Wang et al. 2024) with the source's values for the share ``structure``
    of all steps."""

    name: Literal["rf_edit"]
    structure: Share = 0.5


Content = Annotated[
    Ddim | FixedPoint | Uniform | Pinned | EditFriendly | Ddcm | Edict | Bdia | FlowEdit | RfEdit,
    Field(discriminator="name"),
]
