"""The actor's inside: arrays in, arrays out. The one file where the pipeline meets `operators`.

A plain class: Ray receives it at the edge (`pipeline.tasks`), tests construct it directly. One Enhancer holds
one model on one device for its whole life.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import itertools
import math
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors.numpy import load, save

from operators.attention.install import install
from operators.attention.policies.base import SharingPolicy, Unit
from operators.attention.policies.registry import Surroundings, build_policy, copies_of, matcher
from operators.attention.policies.scene import Anchors, JointAnchors
from operators.correspondence.chunk_fields import chunk_fields
from operators.correspondence.fields import Field
from operators.correspondence.fused_prior import LatentFusion
from operators.degradations.registry import build_operator, measurement_sigma
from operators.errors import ModelError, OperatorError
from operators.flow.interval import motions_to_ends, small_grey
from operators.models import BoundPrior, LatentModel
from operators.noise import FrameDraws, frame_noise
from operators.pictures import pad_edges, padded_side, to_pictures, to_tensor
from operators.replay import Finished, Stage, StyleReading, Trajectories, run_stage
from operators.solvers.base import LatentPrior
from operators.solvers.ddim import leading_timesteps
from operators.solvers.guidance import Guided
from operators.solvers.registry import build_solver
from operators.style.style_aligned import StyleAligned, StyleReference, style_reference
from operators.style.transport import LatentStatistics, latent_statistics
from operators.warped_noise import FLOW_PIXELS_PER_CELL, Moved, warped_frame_noise
from pipeline.batches import batches_of, knots_around
from pipeline.enhancer_config import EnhancerConfig, FrameTask
from pipeline.errors import MemoryFullError, SourceError, SpecError
from pipeline.sharing_policies import facts_of, needs_features, needs_motion

Arrays = dict[str, np.ndarray[Any, Any]]
Made = TypeVar("Made")

#: Latent cells along the longer side of a style reference: 512 px for 8x autoencoders, 256 px for 4x.
STYLE_CELLS = 64


def within_memory(work: Callable[[], Made]) -> Made:
    """What ``work`` makes. Raises MemoryFullError where torch or numpy say that memory is full, after giving
    back what torch keeps for later, so that a smaller piece may fit."""
    try:
        return work()
    except (torch.OutOfMemoryError, MemoryError) as error:
        full = " ".join([type(error).__name__, *str(error).splitlines()[:1]])
    except RuntimeError as error:
        # The CPU's allocator has no class of its own.
        if "DefaultCPUAllocator" not in str(error):
            raise
        full = str(error).splitlines()[0]
    # Not inside a handler: until it ends, the traceback holds the very tensors that filled memory.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    raise MemoryFullError(
        f"frames do not fit into memory ({full}); use a larger device, fewer actors per GPU, smaller "
        "consistency.knot_every or consistency.anchors, or a smaller picture"
    )


class Enhancer:
    """Runs the ``enhance`` list on style pictures, anchors, knots and chunks.

    References travel as safetensors bytes: per stage s ``s/z`` (float32 trajectories [R, S, C, h, w]), for
    stylization of anchors ``s/mean`` and ``s/covariance``, where tokens are matched ``s/source`` (float32
    clean latents of the sources [R, C, h, w]), and ``pictures`` (final, quantised). With ``warp_noise`` or
    ``fusion`` also ``source`` (uint8 [R, h, w]), small enough to find motion in.
    """

    def __init__(self, config: EnhancerConfig, styles: Mapping[int, bytes] | None = None) -> None:
        self.config = config
        _fix_numerics(config)
        try:
            self.model = LatentModel.from_pretrained(
                config.model,
                device=config.device,
                precision=config.precision,
                autoencoder=config.autoencoder,
            )
        except ModelError as error:
            raise SpecError(f"model: {error}", field="model") from error
        self._resources = contextlib.ExitStack()
        # The decoder carries appearance; reading in all layers costs half as much again.
        self.session = self._resources.enter_context(install(self.model.unet, decoder_only=True))
        self.styles = {
            number: _style_from_bytes(blob, config.device) for number, blob in (styles or {}).items()
        }

    def close(self) -> None:
        """Give the UNet its own attention back."""
        self._resources.close()

    def style(self, number: int, picture: np.ndarray[Any, Any]) -> bytes:
        """L0: the style reference of stage ``number`` from a picture uint8 [H, W, 3]."""
        item = self.config.enhance[number]["stylize"]
        x = self._style_picture(picture)
        with torch.no_grad():
            reference = style_reference(x, _timesteps(item), BoundPrior(self.model))
        statistics = reference.statistics
        return save(
            {
                "trajectory": reference.trajectory.cpu().numpy(),
                "mean": statistics.mean.numpy(),
                "covariance": statistics.covariance.numpy(),
            }
        )

    def anchors(self, task: FrameTask, frames: np.ndarray[Any, Any]) -> bytes:
        """L1: the anchors [A, h, w, 3] of one scene, denoised jointly."""
        copies = copies_of(self.config.consistency.sharing)
        (blob,) = self._references(task, frames, [task.ordinals], JointAnchors(copies), None)
        return blob

    def knots(
        self, task: FrameTask, frames: np.ndarray[Any, Any], anchors: bytes | None
    ) -> dict[int, bytes]:
        """L2: knots [n, h, w, 3] of one scene, each reading style and anchors, by their ordinals.

        Together they share the replays of what they read; what a knot becomes does not depend on the others.
        """
        alone = [(ordinal,) for ordinal in task.ordinals]
        policy = Anchors(copies_of(self.config.consistency.sharing))
        blobs = self._references(task, frames, alone, policy, load(anchors or b""))
        return dict(zip(task.ordinals, blobs, strict=True))

    def chunk(
        self,
        task: FrameTask,
        frames: np.ndarray[Any, Any],
        grid: Sequence[int],
        anchors: bytes | None,
        knots: Mapping[int, bytes],
    ) -> np.ndarray[Any, Any]:
        """L3: frames [n, h, w, 3] to pictures [n, H, W, 3] of the same dtype.

        ``grid`` are the knot ordinals around the frames (absolute); ``knots`` maps those that are known to
        their references. Frames that are knots or anchors are taken from their references.
        """
        scene = load(anchors) if anchors is not None else None
        known = {ordinal: load(blob) for ordinal, blob in knots.items()}
        at_anchors = {} if scene is None else _split_anchors(scene)
        seen = {**at_anchors, **known}
        known |= {ordinal: blob for ordinal, blob in at_anchors.items() if ordinal in grid}
        how = self.config.consistency
        done = {ordinal: blob["pictures"][0] for ordinal, blob in seen.items()}
        open_frames = [ordinal for ordinal in task.ordinals if ordinal not in done]
        batches = batches_of(how, open_frames, grid)
        offsets = {ordinal: at for at, ordinal in enumerate(task.ordinals)}
        current = [to_tensor(frames[[offsets[o] for o in batch]], self.config.device) for batch in batches]
        for number in range(len(self.config.enhance) if batches else 0):
            moved = self._moved(number, task, frames, grid, seen)
            units = [
                self._unit(task, number, batch, y, moved)
                for batch, y in zip(batches, current, strict=True)
            ]
            trajectories = self._trajectories(number, scene, known)
            fields = self._fields(number, units, grid, seen, tuple(at_anchors))
            around = Surroundings(task.ordinals[0], tuple(grid), tuple(at_anchors), fields)
            policy = build_policy(how.sharing, around, merge=how.merge)
            fusion = LatentFusion(moved, how.fusion) if how.fusion else None
            content = _statistics_of(scene, number)
            finished = self._run(number, units, policy, trajectories, content, fusion=fusion)
            current = [unit.pictures.clamp(-1, 1) for unit in finished]
        for batch, pictures in zip(batches, current, strict=True):
            done |= dict(zip(batch, to_pictures(pictures, frames.dtype), strict=True))
        return np.stack([done[ordinal] for ordinal in task.ordinals])

    def _references(
        self,
        task: FrameTask,
        frames: np.ndarray[Any, Any],
        batches: Sequence[tuple[int, ...]],
        policy: SharingPolicy,
        scene: Arrays | None,
    ) -> list[bytes]:
        """One reference blob per batch of ordinals. Without ``scene`` they are the scene's anchors, and
        leave its statistics."""
        offsets = {ordinal: at for at, ordinal in enumerate(task.ordinals)}
        current = [to_tensor(frames[[offsets[o] for o in batch]], self.config.device) for batch in batches]
        left: list[Arrays] = [{"ordinals": np.array(batch, dtype=np.int64)} for batch in batches]
        for number, item in enumerate(self.config.enhance):
            if "stylize" in item and scene is None:
                for arrays, y in zip(left, current, strict=True):
                    with torch.no_grad():
                        statistics = latent_statistics(self.model.encode(self._padded(number, y)))
                    arrays |= _statistics_arrays(number, statistics)
            units = [
                self._unit(task, number, batch, y) for batch, y in zip(batches, current, strict=True)
            ]
            if needs_features(self.config.consistency):
                for arrays, y in zip(left, current, strict=True):
                    arrays[f"{number}/source"] = self._sources(number, y).cpu().numpy()
            trajectories = self._trajectories(number, scene, {})
            content = _statistics_of(left[0] if scene is None else scene, number)
            finished = self._run(number, units, policy, trajectories, content, trace=True)
            for arrays, done in zip(left, finished, strict=True):
                arrays[f"{number}/z"] = done.trajectory.cpu().numpy()
            current = [done.pictures.clamp(-1, 1) for done in finished]
        for arrays, batch, y in zip(left, batches, current, strict=True):
            arrays["pictures"] = to_pictures(y, frames.dtype)
            if needs_motion(self.config.consistency):
                arrays["source"] = self._flow_pictures(frames[[offsets[o] for o in batch]])
        return [
            save({name: np.ascontiguousarray(array) for name, array in arrays.items()}) for arrays in left
        ]

    def _sources(self, number: int, y: torch.Tensor) -> torch.Tensor:
        """Clean latents [B, C, h, w] of what enters a stage, enlarged to what leaves it; one by one, so that
        the batch does not show."""
        enlarged = [
            torch.nn.functional.interpolate(row[None], scale_factor=self._scale(number), mode="bicubic")
            for row in self._padded(number, y)
        ]
        with torch.no_grad():
            return torch.cat([self.model.encode(row.clamp(-1, 1)) for row in enlarged])

    def _fields(
        self,
        number: int,
        units: Sequence[Unit],
        grid: Sequence[int],
        known: Mapping[int, Arrays],
        anchors: Sequence[int],
    ) -> dict[tuple[int, int], Field]:
        """Matches of the frames of ``units`` in their knots and, where those are matched too, in anchors."""
        how = self.config.consistency
        if not needs_features(how):
            return {}
        frames = {
            ordinal: z0[None]
            for unit in units
            for ordinal, z0 in zip(unit.ordinals, self._sources(number, unit.y), strict=True)
        }
        references = {ordinal: self._tensor(blob[f"{number}/source"]) for ordinal, blob in known.items()}
        everybodys = set(anchors) if facts_of(how).anchors_matched else set()
        wanted = {frame: sorted(knots_around(frame, grid) | everybodys) for frame in frames}
        pairs = [(frame, reference) for frame, those in wanted.items() for reference in those]
        prior = BoundPrior(self.model, listener=self.session)
        return chunk_fields(frames, references, pairs, self.session, prior, matcher(how.sharing))

    def _unit(
        self,
        task: FrameTask,
        number: int,
        ordinals: Sequence[int],
        y: torch.Tensor,
        moved: Mapping[int, Moved] = types.MappingProxyType({}),
    ) -> Unit:
        draws = FrameDraws(
            seed=self.config.seed,
            source_digest=task.source_digest,
            scene=task.scene,
            frames=tuple(ordinals),
            rho=self.config.consistency.rho,
            prefix=f"stage {number}",
        )
        return Unit(y, self._noise(task, number, ordinals, y, moved), tuple(ordinals), draws)

    def _trajectories(
        self, number: int, scene: Arrays | None, knots: Mapping[int, Arrays]
    ) -> Trajectories:
        return Trajectories(
            None if scene is None else self._tensor(scene[f"{number}/z"]),
            {ordinal: self._tensor(blob[f"{number}/z"][0]) for ordinal, blob in knots.items()},
        )

    def _run(
        self,
        number: int,
        units: Sequence[Unit],
        policy: SharingPolicy,
        trajectories: Trajectories,
        content: LatentStatistics | None,
        *,
        fusion: LatentFusion | None = None,
        trace: bool = False,
    ) -> list[Finished]:
        """Pad, run one stage, crop. ``content`` are the statistics of the scene's anchors."""
        height, width = units[0].y.shape[2:]
        self._check_mask(number, height, width)
        scale = self._scale(number)
        padded = [dataclasses.replace(unit, y=self._padded(number, unit.y)) for unit in units]
        stage = self._stage(number, padded[0].y.shape[2:], content)
        with torch.no_grad():
            finished = run_stage(stage, padded, policy, trajectories, fusion=fusion, trace=trace)
        return [
            Finished(done.pictures[:, :, : height * scale, : width * scale], done.trajectory)
            for done in finished
        ]

    def _stage(
        self, number: int, measured: Sequence[int], content: LatentStatistics | None
    ) -> Stage:
        item = self.config.enhance[number]
        if "restore" in item:
            spec, prior = item["restore"], self._prior(item["restore"])
            sides = [side * self._scale(number) for side in measured]
            try:
                operator = build_operator(spec["degradation"], *sides, self._assets(number, measured))
                sigma = measurement_sigma(spec["degradation"])
                solver = build_solver(spec["solver"], operator, sigma, prior)
            except OperatorError as error:
                raise SourceError(
                    f"enhance.{number}.restore does not fit pictures of {measured[1]}x{measured[0]}: {error}",
                    code="enhance_refused",
                ) from error
            return Stage(solver, prior, self.session, key=self._key)
        spec = item["stylize"]
        method, style = spec["method"], self.styles[number]
        inversion = BoundPrior(self.model, listener=self.session)
        solver = StyleAligned(_timesteps(spec), inversion, style, content, method["statistics"])
        reading = StyleReading(style, method["shift"], method["adain"], method["norms"])
        return Stage(solver, self._prior(spec), self.session, reading, key=self._key)

    @property
    def _key(self) -> tuple[int, str]:
        return self.config.seed, "references"

    def _prior(self, spec: Mapping[str, Any]) -> LatentPrior:
        prompt, weight = spec.get("prompt", ""), spec.get("guidance", 1.0)
        if spec.get("rule") == "cfgpp":
            return Guided(BoundPrior(self.model, prompt, 1.0, self.session), weight, "cfgpp")
        return BoundPrior(self.model, prompt, weight, self.session)

    def _scale(self, number: int) -> int:
        restore = self.config.enhance[number].get("restore")
        return int(restore["degradation"].get("scale", 1)) if restore else 1

    def _padded(self, number: int, y: torch.Tensor) -> torch.Tensor:
        scale, multiple = self._scale(number), self.model.pixel_multiple
        return pad_edges(
            y, padded_side(y.shape[2], scale, multiple), padded_side(y.shape[3], scale, multiple)
        )

    def _check_mask(self, number: int, height: int, width: int) -> None:
        mask = self.config.masks.get(number)
        if mask is not None and mask.shape != (height, width):
            raise SourceError(
                f"enhance.{number}.restore.degradation.mask has {mask.shape[1]}x{mask.shape[0]} pixels, the "
                f"frames have {width}x{height}; give a mask of the frames' size",
                code="mask_size",
            )

    def _assets(self, number: int, measured: Sequence[int]) -> Arrays:
        if number not in self.config.masks:
            return {}
        mask = self.config.masks[number]
        # Padding is measured: it repeats the edge and is no hole.
        edges = ((0, measured[0] - mask.shape[0]), (0, measured[1] - mask.shape[1]))
        return {"mask": np.pad(mask, edges, constant_values=255)}

    def _noise(
        self,
        task: FrameTask,
        number: int,
        ordinals: Sequence[int],
        y: torch.Tensor,
        moved: Mapping[int, Moved],
    ) -> torch.Tensor:
        """Initial noise [B, C, h, w] of ``ordinals``; those in ``moved`` carry the noise of their knots."""
        shape = (self.model.latent_channels, *self._cells(number, y.shape[2:])[1])
        rows = []
        for ordinal in ordinals:
            key: dict[str, Any] = {
                "seed": self.config.seed,
                "source_digest": task.source_digest,
                "scene": task.scene,
                "frame": ordinal,
                "purpose": f"stage {number} start",
                "rho": self.config.consistency.rho,
            }
            if self.config.consistency.warp_noise and ordinal in moved:
                rows.append(warped_frame_noise(shape, moved=moved[ordinal], **key))
            else:
                rows.append(frame_noise(shape, **key))
        return torch.stack(rows).to(self.config.device)

    def _cells(self, number: int, sides: Sequence[int]) -> tuple[list[int], list[int]]:
        """Padded sides of stage ``number``'s input of ``sides`` pixels, and the sides of its latent."""
        scale = self._scale(number)
        padded = [padded_side(side, scale, self.model.pixel_multiple) for side in sides]
        return padded, [side * scale // self.model.vae_factor for side in padded]

    def _flow_pictures(self, frames: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """What motion is measured on: uint8 [B, h, w], a few pixels per latent cell of the first stage."""
        shrink = min(1.0, FLOW_PIXELS_PER_CELL * self._scale(0) / self.model.vae_factor)
        return np.stack([small_grey(frame, shrink) for frame in frames])

    def _moved(
        self,
        number: int,
        task: FrameTask,
        frames: np.ndarray[Any, Any],
        grid: Sequence[int],
        known: Mapping[int, Arrays],
    ) -> dict[int, Moved]:
        """Where the cells of stage ``number`` come from, for the frames between knots.

        The pictures of both knots come with their references: the right one may lie in the next chunk."""
        if not needs_motion(self.config.consistency):
            return {}
        grown = math.prod(self._scale(before) for before in range(number))
        sides = [side * grown for side in frames.shape[1:3]]
        padded, cells = self._cells(number, sides)
        found: dict[int, Moved] = {}
        for knots in itertools.pairwise(grid):
            at = [i for i, ordinal in enumerate(task.ordinals) if knots[0] < ordinal < knots[1]]
            if not at:
                continue
            first, last = (known[knot]["source"][0] for knot in knots)
            pictures = [first, *self._flow_pictures(frames[at]), last]
            for i, ends_of in zip(at, motions_to_ends(pictures), strict=True):
                covered = [
                    round(pixels * whole / own)
                    for pixels, whole, own in zip(pictures[0].shape, padded, sides, strict=True)
                ]
                found[task.ordinals[i]] = Moved(knots, ends_of.at_cells(*cells, (covered[0], covered[1])))
        return found

    def _style_picture(self, picture: np.ndarray[Any, Any]) -> torch.Tensor:
        x = to_tensor(picture[None], self.config.device)
        multiple = self.model.pixel_multiple
        side = STYLE_CELLS * self.model.vae_factor
        shrink = side / max(x.shape[2:])
        size = [max(multiple, round(length * shrink / multiple) * multiple) for length in x.shape[2:]]
        return torch.nn.functional.interpolate(x, size, mode="bicubic", antialias=True).clamp(-1, 1)

    def _tensor(self, array: np.ndarray[Any, Any]) -> torch.Tensor:
        return torch.from_numpy(array).to(self.config.device)


def _timesteps(item: Mapping[str, Any]) -> tuple[int, ...]:
    return leading_timesteps(item["method"]["steps"], strength=item["strength"])


def _split_anchors(scene: Arrays) -> dict[int, Arrays]:
    """Each anchor as a reference of its own, as knots are stored."""
    per_anchor = [
        name for name in scene if name in ("pictures", "source") or name.endswith(("/z", "/source"))
    ]
    return {
        int(ordinal): {name: scene[name][at : at + 1] for name in per_anchor}
        for at, ordinal in enumerate(scene["ordinals"])
    }


def _statistics_arrays(number: int, statistics: LatentStatistics) -> Arrays:
    return {
        f"{number}/mean": statistics.mean.numpy(),
        f"{number}/covariance": statistics.covariance.numpy(),
    }


def _statistics_of(scene: Arrays | None, number: int) -> LatentStatistics | None:
    if scene is None or f"{number}/mean" not in scene:
        return None
    return LatentStatistics(
        torch.from_numpy(scene[f"{number}/mean"]), torch.from_numpy(scene[f"{number}/covariance"])
    )


def _style_from_bytes(blob: bytes, device: str) -> StyleReference:
    arrays = load(blob)
    return StyleReference(
        torch.from_numpy(arrays["trajectory"]).to(device),
        LatentStatistics(torch.from_numpy(arrays["mean"]), torch.from_numpy(arrays["covariance"])),
    )


def _fix_numerics(config: EnhancerConfig) -> None:
    """Same bits on every actor: fixed threads, deterministic kernels, no autotuning, no TF32."""
    torch.set_num_threads(config.torch_threads)
    torch.use_deterministic_algorithms(True, warn_only=config.device.startswith("cuda"))
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False

