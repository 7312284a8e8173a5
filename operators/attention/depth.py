"""Layers of a decoder by relative depth, so that lists published for SD1.5 mean something on other layouts.

SD1.5's decoder has twelve units of one residual block and one attention block each, numbered 0 to 11 as in
the papers; other layouts take the same fractions of theirs (our reading, to be tuned on previews).
"""

from __future__ import annotations

from dataclasses import dataclass

from diffusers import UNet2DConditionModel

from operators.attention.install import shared_layers

#: SD1.5's units, and the ones that published lists begin with.
_UNITS, _PLUG_AND_PLAY, _STYLEID = 12, 4, 7


@dataclass(frozen=True)
class DecoderUnit:
    """One residual block of the decoder by name, and the self-attention processors that follow it."""

    residual: str
    attentions: tuple[str, ...]


def decoder_units(unet: UNet2DConditionModel) -> tuple[DecoderUnit, ...]:
    """The units of a decoder from coarse to fine."""
    layers = shared_layers(unet, decoder_only=True)
    units = []
    for i, block in enumerate(unet.up_blocks):
        for j in range(len(block.resnets)):
            prefix = f"up_blocks.{i}.attentions.{j}."
            attentions = tuple(name for name in layers if name.startswith(prefix))
            units.append(DecoderUnit(f"up_blocks.{i}.resnets.{j}", attentions))
    return tuple(units)


def structure_layers(unet: UNet2DConditionModel) -> frozenset[str]:
    """Self-attention that Plug-and-Play and UniVST act on: decoder layers 4 to 11 of SD1.5."""
    return _attentions_from(unet, _PLUG_AND_PLAY)


def appearance_layers(unet: UNet2DConditionModel) -> frozenset[str]:
    """Self-attention that StyleID acts on: decoder layers 7 to 11 of SD1.5."""
    return _attentions_from(unet, _STYLEID)


def structure_residual(unet: UNet2DConditionModel) -> str:
    """The residual block that Plug-and-Play takes from the source: up_blocks.1.resnets.1 of SD1.5."""
    units = decoder_units(unet)
    return units[_PLUG_AND_PLAY * len(units) // _UNITS].residual


def _attentions_from(unet: UNet2DConditionModel, first: int) -> frozenset[str]:
    units = decoder_units(unet)
    return frozenset(name for unit in units[first * len(units) // _UNITS :] for name in unit.attentions)
