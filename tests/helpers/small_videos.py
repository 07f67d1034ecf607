"""Small videos for the tests of the example's data, and the preset that they are prepared for."""

from pathlib import Path

import cv2
import numpy as np
import torch

from examples.mpii_cooking.data import video
from examples.mpii_cooking.presets import PRESETS

PRESET = PRESETS["smoke"]
DETAIL = PRESET.data.levels[2]


def moving_patch(frames: int, seed: int, size: tuple[int, int] = (48, 64)) -> list[np.ndarray]:
    """A textured square that drifts over noise."""
    rng = np.random.default_rng(seed)
    back = rng.integers(0, 80, (*size, 3), dtype=np.uint8)
    patch = cv2.resize(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8), (14, 14), interpolation=cv2.INTER_CUBIC)
    film = []
    for now in range(frames):
        frame = back.copy()
        x, y = 4 + 2 * now % (size[1] - 24), 8 + seed % 20
        frame[y : y + 14, x : x + 14] = patch
        film.append(frame)
    return film


def write(path: Path, frames: list[np.ndarray], codec: str = "mpeg4", rate: int = 25) -> Path:
    with video.new_video(path, codec, rate) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def write_images(folder: Path, frames: list[np.ndarray], name: str) -> Path:
    """One image per frame, such as 7.png for the name "{}.png"."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames):
        assert cv2.imwrite(str(folder / name.format(number)), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    return folder


def truncate(path: Path) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def stack_of(cache, frame: int) -> torch.Tensor:
    """The centered stack, from -5 to +4, straight from the cached flow."""
    numbers = np.clip(np.arange(frame - 5, frame + 5), 0, cache.frames - 1).tolist()
    return torch.from_numpy(np.stack([cache.flow(DETAIL, number) for number in numbers]))
