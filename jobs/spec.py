"""The job file: frozen models that refuse what cannot be done, naming the field and the fix."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from jobs.adapter_spec import Adapter
from jobs.consistency_spec import ConsistencySpec
from jobs.encode_spec import ALPHA_CODECS, EncodeSpec
from jobs.enhance_spec import Enhancement
from jobs.places import Place, absolute, refuse_credentials, refuse_userinfo
from jobs.provenance_spec import ProvenanceSpec
from jobs.scene_spec import SceneSpec, require_common
from jobs.spec_base import Section, problem
from jobs.spec_problems import spec_error
from jobs.video_spec import VideoSpec
from jobs.yaml_source import apply_override, dump_yaml, parse_yaml, set_value
from pipeline.auto_degradation import AUTO
from pipeline.errors import SpecError
from pipeline.settings import (
    Autoencoder,
    ClusterSettings,
    ConsistencySettings,
    EncodeSettings,
    JobSettings,
    Limits,
    Precision,
    SceneOverride,
    StorageSettings,
)
from pipeline.windows import couples_frames


class StorageSpec(Section):
    """fsspec options; every key besides ``endpoint_url`` is handed to the file system as it is."""

    model_config = ConfigDict(extra="allow")
    open_ended: ClassVar[bool] = True

    endpoint_url: str | None = None

    @field_validator("endpoint_url")
    @classmethod
    def _is_http(cls, url: str | None) -> str | None:
        if url is not None:
            try:
                parts = urlsplit(url)
                _ = parts.port
            except ValueError:
                raise problem(f"expected a URL such as http://localhost:9000, found {url!r}") from None
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise problem(f"expected a URL such as http://localhost:9000, found {url!r}")
            refuse_userinfo(url)
        return url

    @model_validator(mode="after")
    def _no_credentials(self) -> Self:
        refuse_credentials(self.model_extra or {}, "")
        return self


class ClusterSpec(Section):
    """Where the job runs; nothing here changes a result."""

    gpus_per_actor: Annotated[float, Field(ge=0.0, le=16.0)] = ClusterSettings.gpus_per_actor
    actors: Annotated[
        tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]], Field(strict=False)
    ] = ClusterSettings.actors
    address: Annotated[str, Field(min_length=1)] = ClusterSettings.address
    max_attempts: Annotated[int, Field(ge=1, le=100)] = ClusterSettings.max_attempts
    drain_seconds: Annotated[float, Field(ge=0.0, le=3600.0)] = ClusterSettings.drain_seconds

    @field_validator("actors")
    @classmethod
    def _in_order(cls, actors: tuple[int, int]) -> tuple[int, int]:
        if actors[0] > actors[1]:
            raise problem(f"expected [least, most], found [{actors[0]}, {actors[1]}]; swap them")
        return actors


class LimitsSpec(Section):
    """Sources beyond these are refused from their header, before decoding."""

    max_pixels: Annotated[int, Field(ge=1)] = Limits.max_pixels
    max_frames: Annotated[int, Field(ge=1)] = Limits.max_frames
    max_seconds: Annotated[float, Field(gt=0.0)] = Limits.max_seconds
    max_streams: Annotated[int, Field(ge=1)] = Limits.max_streams


Places = Annotated[tuple[Place, ...], Field(min_length=1, strict=False)]


class JobSpec(Section):
    """One job file, complete and consistent; local paths are absolute."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    source: Places
    output: Place
    storage: StorageSpec = StorageSpec()
    model: Annotated[str, Field(min_length=1)] = JobSettings.model
    precision: Precision = JobSettings.precision
    autoencoder: Autoencoder = JobSettings.autoencoder
    adapters: Annotated[tuple[Adapter, ...], Field(max_length=16, strict=False)] = ()
    enhance: Annotated[tuple[Enhancement, ...], Field(strict=False)] = ()
    consistency: ConsistencySpec = ConsistencySpec()
    encode: EncodeSpec = EncodeSpec()
    video: VideoSpec = VideoSpec()
    provenance: ProvenanceSpec = ProvenanceSpec()
    cluster: ClusterSpec = ClusterSpec()
    limits: LimitsSpec = LimitsSpec()
    torch_threads: Annotated[int, Field(ge=1, le=256)] = JobSettings.torch_threads
    scenes: Annotated[tuple[SceneSpec, ...], Field(strict=False)] = ()

    @field_validator("source", mode="before", json_schema_input_type=str | Places)
    @classmethod
    def _one_or_many(cls, source: Any) -> Any:
        return (source,) if isinstance(source, str) else source

    @field_validator("output")
    @classmethod
    def _output_is_a_place(cls, output: str) -> str:
        if any(mark in output for mark in "*?["):
            raise problem(f"expected one folder, found the pattern {output!r}; remove the wildcard")
        return output

    @field_validator("model")
    @classmethod
    def _local_models_are_places(cls, model: str) -> str:
        if model == "embedded":
            return model
        return absolute(model) if model.startswith(("/", "./", "../", "~")) or os.path.isdir(model) else model

    @model_validator(mode="after")
    def _a_copy_is_not_enhanced(self) -> Self:
        if self.encode.codec == "copy" and self.enhance:
            raise problem(
                "encode.codec copy publishes the sources' own bytes, so nothing can be enhanced; "
                "set enhance: [] or choose another codec",
                "enhance",
            )
        return self

    @model_validator(mode="after")
    def _prompts_have_a_reader(self) -> Self:
        for position, item in enumerate(self.enhance):
            if self.model == "embedded" and item.stylize is not None and item.stylize.prompt:
                raise problem(
                    "the embedded model reads no text; leave the prompt empty or choose another model",
                    f"enhance.{position}.stylize.prompt",
                )
        return self

    @model_validator(mode="after")
    def _frames_restored_together_come_first(self) -> Self:
        for position, item in enumerate(self.enhance):
            if not couples_frames(item.to_dict()):
                continue
            where = f"enhance.{position}.restore"
            if position:
                raise problem("it restores frames together, and can only come first; put it first", where)
            if self.consistency.sharing != "none":
                raise problem(
                    f"enhance.0 restores frames together, and sharing {self.consistency.sharing} wants them "
                    "one by one; set sharing: none",
                    "consistency.sharing",
                )
            if item.restore is not None and item.restore.degradation.kind == AUTO:
                raise problem(
                    "frames are restored together only where the degradation is known; name it, or take "
                    "another solver",
                    where,
                )
        return self

    @model_validator(mode="after")
    def _a_copy_is_not_treated(self) -> Self:
        if self.encode.codec != "copy":
            return self
        for name in ("timestamps", "size_change", "interlaced", "rotation", "hdr"):
            value = getattr(self.video, name)
            if value in ("rebuild", "scale", "deinterlace", "bake", "linear"):
                raise problem(f"{value} does not go with codec copy, which changes nothing", f"video.{name}")
        if self.provenance.c2pa in ("embed", "sidecar"):
            raise problem("codec copy publishes the sources' own bytes and signs none", "provenance.c2pa")
        if self.video.assume_fps is not None:
            raise problem("codec copy cannot give times to a raw stream; choose a codec", "video.assume_fps")
        return self

    @model_validator(mode="after")
    def _transparency_has_a_codec(self) -> Self:
        if self.video.alpha == "keep" and not self._alpha_fits:
            raise problem(
                f"{self.encode.codec} in {self.encode.container} cannot store transparency; use "
                f"{', '.join(ALPHA_CODECS)} (not in mp4), or alpha: drop",
                "video.alpha",
            )
        return self

    @model_validator(mode="after")
    def _scenes_fit(self) -> Self:
        for position in range(len(self.scenes)):
            self._scene_list(position)
        return self

    def _scene_list(self, position: int) -> tuple[dict[str, Any], ...]:
        """The ``enhance`` list under one entry of ``scenes``. Raises a validation problem."""
        data = self.model_dump(mode="json", exclude_none=True, exclude={"scenes"})
        try:
            for path, value in self.scenes[position].set.items():
                set_value(data, path, copy.deepcopy(value))
            own = parse_spec(data).enhance
            require_common([item.to_dict() for item in self.enhance], [item.to_dict() for item in own])
        except (SpecError, PydanticCustomError) as error:
            raise problem(str(error), f"scenes.{position}.set") from None
        return tuple(item.to_dict() for item in own)

    @property
    def _alpha_fits(self) -> bool:
        return self.encode.codec in ALPHA_CODECS and self.encode.container != "mp4"

    def to_settings(self) -> JobSettings:
        """The job as the pipeline sees it."""
        c = self.consistency
        return JobSettings(
            name=self.name,
            seed=self.seed,
            source=self.source,
            output=self.output,
            storage=StorageSettings(self.storage.endpoint_url, copy.deepcopy(self.storage.model_extra or {})),
            model=self.model,
            precision=self.precision,
            autoencoder=self.autoencoder,
            adapters=tuple(entry.model_dump(mode="json") for entry in self.adapters),
            enhance=tuple(item.to_dict() for item in self.enhance),
            consistency=ConsistencySettings(
                sharing=c.sharing,  # type: ignore[arg-type]  # checked by ConsistencySpec
                anchors=c.anchors,
                knots=c.knots,
                knot_every=c.knot_every,
                knots_per_chunk=c.knots_per_chunk,
                rho=c.noise.rho,
                warp_noise=c.noise.warp,
                frames_per_batch=c.frames_per_batch,
                merge=c.merge,
                fusion=c.fusion,
            ),
            encode=EncodeSettings(**self.encode.model_dump()),
            video=self.video.to_policy(enhanced=bool(self.enhance), alpha_fits=self._alpha_fits),
            provenance=self.provenance.to_settings(copied=self.encode.codec == "copy"),
            cluster=ClusterSettings(**self.cluster.model_dump()),
            limits=Limits(**self.limits.model_dump()),
            torch_threads=self.torch_threads,
            scenes=tuple(
                SceneOverride(entry.video, entry.scenes, self._scene_list(position))
                for position, entry in enumerate(self.scenes)
            ),
        )

    def to_yaml(self) -> str:
        """The job file with every default written out; loading it gives an equal spec."""
        return dump_yaml(self.model_dump(mode="json", exclude_none=True))


def load_spec(path: str | Path, overrides: list[str] | None = None) -> JobSpec:
    """Read, override (``a.b.0.c=value``, in order) and validate a job file.

    Raises SpecError naming the file or field, what was found and what is expected.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError(f"{path}: no such job file; 'reelweave init' writes one", field=str(path)) from None
    except UnicodeDecodeError:
        raise SpecError(f"{path}: not a text file in UTF-8", field=str(path)) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SpecError(f"{path}: cannot be read: {reason}", field=str(path)) from None
    data = parse_yaml(text, field=str(path), origin=str(path))
    if not isinstance(data, dict):
        raise SpecError(f"{path}: expected a mapping with name, source and output", field=str(path))
    for override in overrides or []:
        apply_override(data, override)
    return parse_spec(data, origin=str(path))


def parse_spec(data: Mapping[str, Any], *, origin: str = "job") -> JobSpec:
    """Validate plain job data. Raises SpecError; ``origin`` begins the message."""
    try:
        return JobSpec.model_validate(data)
    except ValidationError as error:
        raise spec_error(error, data, origin) from None
