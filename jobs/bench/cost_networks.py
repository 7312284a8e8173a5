"""`bench cost`, counted: network FLOPs of a unit of frames and its references, on the real architectures.

Networks stand on the meta device, which has shapes and no numbers, and the sharing code itself drives them:
what is counted are the operations that a job would ask for, once per network step (all steps ask for the
same).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.plan import ScenePlan, plan_scene
from pipeline.settings import ConsistencySettings

if TYPE_CHECKING:
    from torch import Tensor

    from operators.attention.policies.base import SharingPolicy
    from operators.replay import StyleReading, Trajectories

#: Published configurations, as far as they shape the network; text is 77 tokens.
SD15 = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "cross_attention_dim": 768,
    # diffusers' name for the number of heads.
    "attention_head_dim": 8,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}
SDXL = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "cross_attention_dim": 2048,
    "attention_head_dim": (5, 10, 20),
    "transformer_layers_per_block": (1, 2, 10),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
}
TEXT_TOKENS, POOLED = 77, 1280


@dataclass(frozen=True)
class SceneCost:
    """FLOPs of one network step. ``independent_frame`` shares nothing, ``frame`` is one among many of the
    default, replays not included; ``anchors``, ``knots`` and ``unit`` are the tasks of a scene of
    ``frames`` frames, replays included."""

    frames: int
    independent_frame: int
    frame: int
    anchors: int
    knots: int
    unit: int

    @property
    def ratio(self) -> float:
        """The default over independent frames."""
        return (self.anchors + self.knots + self.unit) / (self.frames * self.independent_frame)

    @property
    def bank_share(self) -> float:
        """What reading its bank adds to a frame (r_ext)."""
        return self.frame / self.independent_frame - 1.0


class Counted:
    """A network of shapes only, and the FLOPs of what a stage asks of it."""

    def __init__(self, config: dict[str, Any]) -> None:
        import torch
        from diffusers import UNet2DConditionModel

        with torch.device("meta"):
            self.unet = UNet2DConditionModel(**config).eval().requires_grad_(False)
        self.side = int(config["sample_size"])

    def latents(self, *shape: int) -> Tensor:
        """[*shape, C, h, w] without numbers."""
        import torch

        return torch.empty(*shape, self.unet.config.in_channels, self.side, self.side, device="meta")

    def scene(self, plan: ScenePlan, *, style: bool = False, every_frame: bool = False) -> SceneCost:
        """Cost of one scene whose frames make one unit.

        With ``every_frame`` all of them are driven through the network; else one frame of every knot
        interval and one more, whose cost stands for each of the rest (they ask for the same).
        """
        from operators.attention.policies.knots import Knots
        from operators.attention.policies.scene import Anchors, Independent, JointAnchors
        from operators.replay import Trajectories

        between = tuple(o for o in plan.knots if o not in plan.anchors)
        frames = [o for o in range(plan.first, plan.last) if o not in plan.knots]
        few = [knot + 1 for knot in plan.knots if knot + 1 in frames]
        scene = Trajectories(self.latents(len(plan.anchors), 1), {o: self.latents(1) for o in plan.knots})

        def of_frames(ordinals: Sequence[int]) -> int:
            return self.flops([(o,) for o in ordinals], Knots(plan.knots), scene, style=style)

        unit = of_frames(few)
        one = of_frames([*few, few[0] + 1]) - unit
        return SceneCost(
            frames=plan.last - plan.first,
            independent_frame=self.flops([(plan.first,)], Independent(), Trajectories()),
            frame=one,
            anchors=self.flops([plan.anchors], JointAnchors(), Trajectories(), style=style),
            knots=self.flops([(o,) for o in between], Anchors(), scene, style=style),
            unit=of_frames(frames) if every_frame else unit + (len(frames) - len(few)) * one,
        )

    def flops(
        self,
        batches: Sequence[tuple[int, ...]],
        policy: SharingPolicy,
        trajectories: Trajectories,
        *,
        style: bool = False,
    ) -> int:
        """FLOPs (2 per multiply and add) of one step over units of ``batches`` of ordinals."""
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        from operators.attention.install import install
        from operators.attention.policies.base import Unit
        from operators.replay import Stage, run_stage

        if not batches:
            return 0
        latents = [self.latents(len(batch)) for batch in batches]
        units = [Unit(z, z, tuple(batch)) for z, batch in zip(latents, batches, strict=True)]
        with torch.no_grad(), install(self.unet, decoder_only=True) as session:
            stage = Stage(_OneStep(), _NetworkAlone(self.unet), session, self._style() if style else None)
            with FlopCounterMode(display=False) as counter:
                run_stage(stage, units, policy, trajectories)
        return int(counter.get_total_flops())

    def _style(self) -> StyleReading:
        import torch

        from operators.replay import StyleReading
        from operators.style.style_aligned import StyleReference
        from operators.style.transport import LatentStatistics

        nothing = LatentStatistics(torch.empty(0), torch.empty(0))
        return StyleReading(StyleReference(self.latents(1), nothing), 0.69, align=True, norms=False)


class _NetworkAlone:
    """A `LatentPrior` of which only the network exists."""

    def __init__(self, unet: Any) -> None:
        self.unet = unet

    def predict(self, z: Tensor, t: int) -> Any:
        """One network evaluation."""
        import torch

        from operators.solvers.base import Prediction

        rows, config = z.shape[0], self.unet.config
        added = None
        if config.addition_embed_type == "text_time":
            added = {
                "text_embeds": torch.empty(rows, POOLED, device="meta"),
                "time_ids": torch.empty(rows, 6, device="meta"),
            }
        tokens = torch.empty(rows, TEXT_TOKENS, config.cross_attention_dim, device="meta")
        out = self.unet(z, t, encoder_hidden_states=tokens, added_cond_kwargs=added).sample
        return Prediction(out, out)


class _OneStep:
    """A solver of one network evaluation and nothing else."""

    timesteps = (500,)

    def start(self, y: Tensor, noise: Tensor, prior: Any) -> Any:
        """The latent itself."""
        from operators.solvers.base import State

        return State(noise, y)

    def step(self, i: int, state: Any, prior: Any) -> Any:
        """One evaluation."""
        prior.predict(state.z, self.timesteps[i])
        return state

    def finish(self, state: Any, prior: Any) -> Tensor:
        """The latent itself."""
        latent: Tensor = state.z
        return latent


def unit_scene(intervals: int) -> ScenePlan:
    """A scene of one unit: ``intervals`` of the default spacing and its last knot."""
    consistency = ConsistencySettings()
    return plan_scene(0, 0, intervals * consistency.knot_every + 1, consistency)


def closed_form(plan: ScenePlan, bank_share: float, *, style: bool) -> float:
    """The ratio by counting calls alone, (1 + r_ext) (1 + references / frames): every knot and anchor of the
    unit, and the style, is replayed once (specification of the design, section 6.7)."""
    references = len(plan.knots) + len(plan.anchors) + int(style)
    return (1.0 + bank_share) * (1.0 + references / (plan.last - plan.first))
