"""The ways to make the frames of a video agree, each driven through the Enhancer that jobs use.

A clip is planned, cut and enhanced as a job does it, chunk by chunk, with only the references of the current
chunk in memory; just no Ray and no video files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from jobs.bench.even_plan import plan_scene
from jobs.render import Frames, render_scene
from pipeline.enhancer_config import EnhancerConfig, FrameTask
from pipeline.plan import plan_chunks
from pipeline.settings import Autoencoder, ConsistencySettings
from pipeline.sharing_policies import facts_of

if TYPE_CHECKING:
    from pipeline.enhancer import Enhancer

#: Frames by absolute ordinal, [n, h, w, 3].
Source = Callable[[Sequence[int]], Frames]


@dataclass(frozen=True)
class Clip:
    """What is enhanced: ``count`` frames, one scene, known as ``name`` to the noise."""

    name: str
    count: int
    frames: Source

    def task(self, ordinals: Sequence[int]) -> FrameTask:
        """Frames of this clip as the Enhancer knows them."""
        return FrameTask(self.name, 0, tuple(ordinals))


@dataclass(frozen=True)
class Policy:
    """One row: ``settings`` change the job's consistency."""

    name: str
    settings: Mapping[str, Any]
    #: Differs from its neighbour in the noise alone: of interest where a method draws any.
    of_noise: bool = False


def render_chunks(enhancer: Enhancer, clip: Clip, how: ConsistencySettings) -> Iterator[Frames]:
    """As jobs do: anchors of the scene, knots, then the chunks in order."""
    scene, facts = plan_scene(0, 0, clip.count, how), facts_of(how)
    if facts.anchors == "first":
        scene = replace(scene, anchors=(0,))
    chunks = plan_chunks(scene, how.knots_per_chunk, scene.last, 0)
    anchored = facts.anchors != "none"
    return render_scene(
        enhancer, scene, chunks, clip.task, clip.frames, anchored=anchored, knotted=facts.knots
    )


#: In the order of the report.
POLICIES = (
    Policy("independent", {"sharing": "none"}),
    Policy("independent, rho 0", {"sharing": "none", "rho": 0.0}, of_noise=True),
    Policy("independent, rho 1", {"sharing": "none", "rho": 1.0}, of_noise=True),
    Policy("chunk_first", {"sharing": "chunk_first"}),
    Policy("chunk_joint", {"sharing": "chunk_joint"}),
    Policy("anchors", {"sharing": "anchors"}),
    Policy("knots_hard", {"sharing": "knots_hard"}),
    Policy("knots", {"sharing": "knots"}),
    Policy("knots, warped noise", {"sharing": "knots", "warp_noise": True}, of_noise=True),
)
DEFAULT = "knots"


def enhancer_of(
    policy: Policy,
    enhance: tuple[dict[str, Any], ...],
    how: ConsistencySettings,
    styles: Mapping[int, bytes],
    *,
    autoencoder: Autoencoder = "vae",
) -> Enhancer:
    """An Enhancer of the embedded model on CPU with the settings of ``policy`` over ``how``."""
    from pipeline.enhancer import Enhancer

    config = EnhancerConfig(
        model="embedded",
        precision="fp32",
        device="cpu",
        enhance=enhance,
        consistency=replace(how, **policy.settings),
        seed=0,
        torch_threads=1,
        autoencoder=autoencoder,
    )
    return Enhancer(config, styles)
