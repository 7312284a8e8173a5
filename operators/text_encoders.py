"""What a prompt is to a network: the text towers of a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from operators.adapters.textual_inversion import spelled_out
from operators.checkpoint_files import load_part

#: Tokens that SD3 reads of its third tower.
T5_TOKENS = 256


@dataclass(frozen=True)
class Conditioning:
    """What the network is told besides z and t: ``tokens`` [1, L, D], for SDXL and SD3 ``pooled`` [1, P]."""

    tokens: Tensor
    pooled: Tensor | None = None


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
            encoder = load_part(kind, root, folder.name, dtype).to(device).eval().requires_grad_(False)
            towers.append((CLIPTokenizer.from_pretrained(root / f"tokenizer{suffix}"), encoder))
        return cls(tuple(towers), device, dtype) if towers else None

    @torch.no_grad()
    def encode(self, prompt: str) -> Conditioning:
        """SD: last hidden state of the tower. SDXL: penultimate states of both, pooled of the second."""
        states, pooled = [], None
        for tokenizer, encoder in self.towers:
            spelled = spelled_out(prompt, tokenizer)
            tokens = _tokens(tokenizer, spelled, tokenizer.model_max_length, self.device)
            out = encoder(tokens, output_hidden_states=True)
            states.append(out.last_hidden_state if len(self.towers) == 1 else out.hidden_states[-2])
            pooled = None if len(self.towers) == 1 else out[0]
        return Conditioning(torch.cat(states, dim=-1).to(self.dtype), pooled)


@dataclass(frozen=True)
class ThreeTextEncoders:
    """The towers of SD3 (Esser et al. 2024): two CLIP towers side by side, padded to ``width``, and behind
    them a T5 tower, or zeros where the checkpoint comes without it."""

    clip: tuple[tuple[Any, Any], ...]
    t5: tuple[Any, Any] | None
    width: int
    device: str
    dtype: torch.dtype

    @classmethod
    def load(cls, root: Path, device: str, dtype: torch.dtype, width: int) -> ThreeTextEncoders | None:
        """Towers below ``root``, or None when the checkpoint has no ``text_encoder/``. ``width``: features
        per token that the network reads."""
        from transformers import AutoTokenizer, CLIPTextModelWithProjection, T5EncoderModel

        def tower(kind: Any, suffix: str) -> tuple[Any, Any]:
            encoder = load_part(kind, root, f"text_encoder{suffix}", dtype).to(device).eval()
            tokenizer = AutoTokenizer.from_pretrained(root / f"tokenizer{suffix}", local_files_only=True)
            return tokenizer, encoder.requires_grad_(False)

        if not (root / "text_encoder").is_dir():
            return None
        clip = tuple(tower(CLIPTextModelWithProjection, suffix) for suffix in ("", "_2"))
        t5 = tower(T5EncoderModel, "_3") if (root / "text_encoder_3").is_dir() else None
        return cls(clip, t5, width, device, dtype)

    @torch.no_grad()
    def encode(self, prompt: str) -> Conditioning:
        """Tokens [1, 77 + 256, width]: penultimate states of the CLIP towers, then those of T5; their pooled
        projections side by side."""
        outs = [
            encoder(
                _tokens(tokenizer, prompt, tokenizer.model_max_length, self.device), output_hidden_states=True
            )
            for tokenizer, encoder in self.clip
        ]
        short = torch.cat([out.hidden_states[-2] for out in outs], dim=-1)
        short = F.pad(short, (0, self.width - short.shape[-1]))
        long = short.new_zeros(1, T5_TOKENS, self.width)
        if self.t5 is not None:
            tokenizer, encoder = self.t5
            long = encoder(_tokens(tokenizer, prompt, T5_TOKENS, self.device))[0]
        pooled = torch.cat([out.text_embeds for out in outs], dim=-1)
        return Conditioning(torch.cat([short, long], dim=1).to(self.dtype), pooled.to(self.dtype))


def _tokens(tokenizer: Any, prompt: str, length: int, device: str) -> Tensor:
    """Token numbers [1, length], cut off or filled up."""
    told = tokenizer(prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    numbers: Tensor = told.input_ids.to(device)
    return numbers
