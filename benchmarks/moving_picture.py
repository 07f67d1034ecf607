"""Draw the moving picture of the README: the gallery's first model learns where to look, guided first, then free.

python benchmarks/moving_picture.py    about a minute
"""

import sys
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from sphinx_gallery.py_source_parser import split_code_and_text_blocks
from torch import Tensor

from benchmarks.saving import ROOT
from supervised_st import Glimpse, plot
from supervised_st.geometry import window_iou, window_to_theta

DOCS = ROOT / "docs"
GUIDED, STEPS = 200, 900  # guidance ends as in the tutorial; free training goes on for longer
TIMES = [*range(0, GUIDED, 10), *range(GUIDED, STEPS + 1, 25)]
SHOWN = 3  # scenes
MILLISECONDS, PAUSE = 100, 1600
GUIDED_COLOR, FREE_COLOR = plot.COLORS[:2]


class Moment(NamedTuple):
    """What there is to see at one step."""

    step: int
    glimpse: Glimpse
    overlap: float
    accuracy: float

    @property
    def color(self) -> str:
        """The color of its windows."""
        return GUIDED_COLOR if self.step < GUIDED else FREE_COLOR


def first_model() -> dict[str, Any]:
    """Return what the first model of the gallery defines: scenes and networks, but no training."""
    names: dict[str, Any] = {}
    _, blocks = split_code_and_text_blocks(str(DOCS / "gallery" / "01_first_model.py"))
    codes = [block for block in blocks if block[0] == "code"]
    for _, code, _ in codes[:2]:
        exec(code, names)
    return names


def train(first: dict[str, Any]) -> tuple[Tensor, Tensor, list[Moment]]:
    """Train it. Return scenes that it never sees, the windows of their plates, and moments of training."""
    look, classify, make_scenes = first["look"], first["classify"], first["make_scenes"]
    scenes, boxes, answers = make_scenes(512, 1400, 1797)
    windows, moments = window_to_theta(boxes, 64), []
    guidance, optimizer = first["guidance"], first["optimizer"]

    def task(glimpse: Glimpse) -> Tensor:
        return F.cross_entropy(classify(glimpse.image), numbers)

    for step in range(STEPS + 1):
        if step in TIMES:
            with torch.no_grad():
                glimpse = look(scenes)
                right = (classify(glimpse.image).argmax(1) == answers).float().mean()
            moments.append(Moment(step, glimpse, window_iou(glimpse.theta, windows).mean().item(), right.item()))
        images, targets, numbers = make_scenes(32, 0, 1400)
        loss = guidance.objective(look, images, target=window_to_theta(targets, 64), task=task)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        guidance.step()
    return scenes, windows, moments


def draw(scenes: Tensor, windows: Tensor, moments: list[Moment]) -> Image.Image:
    """Draw the last of some moments, with the curves up to it."""
    now = moments[-1]
    figure = Figure(figsize=(9.6, 3.8), dpi=160, layout="constrained")
    pictures, curves = figure.subfigures(1, 2, squeeze=False, width_ratios=[2, 1])[0]
    panels = pictures.subplots(2, SHOWN, height_ratios=[2.2, 1], subplot_kw={"xticks": [], "yticks": []})
    for n, (above, below) in enumerate(zip(*panels, strict=True)):
        plot.windows(scenes[n], windows[n], axes=above, colors=["white"])
        plot.outline(above, now.glimpse.theta[n], scenes.shape[-2:], color=now.color, width=3)
        above.set(xlim=(-5, 68), ylim=(68, -5), frame_on=False)
        below.imshow(now.glimpse.image[n].movedim(0, -1).clamp(0, 1).numpy())
    is_guided = now.step < GUIDED
    title = "guided by the boxes of the plates" if is_guided else "free: only the digits' labels count"
    pictures.suptitle(title, color=now.color, fontsize=14, fontweight="bold")
    _curves(curves.subplots(), moments)
    file = BytesIO()
    figure.savefig(file)
    return Image.open(file).convert("RGB")


def _curves(axes: Axes, moments: list[Moment]) -> None:
    steps, now = [it.step for it in moments], moments[-1]
    axes.plot(steps, [it.accuracy for it in moments], color="#222222", linewidth=2.5)
    axes.plot(steps, [it.overlap for it in moments], color="#999999", linewidth=2.5)
    axes.axvline(GUIDED, color=FREE_COLOR, linestyle=":")
    axes.set(xlim=(0, STEPS), ylim=(0, 1.02), xlabel="optimizer step")
    axes.set_yticks((0, 0.5, 1), ("0", "50 %", "100 %"))
    axes.set_title(f"{now.accuracy:.0%} of the digits read right", fontsize=12, loc="left")
    axes.text(STEPS * 0.98, 0.06, f"overlap with the plate: {now.overlap:.2f}", color="#777777", ha="right")
    axes.text(GUIDED + 6, 0.14, "guidance ends", color=FREE_COLOR)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Train, draw every moment, and save them as one moving picture."""
    scenes, windows, moments = train(first_model())
    pictures = [draw(scenes, windows, moments[: n + 1]) for n in range(len(moments))]
    durations = [PAUSE if it.step in (0, GUIDED, STEPS) else MILLISECONDS for it in moments]
    path = DOCS / "images" / "moving.webp"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=durations, loop=0, quality=65, method=6)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, {moments[-1].accuracy:.0%} in the end")


if __name__ == "__main__":
    main()
