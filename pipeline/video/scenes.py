"""Scene cuts, found on small pictures while a file is being indexed."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from scenedetect.common import FrameTimecode
from scenedetect.detector import FlashFilter

PICTURE_WIDTH = 160
MIN_SCENE_FRAMES = 8
# PySceneDetect's default score for a cut, and the score from which a cut is beyond doubt, so that
# even a scene shorter than MIN_SCENE_FRAMES is kept. Flashes of one picture stay below it mostly.
CUT_SCORE = 27.0
HARD_CUT_SCORE = 60.0


class SceneFinder:
    """Feed every frame once, in order; memory does not grow with the length of the video."""

    def __init__(self, rate: Fraction) -> None:
        self._rate = rate if rate > 0 else Fraction(25)
        # What PySceneDetect's ContentDetector is made of; two of those would score every frame twice.
        self._filters = tuple(
            (threshold, FlashFilter(mode=FlashFilter.Mode.MERGE, length=length))
            for threshold, length in ((CUT_SCORE, MIN_SCENE_FRAMES), (HARD_CUT_SCORE, 1))
        )
        self._previous: np.ndarray | None = None
        self._reformatter = VideoReformatter()
        self._size: tuple[int, int] | None = None
        self._cuts = {0}

    def feed(self, ordinal: int, frame: VideoFrame) -> None:
        """Look at frame ``ordinal`` (0, 1, 2, ...)."""
        score = self._score(self._small_picture(frame))
        time = FrameTimecode(ordinal, self._rate)
        for threshold, flashes in self._filters:
            found = flashes.filter(timecode=time, above_threshold=score >= threshold)
            self._cuts.update(cut.frame_num for cut in found)

    def cuts(self) -> tuple[int, ...]:
        """Ordinals at which a scene starts, beginning with 0."""
        return tuple(sorted(self._cuts))

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
