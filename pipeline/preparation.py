"""Before frames: one actor proves that the model loads, and inverts the style references.

It runs beside indexing, so its start costs nothing; with everything committed it does not start at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray

from pipeline.cluster import Cluster
from pipeline.commit import ChunkStore
from pipeline.enhancer_config import EnhancerConfig
from pipeline.errors import SpecError
from pipeline.failures import run_error
from pipeline.job_keys import JobKeys
from pipeline.pictures import Pictures
from pipeline.steps.context import TaskContext
from pipeline.store import Store
from pipeline.style_pictures import StylePictures

#: A preparation that dies is begun again this often before the run gives up.
_RETRIES = 2


@dataclass
class Prepared:
    """Style keys known at once; `wait` returns when the objects behind them are committed."""

    style_numbers: dict[int, str]
    _pending: Any = None
    _actor: Any = None

    @property
    def pending(self) -> bool:
        """Whether anything is being made."""
        return self._pending is not None

    def wait(self) -> None:
        """Raises SpecError (field ``model``) when the model cannot be used, StoreError, and RunError when its
        process does not survive."""
        if self._pending is None:
            return
        try:
            problem = ray.get(self._pending)
        except ray.exceptions.RayError as error:
            raise run_error(error) from error
        ray.kill(self._actor)
        if problem:
            raise SpecError(problem, field="model")


def style_keys(keys: JobKeys, pictures: Pictures) -> dict[int, str]:
    """Keys of the style references by index in ``enhance``, made or not."""
    return {number: keys.style(number, pictures.digests[number]) for number in sorted(pictures.styles)}


def prepare_model(keys: JobKeys, pictures: Pictures, cluster: Cluster, context: TaskContext) -> Prepared:
    """Start what is missing of model check and style references."""
    settings = keys.settings
    config = pictures.enhancer_config(settings, cluster.device)
    if config is None:
        return Prepared({})
    styles = style_keys(keys, pictures)
    chunks = ChunkStore(Store(settings.output, settings.storage))
    missing = {
        number: (key, pictures.styles[number]) for number, key in styles.items() if chunks.lookup(key) is None
    }
    if not missing and chunks.lookup(keys.model()) is not None:
        return Prepared(styles)
    retried = {"max_restarts": _RETRIES, "max_task_retries": _RETRIES}
    actor = ray.remote(_Preparation).options(**cluster.actor_resources, **retried).remote()
    return Prepared(styles, actor.prepare.remote(config, missing, keys.model(), context), actor)


class _Preparation:
    """Loads the model once and makes the missing style references. A process of its own: torch never
    enters the driver."""

    def prepare(
        self,
        config: EnhancerConfig,
        missing: Mapping[int, tuple[str, StylePictures]],
        model_key: str,
        context: TaskContext,
    ) -> str:
        """Commit what is missing; returns what is wrong with the model, or ""."""
        from pipeline.enhancer import Enhancer

        try:
            enhancer = Enhancer(config)
            for number, (key, style) in missing.items():
                bank = enhancer.style(number, *style.pictures, weights=style.weights)
                context.chunks.commit_bytes(key, ".safetensors", bank, {})
        except SpecError as error:
            return str(error)
        context.chunks.commit_bytes(model_key, ".txt", b"loads", {})
        return ""
