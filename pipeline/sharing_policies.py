"""The ways in which frames share attention: what each needs of the plan, and what it costs in independence.

Facts only, readable without torch; what they do is in `operators.attention.policies`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.settings import ConsistencySettings

#: Which frames of a scene everybody may read: none, its first one, or some that together show most of it.
Anchors = Literal["none", "first", "chosen"]


@dataclass(frozen=True)
class PolicyFacts:
    """One value of ``consistency.sharing``.

    ``knots``: frames read the knots around them. ``knots_matched``, ``anchors_matched``: tokens are matched
    with theirs, by features of the source, which references then carry. ``depends_on_chunking`` says how the
    result depends on the cut into chunks; "" for results that do not.
    """

    name: str
    anchors: Anchors = "none"
    knots: bool = False
    knots_matched: bool = False
    anchors_matched: bool = False
    depends_on_chunking: str = ""


POLICIES = {
    facts.name: facts
    for facts in (
        PolicyFacts("none"),
        PolicyFacts("first_frame", anchors="first"),
        PolicyFacts(
            "sparse_causal",
            anchors="first",
            depends_on_chunking="a frame reads the one before it, except where a chunk begins",
        ),
        PolicyFacts("chunk_first", depends_on_chunking="every frame reads the first one of its chunk"),
        PolicyFacts("chunk_joint", depends_on_chunking="all frames of a chunk read each other"),
        PolicyFacts("anchors", anchors="chosen"),
        PolicyFacts("knots_hard", anchors="chosen", knots=True),
        PolicyFacts("knots", anchors="chosen", knots=True),
        PolicyFacts("propagate", anchors="chosen", knots=True, knots_matched=True),
        PolicyFacts("correspondence", anchors="chosen", knots=True, knots_matched=True, anchors_matched=True),
    )
}
#: Policies under which tokens of frames can be merged into those of the knots.
MERGEABLE = ("knots", "knots_hard")
#: Policies under which estimates of frames can be fused with those of the knots.
FUSIBLE = tuple(name for name, facts in POLICIES.items() if facts.knots)


#: Solvers that find out something about the degradation, once per scene, from its anchors together.
LEARNING = ("blind_dps",)


def needs_anchors(consistency: ConsistencySettings, enhance: Sequence[Mapping[str, Any]]) -> bool:
    """Whether each scene has anchors: frames that all others read, or learn the degradation from."""
    solvers = {item["restore"]["solver"]["name"] for item in enhance if "restore" in item}
    return bool(enhance) and (facts_of(consistency).anchors != "none" or bool(solvers.intersection(LEARNING)))


def facts_of(consistency: ConsistencySettings) -> PolicyFacts:
    """The facts of ``consistency.sharing``."""
    return POLICIES[consistency.sharing]


def needs_features(consistency: ConsistencySettings) -> bool:
    """Whether references carry the latents of their sources."""
    return facts_of(consistency).knots_matched or consistency.merge > 0.0


def needs_motion(consistency: ConsistencySettings) -> bool:
    """Whether references carry small pictures of their sources, in which motion is found."""
    return consistency.warp_noise or consistency.fusion > 0.0


def sharing_warnings(consistency: ConsistencySettings) -> tuple[str, ...]:
    """What a user should know before running: one sentence for policies that depend on the chunking."""
    why = facts_of(consistency).depends_on_chunking
    if not why:
        return ()
    return (
        f"consistency.sharing: {consistency.sharing} depends on how the video is cut into chunks: {why}. "
        "Other values of knots_per_chunk give other pictures; sharing: knots does not depend on it.",
    )
