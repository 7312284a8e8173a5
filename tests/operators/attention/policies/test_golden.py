"""Published numbers of Text2Video-Zero's cross-frame attention, as replayed references give them."""

from __future__ import annotations

import torch
from safetensors.torch import load_file

from operators.attention.install import install
from operators.attention.reading import Reader, Reading
from tests.support.shared import golden, shared_dir
from tests.support.tiny_models import tiny_sd_unet


@torch.no_grad()
def test_text2video_zero_reproduces_the_published_implementation() -> None:
    """diffusers' cross-frame processor, all four frames of both guidance branches in one batch. Ours: the
    first frame alone, then each frame alone with the first one's keys and values in place of its own."""
    tensors, facts = golden("t2v_zero")
    unet = tiny_sd_unet().eval()
    unet.load_state_dict(load_file(shared_dir() / "golden" / "tiny_sd15_state.safetensors"))
    x, out = tensors["x"], tensors["out"]
    with install(unet) as session:
        for half in (0, 1):
            tokens = tensors["ctx"][half : half + 1]

            def frame(number: int, tokens: torch.Tensor = tokens) -> torch.Tensor:
                return unet(x[number : number + 1], facts["t"], encoder_hidden_states=tokens).sample

            first = session.harvest(lambda frame=frame: frame(0))
            with session.under(Reading((Reader(first),), own=False)):
                found = torch.cat([frame(number) for number in range(len(x))])
            assert (found - out[half * len(x) : (half + 1) * len(x)]).abs().max() < 1e-5
