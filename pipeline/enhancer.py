"""The actor's inside: arrays in, arrays out. Here and in `pipeline.enhancement` pipeline meets `operators`.

A plain class: Ray receives it at the edge (`pipeline.steps.enhance`), tests construct it directly. One
Enhancer holds one model on one device for its whole life.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import gc
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors.numpy import load

from operators.adapters.control import source_control
from operators.adapters.image_prompt import load_image_prompt
from operators.adapters.loading import adapt
from operators.attention.install import session_of
from operators.attention.policies.base import SharingPolicy, Unit
from operators.attention.policies.registry import Surroundings, build_policy, copies_of, matcher
from operators.attention.policies.scene import Anchors, Independent, JointAnchors
from operators.correspondence.chunk_fields import chunk_fields
from operators.correspondence.fields import Field
from operators.correspondence.fused_prior import LatentFusion
from operators.errors import ModelError
from operators.models import BoundPrior, LatentModel
from operators.noise import frame_noise
from operators.pictures import to_pictures, to_tensor
from operators.replay import Finished, Trajectories, run_stage
from operators.style.bank import build_bank
from operators.style.methods import Styles
from operators.style.transport import latent_statistics
from operators.warped_noise import Moved, WarpedDraws, warped_frame_noise
from pipeline.batches import batches_of, knots_around
from pipeline.enhancement.device import fix_numerics
from pipeline.enhancement.kept import kept_of_source
from pipeline.enhancement.motion import clip_flows, flow_pictures, moved_cells
from pipeline.enhancement.references import (
    Arrays,
    learned_arrays,
    packed,
    shown_arrays,
    split_anchors,
    statistics_arrays,
    style_from_bytes,
    style_to_bytes,
    trajectories_of,
)
from pipeline.enhancement.sizes import StageSizes
from pipeline.enhancement.stages import StageBuilder, style_timesteps
from pipeline.enhancer_config import EnhancerConfig, FrameTask
from pipeline.errors import MemoryFullError, SourceError, SpecError
from pipeline.sharing_policies import facts_of, needs_features, needs_motion
from pipeline.windows import blur_radius, noise_correlation, uses_flow, windows_of

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
    clean latents of the sources [R, C, h, w]), for frames that are steered ``s/shown`` (uint8 [R, H, W, 3],
    what enters the stage), for operators that anchors teach ``s/learned/<asset>``, and ``pictures`` (final,
    quantised). With ``warp_noise`` or
    ``fusion`` also ``source`` (uint8 [R, h, w]), small enough to find motion in.
    """

    def __init__(self, config: EnhancerConfig, styles: Mapping[int, bytes] | None = None) -> None:
        self.config = config
        fix_numerics(config.device, config.torch_threads)
        self._resources = contextlib.ExitStack()
        try:
            self.model = LatentModel.from_pretrained(
                config.model,
                device=config.device,
                precision=config.precision,
                autoencoder=config.autoencoder,
            )
            adapt(self.model, config.adapters)
            self.image_prompt = load_image_prompt(self.model, config.adapters)
            self.control = self._resources.enter_context(source_control(self.model, config.adapters))
        except ModelError as error:
            raise SpecError(f"model: {error}", field="model") from error
        # The decoder carries appearance; reading in all layers costs half as much again.
        self.session = self._resources.enter_context(session_of(self.model.unet, decoder_only=True))
        self.adopt(styles or {})

    @property
    def sizes(self) -> StageSizes:
        """Sizes of pictures and latents along the ``enhance`` list."""
        return StageSizes(self.config.enhance, self.model.pixel_multiple, self.model.vae_factor)

    @property
    def _stages(self) -> StageBuilder:
        config = self.config
        return StageBuilder(
            config.enhance,
            self.model,
            self.session,
            self.sizes,
            config.masks,
            self.styles,
            config.seed,
            self.control,
            self.image_prompt,
        )

    def applying(self, items: Sequence[dict[str, Any]], origins: Sequence[int]) -> Enhancer:
        """The same model with another ``enhance`` list, of which item i takes style and mask of the job's
        item ``origins[i]``."""
        other = copy.copy(self)
        masks = {i: self.config.masks[at] for i, at in enumerate(origins) if at in self.config.masks}
        other.config = dataclasses.replace(self.config, enhance=tuple(items), masks=masks)
        other.styles = {i: self.styles[at] for i, at in enumerate(origins) if at in self.styles}
        return other

    def adopt(self, styles: Mapping[int, bytes]) -> None:
        """Read these style references from now on, by stage, as `style` made them."""
        self.styles = {number: style_from_bytes(blob, self.config.device) for number, blob in styles.items()}

    def close(self) -> None:
        """Give the UNet its own attention back."""
        self._resources.close()

    def style(self, number: int, *pictures: np.ndarray[Any, Any], weights: Sequence[float] = ()) -> bytes:
        """L0: the style bank of stage ``number`` from pictures uint8 [H, W, 3] and positive ``weights``, one
        each (none: all alike). Raises SpecError when the weights that describe styles, or make prompts of
        them, cannot be used."""
        item = self.config.enhance[number]["stylize"]
        styles = Styles(self.model, self.session, self.image_prompt)
        shares = weights or [1.0] * len(pictures)
        field = f"enhance.{number}.stylize.method.descriptor"
        try:
            with torch.no_grad():
                recipe = styles.recipe(item, style_timesteps(item))
                field = "adapters"
                prior, seen = BoundPrior(self.model), [self._style_picture(picture) for picture in pictures]
                return style_to_bytes(build_bank(seen, shares, recipe, prior, self.config.model))
        except ModelError as error:
            raise SpecError(f"{field}: {error}", field=field) from error

    def anchors(self, task: FrameTask, frames: np.ndarray[Any, Any]) -> bytes:
        """L1: the anchors [A, h, w, 3] of one scene, denoised jointly, and what they teach about operators.

        Where nobody reads them they do not read each other either.
        """
        how, policy = self.config.consistency, Independent()
        if facts_of(how).anchors != "none":
            policy = JointAnchors(copies_of(how.sharing))
        (blob,) = self._references(task, frames, [task.ordinals], policy, None)
        return blob

    def knots(self, task: FrameTask, frames: np.ndarray[Any, Any], anchors: bytes | None) -> dict[int, bytes]:
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
        read = scene if facts_of(self.config.consistency).anchors != "none" else None
        at_anchors = {} if read is None else split_anchors(read)
        seen = {**at_anchors, **known}
        known |= {ordinal: blob for ordinal, blob in at_anchors.items() if ordinal in grid}
        how = self.config.consistency
        done = {ordinal: blob["pictures"][0] for ordinal, blob in seen.items()}
        open_frames = [ordinal for ordinal in task.ordinals if ordinal not in done]
        batches = batches_of(how, open_frames, grid)
        offsets = {ordinal: at for at, ordinal in enumerate(task.ordinals)}
        current = [to_tensor(frames[[offsets[o] for o in batch]], self.config.device) for batch in batches]
        for number in range(len(self.config.enhance) if batches else 0):
            if number == 0 and task.halo:
                together = self._windows(task, grid)
                current = [torch.stack([together[ordinal] for ordinal in batch]) for batch in batches]
                continue
            moved = {}
            if needs_motion(how):
                moved = moved_cells(number, frames, task.ordinals, grid, seen, self.sizes)
            units = [
                self._unit(task, number, batch, y, moved) for batch, y in zip(batches, current, strict=True)
            ]
            trajectories = trajectories_of(number, read, known, self.config.device)
            fields = self._fields(number, units, grid, seen, tuple(at_anchors))
            around = Surroundings(task.ordinals[0], tuple(grid), tuple(at_anchors), fields)
            policy = build_policy(how.sharing, around, merge=how.merge)
            fusion = LatentFusion(moved, how.fusion) if how.fusion else None
            finished = self._run(task, number, units, policy, trajectories, scene, fusion=fusion)
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
                        statistics = latent_statistics(self.model.encode(self.sizes.padded(number, y)))
                    arrays |= statistics_arrays(number, statistics)
            if "stylize" in item and self.control:
                for arrays, y in zip(left, current, strict=True):
                    arrays |= shown_arrays(number, self.sizes.padded(number, y))
            units = [self._unit(task, number, batch, y) for batch, y in zip(batches, current, strict=True)]
            if needs_features(self.config.consistency):
                for arrays, y in zip(left, current, strict=True):
                    arrays[f"{number}/source"] = self._sources(number, y).cpu().numpy()
            trajectories = trajectories_of(number, scene, {}, self.config.device)
            if scene is None and self._stages.learns(number):
                (first,) = self._run(task, number, units, policy, trajectories, left[0], learn=True)
                left[0] |= learned_arrays(number, first.learned)
            known = left[0] if scene is None else scene
            finished = self._run(task, number, units, policy, trajectories, known, trace=True)
            for arrays, done in zip(left, finished, strict=True):
                arrays[f"{number}/z"] = done.trajectory.cpu().numpy()
            current = [done.pictures.clamp(-1, 1) for done in finished]
        for arrays, batch, y in zip(left, batches, current, strict=True):
            arrays["pictures"] = to_pictures(y, frames.dtype)
            if needs_motion(self.config.consistency):
                arrays["source"] = flow_pictures(frames[[offsets[o] for o in batch]], self.sizes)
        return [packed(arrays) for arrays in left]

    def _sources(self, number: int, y: torch.Tensor) -> torch.Tensor:
        """Clean latents [B, C, h, w] of what enters a stage, enlarged to what leaves it; one by one, so that
        the batch does not show."""
        enlarged = [
            torch.nn.functional.interpolate(row[None], scale_factor=self.sizes.scale(number), mode="bicubic")
            for row in self.sizes.padded(number, y)
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
        draws = WarpedDraws(
            seed=self.config.seed,
            source_digest=task.source_digest,
            scene=task.scene,
            frames=tuple(ordinals),
            rho=noise_correlation(self.config.enhance[number], self.config.consistency.rho),
            prefix=f"stage {number}",
            moved=moved if self.config.consistency.warp_noise else {},
        )
        return Unit(y, self._noise(task, number, ordinals, y, moved), tuple(ordinals), draws)

    def _run(
        self,
        task: FrameTask,
        number: int,
        units: Sequence[Unit],
        policy: SharingPolicy,
        trajectories: Trajectories,
        scene: Arrays | None,
        *,
        fusion: LatentFusion | None = None,
        trace: bool = False,
        learn: bool = False,
    ) -> list[Finished]:
        """Pad, run one stage, crop. ``scene`` is what the scene's anchors left."""
        height, width = units[0].y.shape[2:]
        scale = self.sizes.scale(number)
        padded = [dataclasses.replace(unit, y=self.sizes.padded(number, unit.y)) for unit in units]
        stages = [
            self._stages.stage(number, (height, width), scene, learn=learn, controlled=trace, own=assets)
            for assets in self._own_assets(task, number, units)
        ]
        solvers = [stage.solver for stage in stages] if len(stages) > 1 else ()
        with torch.no_grad():
            finished = run_stage(
                stages[0], padded, policy, trajectories, fusion=fusion, trace=trace, solvers=solvers
            )
        made = []
        for unit, done in zip(units, finished, strict=True):
            _require_finite(unit.ordinals, done.pictures)
            cropped = done.pictures[:, :, : height * scale, : width * scale]
            mask = self._mask(task, number, unit)
            pictures = kept_of_source(number, self.config.enhance[number], cropped, unit.y, mask)
            made.append(dataclasses.replace(done, pictures=pictures))
        return made

    def _windows(self, task: FrameTask, grid: Sequence[int]) -> dict[int, torch.Tensor]:
        """The first stage's pictures [3, h, w] by ordinal, where frames are restored together."""
        windows = windows_of(task.ordinals, grid, task.halo, task.scene_range)
        item, sizes = self.config.enhance[0], self.sizes
        restored: dict[int, torch.Tensor] = {}
        for window in windows:
            frames = np.stack([task.around[ordinal] for ordinal in window.ordinals])
            measured = np.stack([task.around[ordinal] for ordinal in window.measured(blur_radius(item))])
            sides = frames.shape[1:3]
            flows = clip_flows(0, frames, sides, sizes, self.config.device) if uses_flow(item) else None
            unit = self._unit(task, 0, window.ordinals, to_tensor(measured, self.config.device))
            (assets,) = self._own_assets(task, 0, [unit])
            assets["open_ends"] = np.array([window.open_left, window.open_right])
            stage = self._stages.stage(0, sides, None, own=assets, flows=flows)
            whole = dataclasses.replace(unit, y=sizes.padded(0, unit.y))
            with torch.no_grad():
                (done,) = run_stage(stage, [whole], Independent())
            height, width = (side * sizes.scale(0) for side in sides)
            kept = done.pictures[window.first - window.begin : window.last - window.begin, :, :height, :width]
            restored |= dict(zip(range(window.first, window.last), kept.clamp(-1, 1), strict=True))
        return restored

    def _own_assets(self, task: FrameTask, number: int, units: Sequence[Unit]) -> list[Arrays]:
        """What the operator of stage ``number`` needs to know of the frames of each unit; once for all where
        it treats frames alike."""
        if number in task.masks and "restore" in self.config.enhance[number]:
            masks = [self._mask(task, number, unit) for unit in units]
            return [{"mask": mask} for mask in masks if mask is not None]
        if self._stages.knows_time(number):
            return [
                {"ordinals": np.array(unit.ordinals), "rows": np.array(unit.y.shape[2])} for unit in units
            ]
        return [{}]

    def _mask(self, task: FrameTask, number: int, unit: Unit) -> np.ndarray[Any, Any] | None:
        """Masks uint8 [B, h, w] of the frames of a unit, or [1, h, w] that all share; None without one."""
        if number in task.masks:
            return np.stack([task.masks[number][ordinal] for ordinal in unit.ordinals])
        shared = self.config.masks.get(number)
        return None if shared is None else shared[None]

    def _noise(
        self,
        task: FrameTask,
        number: int,
        ordinals: Sequence[int],
        y: torch.Tensor,
        moved: Mapping[int, Moved],
    ) -> torch.Tensor:
        """Initial noise [B, C, h, w] of ``ordinals``; those in ``moved`` carry the noise of their knots."""
        shape = (self.model.latent_channels, *self.sizes.cells(number, y.shape[2:]))
        rows = []
        for ordinal in ordinals:
            key: dict[str, Any] = {
                "seed": self.config.seed,
                "source_digest": task.source_digest,
                "scene": task.scene,
                "frame": ordinal,
                "purpose": f"stage {number} start",
                "rho": noise_correlation(self.config.enhance[number], self.config.consistency.rho),
            }
            if self.config.consistency.warp_noise and ordinal in moved:
                rows.append(warped_frame_noise(shape, moved=moved[ordinal], **key))
            else:
                rows.append(frame_noise(shape, **key))
        return torch.stack(rows).to(self.config.device)

    def _style_picture(self, picture: np.ndarray[Any, Any]) -> torch.Tensor:
        x = to_tensor(picture[None], self.config.device)
        multiple = self.model.pixel_multiple
        side = STYLE_CELLS * self.model.vae_factor
        shrink = side / max(x.shape[2:])
        size = [max(multiple, round(length * shrink / multiple) * multiple) for length in x.shape[2:]]
        return torch.nn.functional.interpolate(x, size, mode="bicubic", antialias=True).clamp(-1, 1)

    def _tensor(self, array: np.ndarray[Any, Any]) -> torch.Tensor:
        return torch.from_numpy(array).to(self.config.device)


def _require_finite(ordinals: Sequence[int], pictures: torch.Tensor) -> None:
    """Cast to integers, pictures [B, 3, h, w] that are not numbers would be published as black ones."""
    for ordinal, picture in zip(ordinals, pictures, strict=True):
        if not torch.isfinite(picture).all():
            raise SourceError(
                f"frame {ordinal}: the model gave values that are no finite numbers; with half precision try "
                "precision: bf16 or fp32, else check the model's weights",
                code="not_finite",
                frame=ordinal,
            )
