"""Scene cuts, found on small pictures while a file is being indexed."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from fractions import Fraction

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from scenedetect.common import FrameTimecode
from scenedetect.detector import FlashFilter

from pipeline.video.flashes import black_runs, flash_frames, seams_of_nothing
from pipeline.video.look_meter import LookMeter
from pipeline.video.looks import FrameLooks

PICTURE_WIDTH = 160
MIN_SCENE_FRAMES = 8
# PySceneDetect's default score for a cut, and the score from which a cut is beyond doubt, so that
# even a scene shorter than MIN_SCENE_FRAMES is kept.
CUT_SCORE = 27.0
HARD_CUT_SCORE = 60.0


class SceneFinder:
    """Feed every frame once, in order; keeps 34 bytes per frame."""

    def __init__(self, rate: Fraction) -> None:
        self._rate = rate if rate > 0 else Fraction(25)
        self._scores = array("d")
        self._meter = LookMeter()
        self._previous: np.ndarray | None = None
        self._reformatter = VideoReformatter()
        self._size: tuple[int, int] | None = None

    def feed(self, frame: VideoFrame) -> None:
        """Look at the next frame."""
        picture = self._small_picture(frame)
        self._scores.append(self._score(picture))
        self._meter.feed(picture)

    def looks(self) -> FrameLooks:
        """The measurements of all frames fed."""
        return self._meter.looks()

    def cuts(self) -> tuple[int, ...]:
        """Ordinals at which a scene starts, beginning with 0."""
        looks = self.looks()
        return with_fades(find_cuts(self._scores, seams_of_nothing(looks), self._rate), looks)

    def _score(self, picture: np.ndarray) -> float:
        """ContentDetector's: mean absolute difference of hue, saturation and value to the picture before."""
        hsv = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2HSV))
        previous, self._previous = self._previous, hsv
        if previous is None:
            return 0.0
        pixels = float(hsv.shape[0] * hsv.shape[1])
        hue, saturation, value, _ = cv2.sumElems(cv2.absdiff(hsv, previous))
        # In this order and with these divisions, the number is the same to the last bit.
        return float((hue / pixels + saturation / pixels + value / pixels) / 3.0)

    def _small_picture(self, frame: VideoFrame) -> np.ndarray:
        if self._size is None:
            # The first picture's, even if later ones differ: the detector compares neighbours.
            width = min(PICTURE_WIDTH, frame.width)
            self._size = width, max(1, round(frame.height * width / frame.width))
        width, height = self._size
        small = self._reformatter.reformat(
            frame, width=width, height=height, format="bgr24", interpolation=Interpolation.AREA, threads=1
        )
        return np.asarray(small.to_ndarray())


def find_cuts(scores: Sequence[float], ignored: np.ndarray, rate: Fraction) -> tuple[int, ...]:
    """Cuts, beginning with 0, from every frame's score against the frame before, but for those ``ignored``.

    A flash would otherwise cut its scene in two, since PySceneDetect's filter takes its first edge for a
    cut, and hide a real cut that follows within `MIN_SCENE_FRAMES`.
    """
    # What PySceneDetect's ContentDetector is made of; two of those would score every frame twice.
    filters = tuple(
        (threshold, FlashFilter(mode=FlashFilter.Mode.MERGE, length=length))
        for threshold, length in ((CUT_SCORE, MIN_SCENE_FRAMES), (HARD_CUT_SCORE, 1))
    )
    values = np.where(ignored, 0.0, np.asarray(scores, dtype=float))
    # A filter decides at a frame above its threshold, or as many frames later as a scene must have; asking it
    # about the others, which are nearly all, would take as long as measuring them.
    asked = np.convolve(values >= CUT_SCORE, np.ones(MIN_SCENE_FRAMES + 1))[: len(values)] > 0
    asked[:1] = True
    cuts = {0}
    for ordinal in np.flatnonzero(asked).tolist():
        time = FrameTimecode(ordinal, rate)
        for threshold, merging in filters:
            found = merging.filter(timecode=time, above_threshold=bool(values[ordinal] >= threshold))
            cuts.update(cut.frame_num for cut in found)
    return tuple(sorted(cuts))


def with_fades(cuts: Sequence[int], looks: FrameLooks) -> tuple[int, ...]:
    """``cuts`` and one in the middle of every fade through black.

    Black at either end of the video, black that begins or ends with a cut, and black that would leave a
    scene shorter than `MIN_SCENE_FRAMES` adds none.
    """
    flashes = flash_frames(looks)
    bounds = {*cuts, looks.frames}
    for start, stop in black_runs(looks):
        middle = (start + stop) // 2
        near = range(min(start, middle - MIN_SCENE_FRAMES + 1), max(stop, middle + MIN_SCENE_FRAMES - 1) + 1)
        dropout = bool(flashes[start:stop].all())
        if not dropout and start > 0 and stop < looks.frames and bounds.isdisjoint(near):
            bounds.add(middle)
    return tuple(sorted(bounds - {looks.frames}))
