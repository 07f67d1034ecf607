"""A transformer learns where to look: first guided by motion, then free. Takes less than twenty seconds on a CPU.

A hand moves over clutter and holds a tile with one dark corner; the class is which corner. Motion leads to the hand,
where only one corner of the tile is visible. Set free, the window moves and widens until it shows the tile.
"""

import argparse
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supervised_st import HardSwitch, MotionWindowTarget, RegressiveGuidance, SupervisedSpatialTransformer
from supervised_st.geometry import corners, window_iou, window_to_theta
from supervised_st.motion import motion_map
from supervised_st.sampling import affine_sample

SIDE, WINDOW, TILE = 48, 16, 8  # pixels
GUIDED, FREE = 200, 300  # optimizer steps
motion_window = MotionWindowTarget(WINDOW)


def make_scenes(count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Return images (N, 1, 48, 48), their flow (N, 1, 2, 48, 48), the classes (N,), and theta of the tiles in hand."""
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    hand = torch.randint(9, SIDE - 13, (count, 2, 1, 1), generator=generator)  # y, x
    blob = torch.exp(-((rows - hand[:, 0]) ** 2 + (columns - hand[:, 1]) ** 2) / 18)
    image = torch.maximum(0.35 * torch.rand(count, SIDE, SIDE, generator=generator), 0.7 * blob)
    stray = torch.randint(SIDE - TILE, (count, 2, 1, 1), generator=generator)  # a second tile, as a distraction
    stray_label, label = torch.randint(4, (2, count), generator=generator)
    for place, dark in ((stray, stray_label), (hand + 4, label)):
        y, x = rows - place[:, 0], columns - place[:, 1]
        inside = (y >= 0) & (y < TILE) & (x >= 0) & (x < TILE)
        corner = 2 * (y // (TILE // 2)) + x // (TILE // 2)
        image = torch.where(inside, torch.where(corner == dark[:, None, None], 0.1, 1.0), image)
    flow = 3 * torch.randn(count, 1, 2, 1, 1, generator=generator).sign() * blob[:, None, None]
    tile = torch.cat([hand.flatten(1).flip(1) + 4, torch.full((count, 2), TILE)], 1)
    return image[:, None], flow, label, window_to_theta(tile, (SIDE, SIDE))


def convolution(channels: int, filters: int, stride: int) -> nn.Sequential:
    """Return a 3 x 3 convolution with ReLU."""
    return nn.Sequential(nn.Conv2d(channels, filters, 3, stride, padding=1), nn.ReLU())


def share_seen(tile: Tensor, theta: Tensor) -> Tensor:
    """Return how much of the tiles the windows show, on average."""
    points = F.affine_grid(tile, [len(tile), 1, TILE, TILE], align_corners=False).flatten(1, 2) - theta[:, None, :, 2]
    return (torch.linalg.solve(theta[:, :, :2], points.mT).abs() <= 1).all(1).double().mean()


def report(stage: str, scenes: tuple[Tensor, ...], transformer: nn.Module, classifier: nn.Module) -> Tensor:
    """Print where the transformer looks in scenes, and the accuracy; return theta."""
    image, flow, label, tile = scenes
    with torch.no_grad():
        glimpse = transformer(image)
        accuracy = (classifier(glimpse.image).argmax(1) == label).double().mean()
    overlap = window_iou(glimpse.theta, motion_window(flow).theta).mean()
    print(f"{stage:8}{overlap:28.2f}{share_seen(tile, glimpse.theta):21.0%}{accuracy:14.0%}", flush=True)
    return glimpse.theta


def draw(path: str, image: Tensor, flow: Tensor, guided: Tensor, free: Tensor) -> None:
    """Save a scene as a strip: frame, motion and three windows; below each window, its pixels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    top, bottom = figure.subplots(2, 5, height_ratios=[2, 1], subplot_kw={"xticks": [], "yticks": []})
    titles = ("frame", "motion", "window of most motion", "guided: follows motion", "free: follows the task")
    pictures = (image[0, 0], motion_map(flow)[0], *image[0].expand(3, -1, -1))
    for panel, below, picture, title in zip(top, bottom, pictures, titles, strict=True):
        panel.imshow(picture, cmap="gray", extent=(-1, 1, 1, -1))
        panel.set_title(title, fontsize=11)
        below.axis("off")
    for panel, below, theta in zip(top[2:], bottom[2:], (motion_window(flow).theta, guided, free), strict=True):
        panel.plot(*corners(theta[0])[[0, 1, 2, 3, 0]].T, color="#FF7F0E", linewidth=3)
        below.imshow(affine_sample(image, theta, (WINDOW, WINDOW))[0, 0], cmap="gray", vmin=0, vmax=1)
    figure.savefig(path, dpi=100)


def main() -> None:
    """Train with guidance, then without, and report after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", default="quickstart.png", help="where to save the picture")
    picture = parser.parse_args().picture
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    scenes = make_scenes(512, torch.Generator().manual_seed(1))

    transformer = SupervisedSpatialTransformer(
        nn.Sequential(convolution(1, 16, 1), convolution(16, 32, 2), convolution(32, 32, 2), nn.Flatten()),
        size=(WINDOW, WINDOW),
        features=32 * 6 * 6,
        downscale=nn.MaxPool2d(2),
        scale=WINDOW / SIDE,
    )
    classifier = nn.Sequential(convolution(1, 16, 1), convolution(16, 32, 2), nn.Flatten(), nn.Linear(32 * 8 * 8, 4))
    guidance = RegressiveGuidance(schedule=HardSwitch(GUIDED))
    optimizer = torch.optim.Adam([*transformer.parameters(), *classifier.parameters()], lr=2e-3)

    print("        IoU with the motion window    of the tile seen    accuracy")
    report("start", scenes, transformer, classifier)
    for step in range(GUIDED + FREE):
        image, flow, label, _ = make_scenes(64, generator)
        loss = guidance.objective(
            transformer,
            image,
            target=lambda flow=flow: motion_window(flow),
            task=lambda glimpse, label=label: F.cross_entropy(classifier(glimpse.image), label),
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        guidance.step()
        if step + 1 == GUIDED:
            guided = report("guided", scenes, transformer, classifier)
    free = report("free", scenes, transformer, classifier)
    if find_spec("matplotlib"):
        shown = slice(94, 95)  # a scene where the two tiles are close together
        draw(picture, scenes[0][shown], scenes[1][shown], guided[shown], free[shown])
        print(f"picture: {picture}")


if __name__ == "__main__":
    main()
