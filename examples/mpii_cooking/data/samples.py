"""Batches of network inputs with their labels and target windows, read from the caches.

A sample depends on the seed, the epoch and its index alone. So neither the number of loader processes nor a killed and
resumed run changes anything. Batches are cropped as uint8 and converted to float32 once.
"""

import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_convert

from examples.mpii_cooking.config import Level, Preset
from examples.mpii_cooking.data.caches import VideoCache
from examples.mpii_cooking.data.dataset import Clip
from examples.mpii_cooking.variants import Modality
from supervised_st.geometry import flip_theta, window_to_theta
from supervised_st.motion import MotionWindow, MotionWindowTarget, WindowProfile

RGB_MEAN = (123.68, 116.779, 103.939)
"""ImageNet's mean color, as in MatConvNet's VGG-16. It is not a mean image since it must commute with max-pooling."""
FLOW_ZERO = 128.0

Item = TypeVar("Item")


class Sample(NamedTuple):
    """A batch of samples."""

    image: Tensor  # [batch channel height width] float32, the crop of the resized frame, mean-subtracted
    theta: Tensor  # [batch 2 3] float32, the window with the most motion inside this crop
    confidence: Tensor  # [batch] float32, 0 where nothing moved
    label: Tensor  # [batch] int64
    clip: Tensor  # [batch] int64, index into the clips
    frame: Tensor  # [batch] int64, frame number in the clip's video
    random: Tensor  # [batch 2 3] float32, a window of a glimpse's size anywhere in this crop, or its center


class View(NamedTuple):
    """Which part of which frame a sample shows."""

    clip: int
    frame: int
    column: int  # left edge of the crop in pixels of the level
    flipped: bool
    corner: tuple[int, int] | None = None  # (x, y) in the crop of a random window; None for the central window


@dataclass(eq=False)
class Samples(Dataset[Sample]):
    """Indexable samples; subclasses define their number and what each of them shows."""

    clips: Sequence[Clip]
    caches: Mapping[str, VideoCache]
    level: Level
    modality: Modality
    preset: Preset

    def view(self, index: int) -> View:
        """Return what sample ``index`` shows."""
        raise NotImplementedError

    def __getitems__(self, indices: Sequence[int]) -> Sample:
        """Return a batch. A data loader calls this once per batch."""
        views = [self.view(index) for index in indices]
        window = self.windows(views)
        flipped = torch.tensor([view.flipped for view in views])
        return Sample(
            image=self._rgb(views) if self.modality is Modality.SPATIAL else self._flow(views, flipped),
            theta=torch.where(flipped[:, None, None], flip_theta(window.theta), window.theta),
            confidence=window.confidence,
            label=torch.tensor([self.clips[view.clip].label for view in views]),
            clip=torch.tensor([view.clip for view in views]),
            frame=torch.tensor([view.frame for view in views]),
            random=self._random_windows(views),
        )

    def name(self, index: int) -> str:
        """Return which frame of which video sample ``index`` shows, in words."""
        view = self.view(index)
        return f"frame {view.frame + 1} of {self.clips[view.clip].video}"

    def windows(self, views: Sequence[View]) -> MotionWindow:
        """Find the window with the most motion in each crop."""
        target = MotionWindowTarget(self.preset.data.glimpse, fallback="invalid")
        score, row = (torch.from_numpy(np.stack(part)) for part in zip(*map(self._crop_profile, views), strict=True))
        start = torch.zeros(len(views), dtype=torch.int64)
        side = self.level.height
        return target.from_profile(WindowProfile(score, row), crop_x=start, crop_size=(side, side))

    @property
    def image_bytes(self) -> int:
        """Memory of one sample's image."""
        return self.modality.channels * self.level.height**2 * torch.float32.itemsize

    def _room(self, clip: int) -> int:
        """Return how far a crop can be moved to the right."""
        return self._cache(clip).width(self.level) - self.level.height

    def _slack(self) -> int:
        """Return how far a window of a glimpse's size can be moved in a crop."""
        return self.level.height - self.preset.data.glimpse

    def _cache(self, clip: int) -> VideoCache:
        return self.caches[self.clips[clip].video]

    def _rgb(self, views: Sequence[View]) -> Tensor:
        side = self.level.height
        frames = (self._cache(view.clip).rgb(self.level, view.frame) for view in views)
        pixels = np.stack([frame[:, _columns(view, side)] for frame, view in zip(frames, views, strict=True)])
        colors = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
        return colors.float().sub_(torch.tensor(RGB_MEAN)[:, None, None]).mul_(self.preset.training.rgb_gain)

    def _flow(self, views: Sequence[View], flipped: Tensor) -> Tensor:
        side = self.level.height
        pixels = np.empty((len(views), self.preset.data.stack, 2, side, side), np.uint8)
        for view, sample in zip(views, pixels, strict=True):
            cache = self._cache(view.clip)
            for flow, number in zip(sample, cache.stack(view.frame), strict=True):
                flow[:] = cache.flow(self.level, number)[..., _columns(view, side)]
        # One look at a table takes half the time of conversion, subtraction and multiplication.
        values = torch.arange(256.0).sub_(FLOW_ZERO).mul_(self.preset.training.flow_gain)
        image = torch.from_numpy(cv2.LUT(pixels.reshape(-1, side), values.numpy())).view(len(views), -1, side, side)
        image[flipped, 0::2] *= -1  # mirroring turns motion to the right into motion to the left
        return image

    def _random_windows(self, views: Sequence[View]) -> Tensor:
        side, center = self.preset.data.glimpse, self._slack() // 2
        corners = (view.corner or (center, center) for view in views)
        return window_to_theta(torch.tensor([[*corner, side, side] for corner in corners]), (self.level.height,) * 2)

    def _crop_profile(self, view: View) -> tuple[NDArray[Any], NDArray[Any]]:
        """Convert a frame's profile from the flow grid to the columns of a crop, in pixels of the level.

        If the flow grid is finer, the best of the windows that round to a column counts. If it is coarser, the columns
        in between have no window.
        """
        score, row = self._cache(view.clip).profile(self.level, view.frame)
        room = self._slack()
        zoom = self.level.height / self.preset.data.flow_height
        last = self._cache(view.clip).width(self.level) - self.preset.data.glimpse
        column = np.minimum(np.rint(np.arange(len(score)) * zoom).astype(int), last) - view.column
        inside = np.flatnonzero((column >= 0) & (column <= room))
        rising = inside[np.lexsort((-inside, score[inside]))]  # of equal scores, the leftmost is written last and wins
        crop_score = np.full(room + 1, -np.inf)
        crop_row = np.zeros(room + 1, np.int64)
        crop_score[column[rising]] = score[rising]
        crop_row[column[rising]] = np.minimum(np.rint(row[rising] * zoom), room)
        return crop_score, crop_row


@dataclass(eq=False)
class ClipSamples(Samples):
    """One random frame of every clip, or of every part of one; another one in every epoch."""

    seed: int = field(kw_only=True)
    augment: bool = field(kw_only=True)
    """Crop at a random column, mirror half of the samples and place windows at random; else show the center crop."""
    epoch: int = field(kw_only=True, default=0)
    span: int | None = field(kw_only=True, default=None)
    """See ``PhaseSettings.span``."""

    def __post_init__(self) -> None:
        """Divide the clips into parts."""
        self._parts = [
            (index, clip.start + len(clip) * part // count, clip.start + len(clip) * (part + 1) // count)
            for index, clip in enumerate(self.clips)
            for count in [parts(clip, self.span)]
            for part in range(count)
        ]

    def __len__(self) -> int:
        """Return the number of parts of all clips together."""
        return len(self._parts)

    def view(self, index: int) -> View:
        """Draw the frame and, with augmentation, the crop, the mirroring and the random window."""
        rng = np.random.default_rng((self.seed, self.epoch, index))
        clip, start, stop = self._parts[index]
        frame = int(rng.integers(start, stop))
        if not self.augment:
            return View(clip, frame, self._room(clip) // 2, flipped=False)
        column, flipped = int(rng.integers(self._room(clip) + 1)), bool(rng.random() < 0.5)
        x, y = rng.integers(self._slack() + 1, size=2).tolist()
        return View(clip, frame, column, flipped, (x, y))

    def shuffled(self) -> list[int]:
        """Return this epoch's order of the samples."""
        order: list[int] = np.random.default_rng((self.seed, self.epoch)).permutation(len(self)).tolist()
        return order


@dataclass(eq=False)
class FrameSamples(Samples):
    """Every ``feature_stride``-th frame of every clip, clip after clip: center crop, not mirrored."""

    def __post_init__(self) -> None:
        """Choose the frames of every clip."""
        stride = self.preset.evaluation.feature_stride
        self._frames = [range(clip.start, clip.stop, stride) for clip in self.clips]
        self.lengths = [len(frames) for frames in self._frames]
        self._ends = np.cumsum(self.lengths)

    def __len__(self) -> int:
        """Return the number of samples of all clips together."""
        return sum(self.lengths)

    def view(self, index: int) -> View:
        """Return the center crop of frame ``index``, counted over all clips."""
        clip = int(np.searchsorted(self._ends, index, side="right"))
        frame = self._frames[clip][index - self._ends[clip]]
        return View(clip, frame, self._room(clip) // 2, flipped=False)


def parts(clip: Clip, span: int | None) -> int:
    """Return into how many parts a clip is divided: as many as ``span`` frames fit into it, rounded, at least one."""
    return max(1, round(len(clip) / span)) if span else 1


def chunks(items: Sequence[Item], size: int) -> list[list[Item]]:
    """Return ``items`` in pieces of ``size``; the last one may be smaller."""
    return [[*items[first : first + size]] for first in range(0, len(items), size)]


def batches(samples: Samples, indices: Iterable[list[int]]) -> Iterator[Sample]:
    """Yield one batch for each entry of ``indices``, loaded by as many processes as the preset has workers."""
    workers = samples.preset.machine.workers
    yield from DataLoader(
        samples,
        batch_sampler=indices,
        num_workers=workers,
        prefetch_factor=1 if workers else None,  # batches are large, and every worker holds one
        collate_fn=default_convert,
        generator=torch.Generator(),  # its own, so that loading draws none of torch's random numbers
        worker_init_fn=_ignore_sigterm,
    )


def ahead(items: Iterable[Item]) -> Iterator[Item]:
    """Yield ``items``; a thread computes the next one while the last one is used."""
    iterator = iter(items)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, iterator, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, iterator, None)
            yield item


def _ignore_sigterm(_: int) -> None:
    """Let a loader process live until its parent has finished the step, also if SIGTERM reaches all processes."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _columns(view: View, side: int) -> slice:
    """Return the slice of the crop's columns, from right to left if it is mirrored."""
    if not view.flipped:
        return slice(view.column, view.column + side)
    return slice(view.column + side - 1, view.column - 1 if view.column else None, -1)
