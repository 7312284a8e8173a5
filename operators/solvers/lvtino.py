"""LVTINO (Spagnoletti, Almansa and Pereyra 2025, "LVTINO: LAtent Video consisTency INverse sOlver for High
Definition Video Restoration", arXiv 2510.01339): a video and an image consistency model take turns."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.errors import OperatorError
from operators.solvers.base import LatentPrior, State
from operators.solvers.checkpoints import VideoConsistencyPrior
from operators.solvers.data_steps import first_picture
from operators.solvers.levels import level
from operators.solvers.step_rules import recombine

#: The released grids of the two models.
VIDEO_TIMESTEPS = (757, 522, 375, 255, 125)
IMAGE_TIMESTEPS = (499, 374, 249, 124, 124)


@dataclass(frozen=True)
class Lvtino:
    """Per step: the clip through the video model's stochastic autoencoder, data prox, every frame through the
    image model's, data prox (algorithm 1).

    The batch is the whole clip; for the video model it is continued by its last frame up to a length that its
    autoencoder takes. ``video`` None leaves the image model alone: LATINO with one noise for all frames and
    the clip's own prox. ``video_weights`` and ``image_weights``: prox weights per step (the paper tunes them
    per problem). The image latent is made inside the step, so references cannot be read beside it;
    ``state.z`` holds the last one. Temporal total variation, which the paper adds for frame averages, is not
    part of this.
    """

    operator: ForwardOperator
    timesteps: tuple[int, ...]
    image_weights: tuple[float, ...]
    video: VideoConsistencyPrior | None = None
    video_timesteps: tuple[int, ...] = ()
    video_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        expected = len(self.timesteps)
        counts = {"image_weights": len(self.image_weights)}
        if self.video is not None:
            counts |= {
                "video_timesteps": len(self.video_timesteps),
                "video_weights": len(self.video_weights),
            }
        for field, count in counts.items():
            if count != expected:
                raise OperatorError(
                    f"lvtino: {field} has {count} entries for {expected} steps; give one each"
                )

    def start(self, y: Tensor, noise: Tensor, prior: LatentPrior) -> State:
        y = self.operator.restrict(y)
        x = first_picture(self.operator, y).clamp(-1.0, 1.0)
        return State(z=noise, y=y, x=x)

    def step(self, i: int, state: State, prior: LatentPrior) -> State:
        x = state.x
        if self.video is not None:
            x = self._through_video(i, replace(state, x=x))
        at = level(prior, self.timesteps[i])
        z0 = prior.encode(x.clamp(-1.0, 1.0))
        shared = state.normal(i, "image", like=z0)[:1].expand_as(z0)
        z = recombine(z0, shared, at)
        estimate = prior.decode(prior.predict(z, self.timesteps[i]).z0)
        fitted = self.operator.prox(estimate.clamp(-1.0, 1.0), state.y, self.image_weights[i])
        return replace(state, z=z, x=fitted)

    def finish(self, state: State, prior: LatentPrior) -> Tensor:
        """The last fitted clip."""
        assert state.x is not None
        return state.x

    def _through_video(self, i: int, state: State) -> Tensor:
        video = self.video
        assert video is not None
        assert state.x is not None
        t = self.video_timesteps[i]
        z0 = video.encode(continued(state.x.clamp(-1.0, 1.0), video.frames_multiple))
        noise = state.normal(i, "video", like=z0.expand(len(state.x), *z0.shape))[0]
        z = recombine(z0, noise, level(video, t))
        estimate = video.decode(video.predict_z0(z, t))[: len(state.x)].clamp(-1.0, 1.0)
        return self.operator.prox(estimate, state.y, self.video_weights[i])


def continued(clip: Tensor, multiple: int) -> Tensor:
    """``clip`` [T, ...] and its last frame as often as makes k ``multiple`` + 1 frames."""
    return torch.cat([clip, clip[-1:].expand((1 - len(clip)) % multiple, *clip.shape[1:])])
