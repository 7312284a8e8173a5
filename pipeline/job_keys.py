"""Keys of a job: everything a result depends on, and nothing about the cluster, the clock or this machine."""

from __future__ import annotations

import copy
import dataclasses
import functools
import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.item_masks import without_mask
from pipeline.keys import code_digest, digest
from pipeline.plan import ChunkPlan, ScenePlan
from pipeline.scene_overrides import OwnScenes, list_of, own_scenes
from pipeline.settings import JobSettings, Limits, VideoPolicy
from pipeline.sharing_policies import facts_of

SCHEMA = 1
_VERSIONED = ("reelweave", "torch", "diffusers", "av", "opencv-python-headless", "ray")
_PIXEL_PACKAGES = ("torch", "diffusers", "av", "opencv-python-headless")


def package_versions() -> dict[str, str]:
    """Installed versions of what a result may depend on, for the manifest."""
    return {name: _version(name) for name in _VERSIONED}


@functools.cache
def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def index_key(source_digest: str, limits: Limits, policy: VideoPolicy) -> str:
    """Index of a source under the job's limits and policy; needs nothing else of the job."""
    return digest([_indexing(limits, policy), source_digest])


@functools.lru_cache(maxsize=16)
def _indexing(limits: Limits, policy: VideoPolicy) -> str:
    return digest(
        {
            "schema": SCHEMA,
            "level": "index",
            "limits": dataclasses.asdict(limits),
            "video": dataclasses.asdict(policy),
            "code": code_digest(),
        }
    )


def estimate_key(indexed: str) -> str:
    """Estimated degradation of a source, by the key of its index."""
    versions = {name: _version(name) for name in ("av", "opencv-python-headless")}
    return digest(
        {"schema": SCHEMA, "level": "estimate", "index": indexed, "code": code_digest(), "versions": versions}
    )


def _without_places(item: dict[str, Any]) -> dict[str, Any]:
    """An ``enhance`` item without where its pictures and weights lie: their contents enter keys by digest."""
    kept = copy.deepcopy(item)
    kept.get("stylize", {}).pop("reference", None)
    kept.get("stylize", {}).get("method", {}).pop("descriptor", None)
    without_mask(kept)
    kept.get("restore", {}).get("solver", {}).pop("checkpoint", None)
    return kept


def _scenes(lists: Iterable[tuple[Any, Sequence[dict[str, Any]]]]) -> dict[str, Any]:
    """A member of keys for the lists of scenes that have their own; nothing where there are none."""
    told = [[whose, [_without_places(item) for item in items]] for whose, items in lists]
    return {"scenes": told} if told else {}


@dataclass(frozen=True)
class JobKeys:
    """Makes the keys of one job. ``device`` is "cpu" or "cuda": bits are promised per device class.
    ``resolved``: the ``enhance`` list of one video where that is not the job's, for degradations that were
    estimated, or of one scene. ``own_scenes``: those of a video whose list is another."""

    settings: JobSettings
    model_digest: str
    device: str
    style_keys: tuple[str, ...] = ()
    mask_digests: tuple[str, ...] = ()
    resolved: tuple[dict[str, Any], ...] | None = None
    own_scenes: tuple[OwnScenes, ...] = ()

    def of_video(self, uri: str, degradations: Sequence[Mapping[str, Any]] = ()) -> JobKeys:
        """The keys of one video: ``own_scenes`` are those that the job gives it."""
        found = own_scenes(self.settings.scenes, uri, degradations)
        return dataclasses.replace(self, own_scenes=found) if found else self

    def of_scene(self, number: int) -> JobKeys:
        """The keys of one scene of this video, which know nothing of other scenes."""
        if not self.own_scenes:
            return self
        own = list_of(self.own_scenes, number)
        if own is None:
            return dataclasses.replace(self, own_scenes=())
        return dataclasses.replace(self, own_scenes=(), resolved=own.items)

    @property
    def enhance(self) -> tuple[dict[str, Any], ...]:
        """What is done to frames."""
        return self.settings.enhance if self.resolved is None else self.resolved

    def model(self) -> str:
        """Proof that the model loads on this device class."""
        return digest({**self._network(), "level": "model"})

    def style(self, number: int, pictures_sha256: str) -> str:
        """Style bank of stage ``number``, of pictures and weights of this digest."""
        item = _without_places(self.settings.enhance[number])
        return digest({**self._network(), "level": "style", "item": item, "pictures": pictures_sha256})

    def anchors(self, source_digest: str, scene: ScenePlan) -> str:
        """Anchors of a scene."""
        return digest(
            {
                "job": self._pixels,
                "level": "anchors",
                "source": source_digest,
                "scene": [scene.number, scene.first, scene.last],
                "anchors": scene.anchors,
            }
        )

    def knot(self, source_digest: str, scene: ScenePlan, ordinal: int, anchors_key: str) -> str:
        """One knot that is no anchor."""
        return digest(
            {
                "job": self._pixels,
                "level": "knot",
                "source": source_digest,
                "scene": scene.number,
                "ordinal": ordinal,
                "anchors": anchors_key,
            }
        )

    def chunk(
        self,
        source_digest: str,
        chunk: ChunkPlan,
        anchors_key: str,
        knot_keys: tuple[tuple[int, str], ...],
    ) -> str:
        """An encoded chunk."""
        return digest(
            {
                "job": self._encoded,
                "level": "chunk",
                "source": source_digest,
                "scene": chunk.scene,
                "range": [chunk.first, chunk.last],
                "gops": chunk.gops,
                "grid": chunk.knots,
                "anchors": anchors_key,
                "knots": [key for _, key in knot_keys],
            }
        )

    def video(self, source_digest: str, container: str) -> str:
        """A published video. How it was cut into chunks enters only where it changes bits."""
        return digest(
            {
                "job": self._encoded,
                "level": "video",
                "source": source_digest,
                "container": container,
                **_scenes((entry.scenes, entry.enhance.items) for entry in self.own_scenes),
                **self._disclosure(),
            }
        )

    def spec_digest(self) -> str:
        """What was asked for, apart from sources and places."""
        return self._spec

    @functools.cached_property
    def _spec(self) -> str:
        return digest(
            {
                "enhance": [_without_places(item) for item in self.settings.enhance],
                "pictures": [self.style_keys, self.mask_digests],
                "consistency": self._consistency(),
                "encode": dataclasses.asdict(self.settings.encode),
                "video": dataclasses.asdict(self.settings.video),
                "seed": self.settings.seed,
                "model": self.model_digest,
                **_scenes(((entry.video, entry.scenes), entry.enhance) for entry in self.settings.scenes),
            }
        )

    def _network(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "model": self.model_digest,
            "precision": self.settings.precision,
            "autoencoder": self.settings.autoencoder,
            "device": self.device,
            "threads": self.settings.torch_threads,
            "seed": self.settings.seed,
            "code": code_digest(),
            "versions": {name: _version(name) for name in _PIXEL_PACKAGES},
        }

    @functools.cached_property
    def _pixels(self) -> str:
        # The same for every unit of a catalog, which may have millions.
        return digest(
            {
                **self._network(),
                "enhance": [_without_places(item) for item in self.enhance],
                "styles": self.style_keys,
                "masks": self.mask_digests,
                "video": dataclasses.asdict(self.settings.video),
                "consistency": self._consistency(),
            }
        )

    @functools.cached_property
    def _encoded(self) -> str:
        return digest([self._pixels, dataclasses.asdict(self.settings.encode)])

    def _disclosure(self) -> dict[str, Any]:
        """What the file says of itself. Whom a certificate names matters, and not which one of his it is:
        a renewed one publishes nothing again."""
        how = self.settings.provenance
        return {
            "label": how.label and bool(self.settings.enhance),
            "credentials": [how.c2pa == "sidecar", how.signer] if how.signs else None,
        }

    def _consistency(self) -> dict[str, Any]:
        facts = dataclasses.asdict(self.settings.consistency)
        if not facts_of(self.settings.consistency).depends_on_chunking:
            del facts["knots_per_chunk"]
        return facts
