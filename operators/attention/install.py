"""Making a UNet of diffusers share attention, and giving it its own back."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from operators.attention.processors import SharedSelfAttnProcessor
from operators.attention.session import SharedAttention
from operators.errors import OperatorError


def shared_layers(unet: UNet2DConditionModel, *, decoder_only: bool) -> list[str]:
    """Names of the self-attention processors that share; the decoder carries appearance, at about half
    the price of all layers."""
    return list(_self_attentions(unet, decoder_only=decoder_only))


@contextlib.contextmanager
def install(unet: UNet2DConditionModel, *, decoder_only: bool = False) -> Iterator[SharedAttention]:
    """Let ``unet`` share attention inside the block; its own processors come back afterwards, whatever
    happens. Cross-attention is left alone, adapters in it included. Several UNets may be installed at once,
    each once. Parts that gradient checkpointing runs again read what they read the first time.

    Raises OperatorError when ``unet`` shares attention already; its calls raise it when something else has
    replaced the processors meanwhile.
    """
    attentions = _self_attentions(unet, decoder_only=decoder_only)
    if any(isinstance(p, SharedSelfAttnProcessor) for p in unet.attn_processors.values()):
        raise OperatorError("this network shares attention already: leave that block first")
    session = SharedAttention()
    with contextlib.ExitStack() as undo:
        for name, attention in attentions.items():
            undo.callback(attention.set_processor, attention.processor)
            attention.set_processor(SharedSelfAttnProcessor(name, session))
        for name, module in unet.named_modules():
            if isinstance(module, nn.GroupNorm):
                _shadow(module, "forward", functools.partial(session.normalise, name, module), undo)
        for name, convolution in _residual_convolutions(unet).items():
            undo.callback(
                convolution.register_forward_hook(functools.partial(_pass_residual, session, name)).remove
            )
        checkpointed = [module for module in unet.modules() if hasattr(module, "gradient_checkpointing")]
        bind = functools.partial(_bind_checkpointing, session, checkpointed, undo)
        check = functools.partial(_check_processors, session, attentions)
        for hook in (bind, check):
            undo.callback(unet.register_forward_pre_hook(hook).remove)
        note = functools.partial(_note_sides, session)
        undo.callback(unet.register_forward_pre_hook(note, with_kwargs=True).remove)
        yield session


@contextlib.contextmanager
def session_of(network: nn.Module, *, decoder_only: bool = False) -> Iterator[SharedAttention]:
    """`install` for a UNet. Other networks share nothing: their session tells branches apart and harvests
    nothing."""
    if not isinstance(network, UNet2DConditionModel):
        yield SharedAttention()
        return
    with install(network, decoder_only=decoder_only) as session:
        yield session


def _self_attentions(unet: UNet2DConditionModel, *, decoder_only: bool) -> dict[str, Attention]:
    """By processor name. Blocks with ``only_cross_attention`` have none in spite of the module's name."""
    return {
        f"{name}.processor": module
        for name, module in unet.named_modules()
        if isinstance(module, Attention)
        and name.endswith("attn1")
        and not module.is_cross_attention
        and (name.startswith("up_blocks") or not decoder_only)
    }


def _residual_convolutions(unet: UNet2DConditionModel) -> dict[str, nn.Module]:
    """The last convolution of each residual block of the decoder, by the name of the block, in order."""
    return {
        name: module.conv2
        for name, module in unet.named_modules()
        if name.startswith("up_blocks") and isinstance(module, ResnetBlock2D)
    }


def _pass_residual(
    session: SharedAttention, name: str, _module: nn.Module, _args: Any, out: Tensor
) -> Tensor:
    return session.residual(name, out)


def _shadow(module: nn.Module, name: str, value: Any, undo: contextlib.ExitStack) -> None:
    """Set ``name`` on the instance; undoing brings back what the instance or its class had."""
    if name in vars(module):
        undo.callback(setattr, module, name, vars(module)[name])
    else:
        undo.callback(delattr, module, name)
    setattr(module, name, value)


def _bind_checkpointing(
    session: SharedAttention,
    modules: Sequence[nn.Module],
    undo: contextlib.ExitStack,
    _unet: UNet2DConditionModel,
    _args: Any,
) -> None:
    """Checkpointing may be turned on at any time, so every call of the network looks for it."""
    for module in modules:
        original = getattr(module, "_gradient_checkpointing_func", None)
        if original is not None and not isinstance(original, _BoundCheckpoint):
            bound = _BoundCheckpoint(session, original)
            _shadow(module, "_gradient_checkpointing_func", bound, undo)


class _BoundCheckpoint:
    """A checkpointing function whose second run happens under the reading of the first."""

    def __init__(self, session: SharedAttention, original: Callable[..., Any]) -> None:
        self.session, self.original = session, original

    def __call__(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run ``function(*args)`` now, and again when its gradient is asked for."""
        return self.original(self.session.bound(function), *args)


def _check_processors(
    session: SharedAttention, attentions: Mapping[str, Attention], _unet: UNet2DConditionModel, _args: Any
) -> None:
    for name, attention in attentions.items():
        if getattr(attention.processor, "session", None) is not session:
            raise OperatorError(
                f"{name} was replaced while the network shared attention; load adapters before installing"
            )


def _note_sides(
    session: SharedAttention, _unet: UNet2DConditionModel, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    sample = args[0] if args else kwargs["sample"]
    session.latent_sides = (sample.shape[2], sample.shape[3])
