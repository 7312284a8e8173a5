"""LatentModel: VAE, network, noise schedule and conditioning of one latent diffusion checkpoint.

Loads Stable-Diffusion-class checkpoints in the diffusers layout (SD1.5, SD2.x, SDXL and the embedded
model): ``vae/``, ``unet/``, ``scheduler/`` and, where there are prompts, ``tokenizer[_2]/`` and
``text_encoder[_2]/``. Weights are safetensors only, and no code is taken from a checkpoint.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors import SafetensorError, safe_open
from torch import Tensor

from operators.complement import LatentComplement
from operators.errors import ModelError
from operators.klt import BlockKLT, load_klt
from operators.model_card import verify_weights
from operators.noise import keyed_normal
from operators.noise_schedule import NoiseSchedule
from operators.solvers.base import Prediction
from operators.solvers.guidance import Branches, mixed
from operators.solvers.levels import level_of_alpha
from operators.solvers.parametrisation import PARAMETRISATIONS

EMBEDDED = Path(__file__).parent / "embedded"
_HUB_PATTERNS = ["*.json", "*.txt", "*.safetensors", "*.model"]


@dataclass(frozen=True)
class Conditioning:
    """What the network is told besides z and t: ``tokens`` [1, L, D], and for SDXL ``pooled`` [1, P]."""

    tokens: Tensor
    pooled: Tensor | None = None


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
        unet: UNet2DConditionModel,
        schedule: NoiseSchedule,
        text: TextEncoders | None,
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
        unet = _load(UNet2DConditionModel, root, "unet", dtype)
        schedule = NoiseSchedule.read(_read_json(root / "scheduler" / "scheduler_config.json"))
        latent = _read_latent_facts(root / "latent.safetensors", device, dtype)
        return cls(
            vae,
            unet.to(device, memory_format=torch.channels_last),
            schedule,
            TextEncoders.load(root, device, dtype),
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
        return self.vae_factor * int(2 ** (len(self.unet.config.block_out_channels) - 1))

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


@dataclass(frozen=True)
class TextEncoders:
    """The CLIP text tower(s) of a checkpoint: one for SD1.5/SD2.x, two for SDXL."""

    towers: tuple[tuple[Any, Any], ...]
    device: str
    dtype: torch.dtype

    @classmethod
    def load(cls, root: Path, device: str, dtype: torch.dtype) -> TextEncoders | None:
        """Towers below ``root``, or None when the checkpoint has no ``text_encoder/``."""
        from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

        towers = []
        for suffix in ("", "_2"):
            folder = root / f"text_encoder{suffix}"
            if not folder.is_dir():
                continue
            kind = CLIPTextModelWithProjection if suffix else CLIPTextModel
            encoder = _load(kind, root, folder.name, dtype).to(device).eval().requires_grad_(False)
            towers.append((CLIPTokenizer.from_pretrained(root / f"tokenizer{suffix}"), encoder))
        return cls(tuple(towers), device, dtype) if towers else None

    @torch.no_grad()
    def encode(self, prompt: str) -> Conditioning:
        """SD: last hidden state of the tower. SDXL: penultimate states of both, pooled of the second."""
        states, pooled = [], None
        for tokenizer, encoder in self.towers:
            tokens = tokenizer(
                prompt,
                padding="max_length",
                max_length=tokenizer.model_max_length,
                truncation=True,
                return_tensors="pt",
            )
            out = encoder(tokens.input_ids.to(self.device), output_hidden_states=True)
            states.append(out.last_hidden_state if len(self.towers) == 1 else out.hidden_states[-2])
            pooled = None if len(self.towers) == 1 else out[0]
        return Conditioning(torch.cat(states, dim=-1).to(self.dtype), pooled)


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


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise ModelError(f"{path} is missing: the model is not in the diffusers layout") from None
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error


def _load_autoencoder(
    root: Path, autoencoder: str, dtype: torch.dtype, device: str
) -> AutoencoderKL | BlockKLT:
    if autoencoder == "analytic":
        return load_klt(root / "latent.safetensors").to(device)
    if autoencoder != "vae":
        raise ModelError(f"autoencoder {autoencoder!r} is unknown; use vae or analytic")
    vae_config = _read_json(root / "vae" / "config.json")
    # fp16 overflows in autoencoders that ask for upcasting (SDXL); bf16 has the range.
    upcast = vae_config.get("force_upcast", True) and dtype == torch.float16
    vae = _load(AutoencoderKL, root, "vae", torch.float32 if upcast else dtype)
    return vae.to(device, memory_format=torch.channels_last)


def _load(kind: Any, root: Path, folder: str, dtype: torch.dtype) -> Any:
    files = sorted((root / folder).glob("*.safetensors"))
    if not files:
        raise ModelError(
            f"{root / folder} has no safetensors weights; convert the checkpoint "
            "(pickle files are never loaded)"
        )
    only_variant = all(".fp16." in file.name for file in files)
    try:
        return kind.from_pretrained(
            root,
            subfolder=folder,
            torch_dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            low_cpu_mem_usage=False,
            variant="fp16" if only_variant else None,
        )
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(f"{root / folder} cannot be loaded: {error}") from error


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
