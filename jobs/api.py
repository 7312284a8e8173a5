"""Python functions as small as the command line, for notebooks and other programs.

    from jobs.api import enhance, plan, run

    plan("job.yaml").estimate                     # what would run; writes nothing
    summary = run("job.yaml", overrides=["encode.crf=20"])
    restored = enhance(frames, [{"restore": {"degradation": {"kind": "denoise", "noise": 0.05}}}])

`plan` and `run` do what the commands do. `enhance` takes frames and gives frames, in this process, without
Ray, files or a cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from jobs.spec import JobSpec, load_spec, parse_spec
from jobs.yaml_source import apply_override
from pipeline.errors import SpecError

if TYPE_CHECKING:
    from pipeline.events import Event
    from pipeline.graph import RunSummary
    from pipeline.job_plan import JobPlan
    from pipeline.settings import JobSettings

__all__ = ["Frames", "Job", "enhance", "plan", "run", "spec_of"]

Frames: TypeAlias = np.ndarray[Any, Any]
#: A job file's path, its content as plain data, or a validated spec.
Job: TypeAlias = str | Path | Mapping[str, Any] | JobSpec


def spec_of(job: Job, overrides: Sequence[str] = ()) -> JobSpec:
    """The validated job; ``overrides`` are texts such as ``encode.crf=20``. Raises SpecError."""
    if isinstance(job, str | Path):
        return load_spec(job, list(overrides))
    data = dict(job.model_dump(mode="json", exclude_none=True) if isinstance(job, JobSpec) else job)
    for override in overrides:
        apply_override(data, override)
    return parse_spec(data)


def plan(job: Job, *, overrides: Sequence[str] = ()) -> JobPlan:
    """What `run` would do, as ``reelweave plan`` shows it; writes nothing. Raises SpecError, StoreError."""
    from pipeline.job_plan import plan_job

    return plan_job(spec_of(job, overrides).to_settings())


def run(
    job: Job,
    *,
    overrides: Sequence[str] = (),
    address: str | None = None,
    only_quarantined: bool = False,
    max_failures: int | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
) -> RunSummary:
    """Run or resume a job, as ``reelweave run`` does, report included; ``on_event`` is told of progress.

    Raises SpecError before anything was started, StoreError or RunError when the run had to stop; after these
    the same call resumes. Quarantined videos raise nothing: see ``quarantined`` and ``rows`` of the summary.
    """
    from jobs.run import run_spec, with_address, write_run_report

    spec = spec_of(job, overrides)
    settings = with_address(spec.to_settings(), address)
    summary = run_spec(spec, settings, on_event, only_quarantined=only_quarantined, max_failures=max_failures)
    write_run_report(settings, summary)
    return summary


def enhance(
    frames: Frames,
    enhance: Sequence[Mapping[str, Any]],
    *,
    device: str = "cpu",
    frames_per_second: float = 25.0,
    name: str = "frames",
    **job: Any,
) -> Frames:
    """Apply an ``enhance`` list to the frames of one video on this machine.

    ``frames``: RGB [n, h, w, 3], uint8 or uint16, in order. Gives [n, H, W, 3] of the same type, H and W
    larger by the scales of super-resolution. ``enhance`` and further keywords (``seed``, ``model``,
    ``precision``, ``autoencoder``, ``consistency``, ``torch_threads``) are those of a job file; scenes, knots
    and anchors are found as a job finds them, cuts with the help of ``frames_per_second``. ``device`` is a
    torch device; torch's threads and determinism are set for the whole process, as actors set them.

    ``name`` stands for the video in its noise: the same name, frames and job give the same bits. They are not
    those of a job on a file, which measures and names its videos by their bytes. Raises SpecError naming the
    field, SourceError for frames that the list does not fit, MemoryFullError.
    """
    from pipeline.enhance_fit import require_fit
    from pipeline.model_fit import largest_side, require_model_fit
    from pipeline.pictures import load_pictures

    _require_frames(frames)
    settings = _settings(enhance, job)
    pictures = load_pictures(settings)
    if pictures.clips:
        raise SpecError(
            "enhance: masks that are videos need a job; give a picture, or run a job", field="enhance"
        )
    count, height, width = frames.shape[:3]
    require_model_fit(settings)
    at_most = largest_side(settings.model) if settings.enhance else None
    require_fit(settings.enhance, width, height, pictures.mask_sizes, count, at_most)
    config = pictures.enhancer_config(settings, device)
    if config is None:
        return frames.copy()
    from pipeline.enhancer import Enhancer, within_memory

    styles: dict[int, bytes] = {}
    if pictures.styles:
        first = Enhancer(config)
        styles = {
            number: first.style(number, *style.pictures, weights=style.weights)
            for number, style in pictures.styles.items()
        }
        first.close()
    enhancer = Enhancer(config, styles)
    try:
        return within_memory(lambda: _rendered(enhancer, frames, settings, name, frames_per_second))
    finally:
        enhancer.close()


def _rendered(enhancer: Any, frames: Frames, settings: JobSettings, name: str, rate: float) -> Frames:
    """All scenes, one after another."""
    from jobs.render import render_scene
    from pipeline.enhancer_config import FrameTask
    from pipeline.plan import plan_chunks, plan_scenes
    from pipeline.sharing_policies import facts_of, needs_anchors
    from pipeline.windows import halo_of, reach

    how, halo = settings.consistency, halo_of(settings.enhance)
    done: list[Frames] = []
    for scene in plan_scenes(_seen(frames, rate), how):
        whole = (scene.first, scene.last)

        def task(
            ordinals: Sequence[int], number: int = scene.number, whole: tuple[int, int] = whole
        ) -> FrameTask:
            around = range(*reach(ordinals[0], ordinals[-1] + 1, halo, whole)) if halo else ()
            return FrameTask(
                name,
                number,
                tuple(ordinals),
                around={ordinal: frames[ordinal] for ordinal in around},
                halo=halo,
                scene_range=whole,
            )

        done += render_scene(
            enhancer,
            scene,
            plan_chunks(scene, how.knots_per_chunk, scene.last - scene.first, 0),
            task,
            lambda ordinals: frames[list(ordinals)],
            anchored=needs_anchors(how, settings.enhance),
            knotted=facts_of(how).knots,
        )
    return np.concatenate(done)


def _seen(frames: Frames, rate: float) -> Any:
    """Cuts and looks of bare frames, as indexing finds them in a file."""
    from fractions import Fraction

    from av.video.frame import VideoFrame

    from pipeline.plan import Seen
    from pipeline.video.scenes import SceneFinder

    finder = SceneFinder(Fraction(rate).limit_denominator(100_000))
    for picture in frames:
        shown = picture if picture.dtype == np.uint8 else (picture >> 8).astype(np.uint8)
        finder.feed(VideoFrame.from_ndarray(np.ascontiguousarray(shown), format="rgb24"))
    return Seen(len(frames), finder.cuts(), finder.looks())


def _require_frames(frames: Frames) -> None:
    good = isinstance(frames, np.ndarray) and frames.dtype in (np.uint8, np.uint16)
    if not good or frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
        found = (
            f"{frames.dtype} {list(frames.shape)}"
            if isinstance(frames, np.ndarray)
            else type(frames).__name__
        )
        raise SpecError(
            f"frames: expected RGB uint8 or uint16 [n, h, w, 3] with n of at least 1, found {found}",
            field="frames",
        )


def _settings(enhance: Sequence[Mapping[str, Any]], job: Mapping[str, Any]) -> JobSettings:
    allowed = ("seed", "model", "precision", "autoencoder", "consistency", "torch_threads")
    unknown = sorted(set(job) - set(allowed))
    if unknown:
        raise SpecError(f"{unknown[0]}: unknown; enhance() takes {', '.join(allowed)}", field=unknown[0])
    here = {"name": "frames", "source": "frames", "output": "frames"}
    settings = parse_spec({**here, "enhance": list(enhance), **job}, origin="enhance()").to_settings()
    for number, item in enumerate(settings.enhance):
        if item.get("restore", {}).get("degradation", {}).get("kind") == "auto":
            field = f"enhance.{number}.restore.degradation"
            raise SpecError(f"{field}: auto looks at a file; name the degradation, or run a job", field=field)
    return settings
