"""Steps at which something begins or ends that features kept from before know nothing of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from operators.acceleration.deepcache import CacheSchedule
from operators.acceleration.guidance_interval import guided_steps
from operators.inversion.pinned import SourceFeatures, structure
from operators.style.methods import rival_until

Spec = Mapping[str, Any]


def cache_schedule(item: Spec, timesteps: Sequence[int]) -> CacheSchedule | None:
    """The schedule that ``item``, a whole ``restore`` or ``stylize`` mapping, asks for by its
    ``acceleration``; None where it asks for none. Steps are full where guidance begins and ends, where RIVAL
    goes from replacing to joining, and where injected features of the source end."""
    asked = item.get("acceleration", {}).get("deepcache")
    if asked is None:
        return None
    return CacheSchedule(int(asked["every"]), frozenset(_switches(item, timesteps)))


def _switches(item: Spec, timesteps: Sequence[int]) -> set[int]:
    steps, found = len(timesteps), set()
    if "guidance_interval" in item:
        guided = guided_steps(item["guidance_interval"], steps)
        found |= {guided.start, guided.stop}
    method, content = item.get("method", {}), item.get("content", {})
    if method.get("name") == "rival":
        until = rival_until(method, tuple(timesteps))
        found |= {sum(t > until for t in timesteps)}
    if content.get("name") == "pinned":
        taken: SourceFeatures = structure(frozenset(), "", content["structure"])
        found |= {math.ceil(share * steps) for share in (taken.attention_until, taken.residual_until)}
    return found
