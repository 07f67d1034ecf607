"""Draw where the windows of one setting of ``attention.py`` are after guidance, and after free training in two ways.

python benchmarks/attention_picture.py [FILE]    docs/images/attention.png by default; about a minute
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from matplotlib.figure import Figure

from benchmarks.attention import FREE, GUIDED, Setting, Training, scenes
from benchmarks.saving import ROOT
from supervised_st.geometry import corners

SETTING = Setting("digits", "affine", "medium", "Adam", 0)
SHOWN = 4  # test scenes
STEPS = 20, 40  # at the full rate
MARGIN = 1.7  # half of a panel's side; the image's is 1


def draw(path: Path) -> None:
    """Train, and save a panel for each of some test scenes."""
    training, test = scenes(SETTING.task)
    guided = Training.start(SETTING).run(training, GUIDED)
    soon, later = (guided.fork(free_pace=1).run(training, steps) for steps in STEPS)
    ways = {
        "when guidance ends": (guided, "#56B4E9", "--"),
        f"at full rate, {STEPS[0]} steps later": (soon, "#F3B08A", "-"),
        f"at full rate, {STEPS[1]} steps later": (later, "#D55E00", "-"),
        f"by default, {FREE} steps later": (guided.fork().run(training, FREE), "#F0E442", "-"),
    }
    figure = Figure(figsize=(11, 3.3), layout="constrained")
    panels = figure.subplots(1, SHOWN, subplot_kw={"xticks": [], "yticks": [], "facecolor": "#777777"})
    for panel, image in zip(panels, test.image[:SHOWN], strict=True):
        panel.imshow(image[0], cmap="gray", vmin=0, vmax=1, extent=(-1, 1, 1, -1))
        panel.set(xlim=(-MARGIN, MARGIN), ylim=(MARGIN, -MARGIN))
    for name, (way, color, style) in ways.items():
        with torch.no_grad():
            outlines = corners(way.model.look.localize(test.image[:SHOWN]))[:, [0, 1, 2, 3, 0]]
        for panel, outline in zip(panels, outlines, strict=True):
            panel.plot(*outline.T, style, color=color, linewidth=2.5, label=name)
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=len(ways),
        fontsize=11,
        columnspacing=1,
    )
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    torch.set_num_threads(1)
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images" / "attention.png")
