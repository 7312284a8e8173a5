"""What a job may do to frames: restorations and stylizations, as validated frozen values."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from jobs.acceleration_spec import Accelerated
from jobs.degradation_spec import CHANGE_THE_COUNT, KINDS, Degradation
from jobs.places import Place
from jobs.spec_base import Section, problem
from jobs.style_spec import Blend, Content, Method, Reference, StyleAligned, Text, named_method
from pipeline.restore_fit import misfit
from pipeline.style_fit import style_misfit


class Dpir(Section):
    """Deterministic plug-and-play half-quadratic splitting with the latent prior as denoiser."""

    name: Literal["dpir"] = "dpir"
    steps: Annotated[int, Field(ge=1, le=50)] | None = None


Steps = Annotated[int, Field(ge=1, le=999)]
Strength = Annotated[float, Field(gt=0.0, le=1.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
StepLength = Annotated[float, Field(gt=0.0, le=1000.0)]
Weight = Annotated[float, Field(ge=0.0, le=1000.0)]
Likelihood = Literal["gaussian", "poisson", "poisson_released"]


class _Sampler(Section):
    """What all samplers take.

    ``steps`` is the length of the full schedule, of which a job walks the last ``strength``: 1 starts from
    pure noise as published, less from the noised classical restoration, a better start and a cheaper one.
    """

    steps: Steps | None = None
    strength: Strength = 0.4


class _GradientSampler(_Sampler):
    """Samplers that differentiate: ``rows`` frames at once (memory), all when not given. ``last_fit`` moves
    the finished picture to the measurement once more."""

    rows: Annotated[int, Field(ge=1, le=1024)] | None = None
    last_fit: bool = True


class Psld(_GradientSampler):
    """Posterior sampling with latent diffusion (Rout et al. 2023): weights of the two gradient terms."""

    name: Literal["psld"]
    omega: StepLength | None = None
    gamma: Annotated[float, Field(ge=0.0, le=100.0)] | None = None


class Ldps(_GradientSampler):
    """Diffusion posterior sampling through the decoder (Chung et al. 2023); ``dps_nojac`` leaves out the
    network's Jacobian. ``scale`` is the step length, ``eta`` the stochasticity of DDIM."""

    name: Literal["ldps", "dps_nojac"]
    scale: StepLength | None = None
    eta: Share | None = None
    likelihood: Likelihood | None = None


class Stsl(_GradientSampler):
    """Second-order Tweedie sampler (Rout et al. 2024): ``eta`` weighs the trace term, ``probe`` is the length
    of its step, ``averages`` the updates per step, ``weight`` their length."""

    name: Literal["stsl"]
    averages: Annotated[int, Field(ge=1, le=50)] | None = None
    eta: Weight | None = None
    probe: Annotated[float, Field(gt=0.0, le=10.0)] | None = None
    weight: StepLength | None = None
    likelihood: Likelihood | None = None


class ReSample(_GradientSampler):
    """Hard data consistency by optimisation (Song et al. 2024) every ``every`` steps."""

    name: Literal["resample"]
    every: Annotated[int, Field(ge=1, le=999)] = 4
    travel: Annotated[int, Field(ge=0, le=50)] | None = None
    scale: Weight | None = None


class RedDiff(_GradientSampler):
    """Variational optimisation (Mardani et al. 2024): ``rate`` of Adam in latent units."""

    name: Literal["reddiff"]
    rate: Annotated[float, Field(gt=0.0, le=10.0)] | None = None
    prior_weight: Weight | None = None


class BlindDps(_Sampler):
    """Blur kernel and picture together (Chung et al. 2023); the degradation's kernel is the first guess."""

    name: Literal["blind_dps"]
    scale: StepLength | None = None
    kernel_rate: Annotated[float, Field(gt=0.0, le=1.0)] | None = None


class TReg(_Sampler):
    """Conjugate gradients every ``every`` steps (Kim et al. 2023; dreamsampler: Kim, Park and Ye 2024)."""

    name: Literal["treg", "dreamsampler"]
    strength: Strength = 0.3
    every: Annotated[int, Field(ge=1, le=999)] | None = None
    until: Annotated[int, Field(ge=0, le=999)] | None = None
    lam: Weight | None = None
    iterations: Annotated[int, Field(ge=1, le=1000)] | None = None
    last_fit: bool = True


class DiffPir(_Sampler):
    """Prox and renoise (Zhu et al. 2023): ``zeta`` is the share of fresh noise."""

    name: Literal["diffpir"]
    strength: Strength = 0.3
    lam: Annotated[float, Field(gt=0.0, le=1000.0)] | None = None
    zeta: Share | None = None


class Ddnm(_Sampler):
    """Range and null space (Wang, Yu and Zhang 2023)."""

    name: Literal["ddnm"]
    strength: Strength = 0.3
    eta: Share | None = None
    last_fit: bool = True


class Latino(Section):
    """Few-step model between encoder and decoder (Spagnoletti et al. 2025), of 4 or 8 steps as released."""

    name: Literal["latino"]
    steps: Annotated[int, Field(ge=1, le=50)] | None = None
    delta: Annotated[float, Field(gt=0.0, le=1000.0)] | None = None


class FlowSampler(_GradientSampler):
    """Samplers of rectified flows (FlowChef: Patel et al. 2025; FlowDPS: Kim, Kim and Ye 2025)."""

    name: Literal["flowchef", "flowdps"]
    rate: StepLength | None = None
    inner: Annotated[int, Field(ge=1, le=200)] | None = None


class VideoLatent(_Sampler):
    """Inverted start, prox, re-encode, renoise with a share ``eta`` of the noise that frames share. ``flow``
    weighs the loss by which neighbours agree along their motion (MGLD-VSR, Yang et al. 2024): frames are then
    restored together, which needs ``sharing: none``."""

    name: Literal["video_latent"]
    strength: Strength = 0.3
    every: Annotated[int, Field(ge=1, le=999)] | None = None
    lam: Annotated[float, Field(gt=0.0, le=1000.0)] | None = None
    eta: Share | None = None
    flow: Annotated[float, Field(ge=0.0, le=10.0)] | None = None


class Svi(_Sampler):
    """Clips as one sample (Kwon and Ye 2025): one noise for a scene, conjugate gradients on all frames of a
    window, renoise with a share ``eta`` of fresh noise. Needs ``sharing: none``."""

    name: Literal["svi"]
    strength: Strength = 0.3
    eta: Share | None = None
    lam: Weight | None = None
    iterations: Annotated[int, Field(ge=1, le=1000)] | None = None


class Lvtino(Section):
    """LATINO for clips (Spagnoletti, Almansa and Pereyra 2025) with a few-step model, in turns with the video
    model of ``checkpoint`` where there is one: a folder that `operators.solvers.wan_video` reads. Needs
    ``sharing: none``."""

    name: Literal["lvtino"]
    checkpoint: Place | None = None
    delta: Annotated[float, Field(gt=0.0, le=1000.0)] | None = None


class Cddb(Section):
    """Diffusion bridge with data consistency (Chung, Kim and Ye 2023) and weights of its own: a folder with
    ``checkpoint.json``, see `operators.solvers.image_bridge`. Frames share no attention in it."""

    name: Literal["cddb"]
    checkpoint: Place
    steps: Annotated[int, Field(ge=1, le=999)] | None = None
    step_size: Annotated[float, Field(ge=0.0, le=10.0)] | None = None


Solver = Annotated[
    Dpir
    | Psld
    | Ldps
    | Stsl
    | ReSample
    | RedDiff
    | BlindDps
    | TReg
    | DiffPir
    | Ddnm
    | Latino
    | FlowSampler
    | VideoLatent
    | Svi
    | Lvtino
    | Cddb,
    Field(discriminator="name"),
]


KnownDegradation = Annotated[Degradation, Field(discriminator="kind")]


class Restore(Accelerated):
    """Undo a degradation, a known one or, with ``degradation: auto``, one that is estimated from each video.

    ``prompt`` says what is in the pictures, ``guidance`` how much it counts: by ``rule`` cfg (Ho and Salimans
    2022), 1 or more, or cfgpp (Chung et al. 2025), between 0 and 1.
    """

    degradation: KnownDegradation
    solver: Solver = Dpir()
    prompt: str | None = None
    guidance: Annotated[float, Field(ge=0.0, le=50.0)] | None = None
    rule: Literal["cfg", "cfgpp"] | None = None

    @field_validator("degradation", mode="before", json_schema_input_type=KnownDegradation | Literal["auto"])
    @classmethod
    def _auto_is_a_word(cls, degradation: Any) -> Any:
        return {"kind": degradation} if degradation == "auto" else degradation

    @field_validator("degradation", mode="before")
    @classmethod
    def _frames_keep_their_number(cls, degradation: Any) -> Any:
        kind = degradation.get("kind") if isinstance(degradation, dict) else None
        if isinstance(kind, str) and kind in CHANGE_THE_COUNT:
            why, works = CHANGE_THE_COUNT[kind], ", ".join(KINDS)
            raise problem(f"{kind} changes the number of frames: {why}; use one of {works}")
        return degradation

    @model_validator(mode="after")
    def _guidance_fits_its_rule(self) -> Self:
        if self.guidance is None and self.rule is None:
            return self
        if self.guidance is None or not self.prompt:
            raise problem("guidance needs a prompt, and a rule needs guidance", "guidance")
        if self.rule == "cfgpp" and self.guidance > 1.0:
            raise problem(f"{self.guidance} is above 1, the most that cfgpp takes; 0.6 is usual", "guidance")
        if self.rule != "cfgpp" and self.guidance < 1.0:
            raise problem(f"{self.guidance} is below 1; for such values write 'rule: cfgpp'", "guidance")
        return self

    @model_validator(mode="after")
    def _dreamsampler_has_a_hole_for_its_prompt(self) -> Self:
        if self.solver.name != "dreamsampler" or not self.prompt:
            return self
        if self.guidance is not None:
            raise problem(
                "dreamsampler weighs its prompt by the level; leave guidance and rule out, or take treg",
                "guidance",
            )
        if self.degradation.kind not in ("inpainting", "auto"):
            raise problem(
                f"dreamsampler reads a prompt in holes, and {self.degradation.kind} leaves none; leave the "
                "prompt out, or take treg",
                "prompt",
            )
        return self

    @model_validator(mode="after")
    def _solver_fits_the_degradation(self) -> Self:
        refused = misfit(self.solver.name, self.degradation.model_dump())
        if refused:
            raise problem(refused, "solver")
        return self


class Keep(Section):
    """Regions that stay as they were, faces or logos: white in ``mask``, a picture or a video with one per
    frame, of the size that frames have at this stage. ``feather``: width in pixels of the soft edge around
    them. A mask alone may be written in its place."""

    mask: Place
    feather: Annotated[int, Field(ge=0, le=256)] = 8


class Stylize(Accelerated):
    """Move frames towards the look of a reference picture, of several, or of a prompt.

    ``strength``: how far colours go towards the reference; below 0.5 less of the schedule is walked as well.
    ``depth``: the share of the schedule that is; more lets more of the content change. ``colour_lock``: only
    luma is stylized, chroma stays the source's. ``keep``: regions that stay as they were. ``content`` says
    how the content is kept. ``guidance`` is how much the prompt counts: by ``rule`` cfg
    (Ho and Salimans 2022), 1 (not at all) or more, or cfgpp (Chung et al. 2025), between 0 and 1. ``blend``
    adds further prompts with weights.
    """

    reference: Reference | None = None
    method: Method = StyleAligned()
    content: Content | None = None
    prompt: Text = ""
    guidance: Annotated[float, Field(ge=0.0, le=50.0)] = 1.0
    rule: Literal["cfg", "cfgpp"] | None = None
    blend: Annotated[tuple[Blend, ...], Field(max_length=8, strict=False)] = ()
    strength: Annotated[float, Field(gt=0.0, le=1.0)] = 0.8
    depth: Annotated[float, Field(gt=0.0, le=1.0)] = 0.4
    colour_lock: bool = False
    keep: Keep | None = None

    @field_validator("keep", mode="before", json_schema_input_type=Keep | str | None)
    @classmethod
    def _keep_may_be_a_mask_alone(cls, keep: Any) -> Any:
        return {"mask": keep} if isinstance(keep, str) else keep

    @field_validator("method", mode="before")
    @classmethod
    def _method_has_a_name(cls, method: Any) -> Any:
        return named_method(method)

    @model_validator(mode="after")
    def _guidance_fits_prompt_and_rule(self) -> Self:
        guided = self.guidance > 1.0 or self.rule is not None
        if (guided or self.blend) and not self.prompt:
            member = "guidance" if guided else "blend"
            raise problem(f"{member} needs a prompt; write one or leave {member} out", member)
        if self.rule == "cfgpp" and self.guidance > 1.0:
            raise problem(f"{self.guidance} is above 1, the most that cfgpp takes; 0.6 is usual", "guidance")
        if self.rule != "cfgpp" and self.guidance < 1.0:
            raise problem(f"{self.guidance} is below 1; for such values write 'rule: cfgpp'", "guidance")
        if sum(part.weight for part in self.blend) < -0.9:
            raise problem("its weights cancel the prompt, which weighs 1; keep their sum above -0.9", "blend")
        return self

    @model_validator(mode="after")
    def _parts_go_together(self) -> Self:
        member, refused = style_misfit(self.model_dump(exclude_none=True))
        if refused:
            raise problem(refused, member)
        return self


class Enhancement(Section):
    """One item of ``enhance``: exactly one of restore and stylize."""

    restore: Restore | None = None
    stylize: Stylize | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.restore is None) == (self.stylize is None):
            found = "neither" if self.restore is None else "both"
            raise problem(
                f"found {found} of restore and stylize; each item does exactly one; "
                "write two items to do both, in the order wanted"
            )
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values with every default written out and absent alternatives left out."""
        return self.model_dump(mode="json", exclude_none=True)
