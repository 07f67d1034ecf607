"""Made-up results of a run: guidance, R_d, late fusion and S+T are all clearly ahead."""

from dataclasses import replace
from itertools import product

import matplotlib.image
import numpy as np

from examples.mpii_cooking import paper
from examples.mpii_cooking.evaluation import schema
from examples.mpii_cooking.evaluation.cells import CLIP_CELLS, POOLING_CELL, FrameCell
from examples.mpii_cooking.evaluation.results import Results
from examples.mpii_cooking.presets import PRESETS
from examples.mpii_cooking.training.weights import RANDOM
from examples.mpii_cooking.variants import Modality, Phase, Region, Variant

CLASSES = (
    "cut carrot at sink",
    "<script>alert('peel')</script>",  # has test clips and no training clip
    "stir & taste",
    "weigh $\\frac$",
    "pour",
    "grate",
    "spice",
    "dry",  # has no test clip
)
CUES = {"thing": (0, 0, 1, 1, 2, 3, 4, 5), "movement": (0, 1, 2, 2, 3, 3, 0, 1), "place": (0, 0, 1, 2, 2, 2, 0, 1)}
TEST_CLIPS, EPOCHS, FRAMES = 60, 4, 5
PRESET = replace(PRESETS["standard"], name="made up")
ACCURACIES = dict.fromkeys(Variant, 0.5) | {Variant.STN: 0.2, Variant.STN_SLOW: 0.15, Variant.SSTN: 0.7}


def made_up_results(seeds=1, *, more_seeds=0, folder=None, **changes):
    """Results of some seeds, and of more that have SSTN and STN of VGG-16 at detail level alone.

    Images of the probe frames are written to ``folder``; without it there are none.
    """
    generator = np.random.default_rng(0)
    labels = generator.integers(0, len(CLASSES) - 1, TEST_CLIPS)
    tested = [(seed, cell) for seed in range(seeds) for cell in frame_cells()]
    closest = [FrameCell(variant, "detail", "vgg-16") for variant in (Variant.SSTN, Variant.STN)]
    tested += [(seeds + seed, cell) for seed in range(more_seeds) for cell in closest]
    streams = [(seed, *stream) for seed in range(seeds) for stream in product(Modality, paper.LEVELS)]
    followed = list(product(range(seeds), PRESET.data.levels, (Variant.STN, Variant.SSTN)))
    trained = np.bincount(labels, minlength=len(CLASSES))
    trained[1], trained[-1] = 0, 1
    made_up = Results(
        settings=PRESET,
        command="python examples/mpii_cooking/run_all.py --preset standard",
        weights=dict.fromkeys(paper.LOCALIZERS, RANDOM),
        dataset=schema.DatasetFacts(
            name="kitchen",
            protocol="Five subjects train.",
            has_paper_protocol=True,
            is_synthetic=True,
            videos=12,
            frames=4800,
            frame_size=(204, 154),
            classes=CLASSES,
            train_clips=tuple(trained.tolist()),
            folder="runs/data",
            cues=CUES,
        ),
        environment=schema.Environment(
            python="3.12.1",
            torch="2.13.0",
            supervised_st="0.1.0",
            platform="Linux",
            cpu="some CPU",
            cores=2,
            threads=2,
            device="cpu",
            commit=None,
            date="2026-11-22T20:30:00+00:00",
        ),
        timings=(schema.StageTime("data", 8.1), schema.StageTime("train", 220.4)),
        labels=labels,
        frame_answers=tuple(schema.FrameAnswers(*each, answers(generator, labels, each[1])) for each in tested),
        overlaps=tuple(overlap(generator, *stream) for stream in streams),
        shown=tuple(np.linspace(0, 1, TEST_CLIPS).tolist()),
        curves=tuple(curve(*stream, *run) for stream in streams for run in RUNS),
        probe_frames=tuple(probe_frames(generator, folder, level) for level in PRESET.data.levels) if folder else (),
        window_paths=tuple(window_path(generator, *each) for each in followed),
        files={"cache": "cache"},
        scores={
            (seed, schema.PooledCell(pooling, cell)): scores(generator, labels, cell)
            for seed in range(seeds)
            for pooling, cells in zip(PRESET.evaluation.poolings, (CLIP_CELLS, [POOLING_CELL]), strict=True)
            for cell in cells
        },
    )
    return replace(made_up, **changes)


RUNS = [
    (Phase.GUIDANCE, "vgg-16", Variant.SSTN),
    (Phase.JOINT, "vgg-16", Variant.SSTN),
    (Phase.JOINT, "vgg-16", Variant.STN),
    (Phase.GUIDANCE, "vgg-f", Variant.SSTN),
    (Phase.RECOGNITION, None, None),
    (Phase.BASELINE, None, Variant.HARD_CODED),
]


def frame_cells():
    cells = [FrameCell(variant, level, localizer) for localizer, level, variant in paper.TABLE_2]
    cells += [FrameCell(*both, None) for both in product((Variant.HARD_CODED, Variant.RANDOM_CROP), paper.LEVELS)]
    return cells + [
        FrameCell(variant, "detail", None if variant is Variant.CENTER else "vgg-16")
        for variant in PRESET.scope.variants
    ]


def answers(generator, labels, cell):
    is_right = generator.random(len(labels)) < ACCURACIES[cell.variant]
    return np.where(is_right, labels, (labels + 1) % len(CLASSES))


def scores(generator, labels, cell):
    """Noisy decision values: the true class is clearer with R_d, with S+T and with late fusion."""
    parts = (cell.region is Region.LEARNED) + (cell.stream == "S+T") + (cell.row == paper.FUSION)
    noise = generator.normal(size=(len(labels), len(CLASSES)))
    return ((0.3 + 0.7 * parts) * np.eye(len(CLASSES))[labels] + noise).astype(np.float32)


def overlap(generator, seed, modality, level):
    """Nothing moves in the first clip."""
    return schema.Overlap(seed, modality, level, (None, *generator.beta(6, 3, TEST_CLIPS - 1)), generator.random())


def curve(seed, modality, level, phase, localizer, variant):
    rising = np.linspace(0.2, 0.8, EPOCHS)
    names = (f"{phase}-{modality}-{level}", phase, modality, level, localizer, variant)
    return schema.Curve(seed, *names, tuple(2 - rising), tuple(rising), seconds=3.2)


def probe_frames(generator, folder, level):
    images = tuple(f"frames/{level.name}-{index}.png" for index in range(FRAMES))
    (folder / "frames").mkdir(exist_ok=True)
    for image in images:
        matplotlib.image.imsave(folder / image, generator.random((level.height, level.height, 3)))
    target = upright(generator, level)[0]
    return schema.ProbeFrames(level.name, images, tuple(range(FRAMES)), (12,) * FRAMES, target)


def window_path(generator, seed, level, variant):
    """Windows that stay upright (SSTN), or that are wide at first and collapse to lines (STN)."""
    thetas = upright(generator, level)
    if variant is Variant.STN:
        thetas[:, :, 1, 1] *= np.linspace(0.5, 0, EPOCHS + 1)[:, None]
    return schema.WindowPath(seed, level.name, variant, thetas)


def upright(generator, level):
    scale = PRESET.data.glimpse / level.height
    thetas = np.tile([[scale, 0, 0], [0, scale, 0]], (EPOCHS + 1, FRAMES, 1, 1))
    thetas[..., 2] = generator.uniform(scale - 1, 1 - scale, (EPOCHS + 1, FRAMES, 2))
    return thetas
