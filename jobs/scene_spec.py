"""Overrides of single scenes: other settings of ``enhance`` for some scenes of some videos."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator

from jobs.spec_base import Section, problem

#: What all scenes of a job have in common, by path below an item: files that are read, and made into
#: references, once per job; what decides the size of pictures; and which videos are looked at beforehand.
FIXED = (
    "restore.degradation.mask",
    "restore.degradation.scale",
    "restore.solver.checkpoint",
    "stylize.reference",
    "stylize.method.name",
    "stylize.method.steps",
    "stylize.method.descriptor",
    "stylize.keep.mask",
)


class SceneSpec(Section):
    """``video`` is a pattern for the end of a source's path (``film.mp4``, ``1921/*.mp4``, ``*``), ``scenes``
    their numbers, from 0, as the plan counts them; all when not given. ``set`` holds values by their path in
    the job file, all below ``enhance``. Where two entries name a scene, the later one counts alone."""

    video: Annotated[str, Field(min_length=1)]
    scenes: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1, strict=False)] | None = (
        None
    )
    set: Annotated[dict[str, Any], Field(min_length=1)]

    @field_validator("set")
    @classmethod
    def _changes_what_is_done_to_frames(cls, changes: dict[str, Any]) -> dict[str, Any]:
        for path in changes:
            if not path.startswith("enhance."):
                raise problem(
                    f"{path!r} is the same for all scenes; set paths such as enhance.0.stylize.strength"
                )
        return changes


def require_common(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> None:
    """Raises a validation problem where two ``enhance`` lists differ in what scenes have in common."""
    for number, (item, other) in enumerate(zip(before, after, strict=True)):
        if item.keys() != other.keys():
            raise problem(f"enhance.{number} is a {'/'.join(item)} in all scenes; change its settings only")
        if _auto(item) != _auto(other):
            raise problem(f"enhance.{number}.restore.degradation is estimated for whole videos or for none")
        for path in FIXED:
            if _at(item, path) != _at(other, path):
                raise problem(
                    f"enhance.{number}.{path} is the same for all scenes; make another job for these videos"
                )


def _auto(item: dict[str, Any]) -> bool:
    return bool(_at(item, "restore.degradation.kind") == "auto")


def _at(item: dict[str, Any], path: str) -> Any:
    here: Any = item
    for part in path.split("."):
        here = here.get(part) if isinstance(here, dict) else None
    return here
