"""Finds clips in which nothing moves, as soon as their motion is known and before anything is trained."""

import logging
from collections.abc import Mapping

from examples.mpii_cooking.config import Level
from examples.mpii_cooking.data.caches import VideoCache
from examples.mpii_cooking.data.dataset import Clip, DataError, Dataset
from examples.mpii_cooking.data.findings import listed

log = logging.getLogger(__name__)


def check_motion(dataset: Dataset, caches: Mapping[str, VideoCache], level: Level) -> None:
    """Warn of clips without motion, and raise a ``DataError`` if no training clip has any.

    The temporal networks would see the same in every frame, and no window would be better than another.
    """

    def is_still(clip: Clip) -> bool:
        scores = (caches[clip.video].profile(level, frame)[0] for frame in range(clip.start, clip.stop))
        return not any(score.any() for score in scores)  # most clips move in the first frame that is looked at

    train, test = (list(filter(is_still, clips)) for clips in (dataset.train, dataset.test))
    if len(train) == len(dataset.train):
        raise DataError(f"nothing moves in any training clip of {dataset.name}", "use videos and not still images")
    if train or test:
        still = [clip.origin for clip in train + test]
        log.warning("nothing moves in %d of the clips: %s", len(still), listed(still))
