"""LatentModel: VAE, network, noise schedule and conditioning of one latent diffusion checkpoint.

Loads Stable-Diffusion-class checkpoints in the diffusers layout (SD1.5, SD2.x, SDXL, the embedded model, and
SD3): ``vae/``, ``unet/`` or ``transformer/``, ``scheduler/`` and, where there are prompts, ``tokenizer[_n]/``
and ``text_encoder[_n]/``. Weights are safetensors only, and no code is taken from a checkpoint.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel, UNet2DConditionModel
from safetensors import SafetensorError, safe_open
from torch import Tensor

from operators.checkpoint_files import load_part, read_json
from operators.complement import LatentComplement
from operators.errors import ModelError
from operators.klt import BlockKLT, load_klt
from operators.mmdit import is_mmdit, largest_side, load_mmdit, mmdit_output
from operators.model_card import verify_weights
from operators.noise import keyed_normal
from operators.noise_schedule import NoiseSchedule
from operators.solvers.base import Prediction
from operators.solvers.guidance import Branches, mixed
from operators.solvers.levels import level_of_alpha
from operators.solvers.parametrisation import PARAMETRISATIONS
from operators.text_encoders import Conditioning, TextEncoders, ThreeTextEncoders

EMBEDDED = Path(__file__).parent / "embedded"
_HUB_PATTERNS = ["*.json", "*.txt", "*.safetensors", "*.model"]


@dataclass(frozen=True)
class LatentFacts:
    """What is known of a latent beyond its autoencoder: ``null_condition`` [1, L, D], ``noise_gain`` (see
    `LatentModel.noise_gain`), and the components that it leaves out."""

    null_condition: Tensor | None = None
    noise_gain: float | None = None
    complement: LatentComplement | None = None


class BranchListener(Protocol):
    """Is told which guidance branch ("cond" or "uncond") the next network call belongs to."""

    branch: str


class LatentModel:
    """One checkpoint on one device. ``predict`` takes float32 latents whatever the network's dtype."""

    def __init__(
        self,
        vae: AutoencoderKL | BlockKLT,
        unet: UNet2DConditionModel | SD3Transformer2DModel,
        schedule: NoiseSchedule,
        text: TextEncoders | ThreeTextEncoders | None,
        latent: LatentFacts,
    ) -> None:
        self.vae, self.unet, self.text = vae, unet.eval(), text
        if isinstance(vae, AutoencoderKL):
            vae.eval().requires_grad_(False)
        unet.requires_grad_(False)
        self.device, self.dtype = unet.device, unet.dtype
        self.kind, self.prediction_type = schedule.kind, schedule.prediction_type
        self.alphas_cumprod = schedule.alphas_cumprod.to(self.device)
        self.final_alpha_cumprod = schedule.final_alpha_cumprod.to(self.device)
        self._null_condition = latent.null_condition
        self._noise_gain = latent.noise_gain
        self.complement = latent.complement

    @classmethod
    def from_pretrained(
        cls, source: str, *, device: str = "cpu", precision: str = "auto", autoencoder: str = "vae"
    ) -> LatentModel:
        """Load ``"embedded"``, a diffusers directory or a hub id.

        ``precision``: fp32, fp16, bf16, or auto (fp32 on CPU, bf16 on CUDA). ``autoencoder``: vae, or
        analytic, the linear transform that the embedded VAE was distilled onto. Raises ModelError naming
        the missing or unreadable file, or weights that are not those of the model card.
        """
        root = _locate(source)
        dtype = _dtype(precision, device)
        verify_weights(root)
        vae = _load_autoencoder(root, autoencoder, dtype, device)
        unet = _load_network(root, dtype)
        schedule = NoiseSchedule.read(read_json(root / "scheduler" / "scheduler_config.json"))
        latent = _read_latent_facts(root / "latent.safetensors", device, dtype)
        return cls(
            vae,
            unet.to(device, memory_format=torch.channels_last),
            schedule,
            _load_text(root, unet, device, dtype),
            latent,
        )

    def recompute_in_backward(self, on: bool = True) -> None:
        """Keep block inputs only when differentiating, and compute the rest again (Chen et al. 2016): less
        memory, one more forward pass, the same numbers. Without gradients nothing changes."""
        for part in (self.unet, self.vae):
            if isinstance(part, BlockKLT):
                continue
            if on:
                part.enable_gradient_checkpointing()
            else:
                part.disable_gradient_checkpointing()

    @property
    def vae_factor(self) -> int:
        """Pixels per latent cell along one side (4 or 8)."""
        if isinstance(self.vae, BlockKLT):
            return self.vae.block
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def pixel_multiple(self) -> int:
        """Height and width of a picture must be multiples of this many pixels."""
        if is_mmdit(self.unet):
            return self.vae_factor * int(self.unet.config.patch_size)
        return self.vae_factor * int(2 ** (len(self.unet.config.block_out_channels) - 1))

    @property
    def largest_side(self) -> int | None:
        """Pixels that a picture may have along a side; None where any size will do."""
        return largest_side(self.unet) * self.vae_factor if is_mmdit(self.unet) else None

    @property
    def latent_channels(self) -> int:
        """Channels of a latent."""
        return int(self.unet.config.in_channels)

    @functools.cached_property
    def noise_gain(self) -> float:
        """Latent std caused by white pixel noise of unit std on [-1, 1].

        Stated by the checkpoint where its latent is orthonormal (embedded), else measured once at
        pixel std 0.1 around mid grey with keyed noise.
        """
        if self._noise_gain is not None:
            return self._noise_gain
        grey = torch.zeros(1, 3, 4 * self.pixel_multiple, 4 * self.pixel_multiple, device=self.device)
        noise = keyed_normal(tuple(grey.shape), "noise gain").to(self.device)
        with torch.no_grad():
            change = self.encode(grey + 0.1 * noise) - self.encode(grey)
        return float(change.std() / 0.1)

    def encode(self, x: Tensor) -> Tensor:
        """Pixels [B, 3, H, W] in [-1, 1] to scaled float32 latents: the posterior mean, never a sample
        (a sample is noise in time)."""
        if isinstance(self.vae, BlockKLT):
            return self.vae.encode(x.float())
        mean = self.vae.encode(x.to(self.vae.dtype)).latent_dist.mode().float()
        return (mean - (self.vae.config.shift_factor or 0.0)) * self.vae.config.scaling_factor

    def decode(self, z: Tensor) -> Tensor:
        """Scaled latents [B, C, h, w] to float32 pixels, unclipped."""
        if isinstance(self.vae, BlockKLT):
            return self.vae.decode(z.float())
        raw = z / self.vae.config.scaling_factor + (self.vae.config.shift_factor or 0.0)
        return self.vae.decode(raw.to(self.vae.dtype)).sample.float()

    def condition(self, prompt: str) -> Conditioning:
        """Conditioning of a prompt; ``""`` is the null condition. Raises ModelError for a non-empty
        prompt on a checkpoint without text encoders."""
        if self.text is not None:
            return self.text.encode(prompt)
        if prompt:
            raise ModelError("this checkpoint has no text encoder: leave the prompt empty")
        if self._null_condition is None:
            raise ModelError("the checkpoint has neither text_encoder/ nor a null condition")
        return Conditioning(self._null_condition)

    def network(self, z: Tensor, t: int, condition: Conditioning) -> Tensor:
        """Raw network output [B, C, h, w] float32 at integer timestep ``t``."""
        if is_mmdit(self.unet):
            return mmdit_output(self.unet, z, t, condition)
        rows = z.shape[0]
        added: dict[str, Tensor] | None = None
        if condition.pooled is not None:
            side = (z.shape[2] * self.vae_factor, z.shape[3] * self.vae_factor)
            time_ids = torch.tensor([[*side, 0, 0, *side]], dtype=self.dtype, device=self.device)
            added = {
                "text_embeds": condition.pooled.expand(rows, -1),
                "time_ids": time_ids.expand(rows, -1),
            }
        return self.unet(
            z.to(self.dtype),
            t,
            encoder_hidden_states=condition.tokens.expand(rows, -1, -1),
            added_cond_kwargs=added,
        ).sample.float()

    def prediction(self, z: Tensor, t: int, output: Tensor) -> Prediction:
        """Network output to Tweedie mean and noise; see `operators.solvers.parametrisation`."""
        at = level_of_alpha(self, self.alphas_cumprod[t])
        return PARAMETRISATIONS[self.prediction_type](z, output, at)


class BoundPrior:
    """A LatentModel with prompt and guidance bound: the `LatentPrior` that solvers consume.

    Classifier-free guidance (Ho & Salimans 2022): eps_u + w (eps_c - eps_u). The two branches run as
    separate network calls, so that the batch shape, and with it the bits, do not depend on ``guidance``;
    ``guidance`` 1 needs one call, and so does an empty prompt, which is its own opposite.
    """

    def __init__(
        self,
        model: LatentModel,
        prompt: str = "",
        guidance: float = 1.0,
        listener: BranchListener | None = None,
    ) -> None:
        self.model, self.prompt, self.guidance, self.listener = model, prompt, guidance, listener
        self.kind = model.kind
        self.alphas_cumprod = model.alphas_cumprod
        self.final_alpha_cumprod = model.final_alpha_cumprod
        self.noise_gain = model.noise_gain
        self.complement = model.complement
        self._cond = model.condition(prompt)

    def encode(self, x: Tensor) -> Tensor:
        """See `LatentModel.encode`."""
        return self.model.encode(x)

    def decode(self, z: Tensor) -> Tensor:
        """See `LatentModel.decode`."""
        return self.model.decode(z)

    def recompute_in_backward(self) -> None:
        """See `LatentModel.recompute_in_backward`."""
        self.model.recompute_in_backward()

    def predict(self, z: Tensor, t: int) -> Prediction:
        """Guided prediction for latents [B, C, h, w]; differentiable in ``z``."""
        if self.guidance == 1.0 or not self.prompt:
            return self._told(z, t)
        return mixed(self.branches(z, t), self.guidance)

    def branches(self, z: Tensor, t: int) -> Branches:
        """With and without the prompt, one network call each; one call and one object when it is empty."""
        cond = self._told(z, t)
        if not self.prompt:
            return Branches(cond, cond)
        with self._branch("uncond"):
            return Branches(self.model.prediction(z, t, self.model.network(z, t, self._uncond)), cond)

    def _told(self, z: Tensor, t: int) -> Prediction:
        with self._branch("cond"):
            return self.model.prediction(z, t, self.model.network(z, t, self._cond))

    @functools.cached_property
    def _uncond(self) -> Conditioning:
        return self.model.condition("")

    @contextlib.contextmanager
    def _branch(self, name: str) -> Iterator[None]:
        if self.listener is not None:
            self.listener.branch = name
        yield


def _locate(source: str) -> Path:
    if source == "embedded":
        return EMBEDDED
    path = Path(source)
    if path.is_dir():
        return path
    if path.exists() or source.startswith((".", "/", "~")):
        raise ModelError(f"model {source!r} is not a directory in the diffusers layout")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source, allow_patterns=_HUB_PATTERNS))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"model {source!r} is neither a local directory nor a hub model that can be fetched: "
            f"{type(error).__name__}"
        ) from error


def _dtype(precision: str, device: str) -> torch.dtype:
    if precision == "auto":
        return torch.bfloat16 if device.startswith("cuda") else torch.float32
    table = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    if precision not in table:
        raise ModelError(f"precision {precision!r} is unknown; use auto, fp32, fp16 or bf16")
    return table[precision]


def _load_network(root: Path, dtype: torch.dtype) -> UNet2DConditionModel | SD3Transformer2DModel:
    if (root / "transformer").is_dir():
        return load_mmdit(root, dtype)
    return load_part(UNet2DConditionModel, root, "unet", dtype)


def _load_text(
    root: Path, network: UNet2DConditionModel | SD3Transformer2DModel, device: str, dtype: torch.dtype
) -> TextEncoders | ThreeTextEncoders | None:
    if is_mmdit(network):
        return ThreeTextEncoders.load(root, device, dtype, network.config.joint_attention_dim)
    return TextEncoders.load(root, device, dtype)


def _load_autoencoder(
    root: Path, autoencoder: str, dtype: torch.dtype, device: str
) -> AutoencoderKL | BlockKLT:
    if autoencoder == "analytic":
        return load_klt(root / "latent.safetensors").to(device)
    if autoencoder != "vae":
        raise ModelError(f"autoencoder {autoencoder!r} is unknown; use vae or analytic")
    vae_config = read_json(root / "vae" / "config.json")
    # fp16 overflows in autoencoders that ask for upcasting (SDXL); bf16 has the range.
    upcast = vae_config.get("force_upcast", True) and dtype == torch.float16
    vae = load_part(AutoencoderKL, root, "vae", torch.float32 if upcast else dtype)
    return vae.to(device, memory_format=torch.channels_last)


def _read_latent_facts(path: Path, device: str, dtype: torch.dtype) -> LatentFacts:
    """The facts of checkpoints that carry ``latent.safetensors``; none for the others."""
    if not path.exists():
        return LatentFacts()
    klt = load_klt(path).to(device)
    try:
        with safe_open(path, "pt") as handle:
            condition = handle.get_tensor("null_condition").to(device, dtype)
    except SafetensorError as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    return LatentFacts(condition, klt.scale, klt.complement)
