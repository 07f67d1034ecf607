"""The example's data: annotation files, videos, caches and samples, checked against what they were made from."""

import gc
import multiprocessing
import random
import struct
import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.mpii_cooking import flow, mpii, plan, video
from examples.mpii_cooking.clips import Clip, DataError
from examples.mpii_cooking.config import PRESETS, levels
from examples.mpii_cooking.corpus import open_corpus
from examples.mpii_cooking.prepare import prepare, window_side
from examples.mpii_cooking.samples import ClipSamples, FrameSamples, Sample, Samples, View, batches, chunks
from examples.mpii_cooking.workspace import Workspace
from supervised_st.geometry import flip_theta, theta_to_window, window_to_theta
from supervised_st.motion import MotionWindowTarget
from supervised_st.sampling import affine_sample

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
PRESET = PRESETS["smoke"]
DETAIL = levels(PRESET)[2]

needs_mpii = pytest.mark.skipif(not (DATA / "mpii_cooking").is_dir(), reason="the annotation file is not here")
needs_gestures = pytest.mark.skipif(not (DATA / "egogestar").is_dir(), reason="the gesture videos are not here")


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


def write(path: Path, frames: list[np.ndarray], codec: str = "mpeg4") -> Path:
    with video.new_video(path, codec, 25) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def truncate(path: Path) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classes")
    for index, name in enumerate(("left", "right")):
        for number in (1, 2, 10):
            write(folder / name / f"{number}.avi", moving_patch(11 + number % 3, 10 * index + number))
    return open_corpus(folder)


@pytest.fixture(scope="session")
def caches(corpus, tmp_path_factory):
    return prepare(corpus, PRESET, Workspace(tmp_path_factory.mktemp("work")))


# Annotations


@needs_mpii
def test_the_real_annotations_are_counted_as_published():
    intervals = mpii.parse_annotations(DATA / "mpii_cooking" / "detectionGroundtruth-1-0.csv")
    assert mpii.summary(intervals) == (
        "5609 intervals, 3748 labelled in 64 classes, 1861 background, 1715 train and 2033 test clips"
    )
    labelled = [interval for interval in intervals if interval.category != mpii.BACKGROUND]
    assert Counter(interval.subject for interval in labelled) == {
        **dict(zip(mpii.TEST_SUBJECTS, (326, 312, 151, 433, 152, 345, 314), strict=True)),
        **dict(zip(mpii.TRAIN_SUBJECTS, (362, 371, 349, 252, 381), strict=True)),
    }
    names = {interval.name for interval in intervals}
    assert "take & put in fridge" in names
    assert all(name == name.strip() and "\\" not in name for name in names)


@pytest.fixture
def real_corpus(monkeypatch):
    """Read the real annotations as if their videos were here."""
    monkeypatch.setattr(mpii, "_find_videos", lambda folder, names, context: dict.fromkeys(names, folder))
    return lambda split=None: open_corpus(DATA / "mpii_cooking", split)


@needs_mpii
def test_the_majority_class_scores_what_the_collapsed_network_of_the_paper_scored(real_corpus):
    corpus = real_corpus()
    train, test = (Counter(corpus.classes[clip.label] for clip in clips) for clips in (corpus.train, corpus.test))
    ((constant, most),) = train.most_common(1)
    assert (constant, most, train.total()) == ("take out from drawer", 128, 1715)
    assert (test[constant], test.total()) == (130, 2033)
    assert real_corpus(mpii.choose_split("fixed5")) == corpus
    assert corpus.has_paper_protocol
    assert corpus.split.endswith("fixed5: trained on subjects 11, 12, 13, 14, 15, tested on 8, 10, 16, 17, 18, 19, 20")


@needs_mpii
@pytest.mark.parametrize(
    ("fold", "test_clips"), [(8, 326), (10, 312), (16, 151), (17, 433), (18, 152), (19, 345), (20, 314)]
)
def test_a_fold_trains_on_everyone_but_its_subject(real_corpus, fold, test_clips):
    corpus = real_corpus(mpii.choose_split("loso7", fold))
    assert (len(corpus.train), len(corpus.test)) == (3748 - test_clips, test_clips)
    assert 3315 <= len(corpus.train) <= 3597
    assert {clip.video[:4] for clip in corpus.test} == {f"s{fold:02d}-"}
    assert len({clip.video[:4] for clip in corpus.train} - {f"s{fold:02d}-"}) == 11
    assert f"{3748 - test_clips} train and {test_clips} test clips; loso7-{fold}: trained on" in corpus.split
    assert corpus.split.endswith(f"tested on {fold}")
    assert not corpus.has_paper_protocol
    assert corpus.classes == real_corpus().classes
    assert corpus.videos == real_corpus().videos, "one preparation serves every split"


@pytest.mark.parametrize(("name", "fold", "match"), [
    ("loso7", None, "needs a fold, one of subjects 8, 10, 16, 17, 18, 19, 20, got None"),
    ("loso7", 11, "needs a fold, one of subjects 8, 10, 16, 17, 18, 19, 20, got 11"),
    ("fixed5", 8, "only split loso7 has folds, got fold 8 with fixed5"),
])  # fmt: skip
def test_a_fold_and_its_split_must_fit(name, fold, match):
    with pytest.raises(DataError, match=match):
        mpii.choose_split(name, fold)


@pytest.mark.parametrize("split", [mpii.FIXED5, mpii.choose_split("loso7", 8)], ids=lambda split: split.name)
def test_without_subjects_there_is_nothing_to_split_by(corpus, split):
    folder = corpus.videos["left/1.avi"].parents[1]
    with pytest.raises(DataError, match=f"split {split.name} needs an annotation file .* has none"):
        open_corpus(folder, split)


@needs_mpii
def test_all_missing_videos_are_listed_at_once(tmp_path):
    csv = tmp_path / "detectionGroundtruth-1-0.csv"
    csv.write_bytes((DATA / "mpii_cooking" / csv.name).read_bytes())
    write(tmp_path / "videos" / "s08-d02-cam-002.avi", moving_patch(3, 0))
    (tmp_path / "s08-d04-cam-002.avi").write_bytes(b"no video")
    with pytest.raises(mpii.MissingVideosError, match="1715 train and 2033 test clips, but 43 of 44 videos") as caught:
        open_corpus(tmp_path)
    message = str(caught.value)
    assert message.count("is missing") == 42
    assert "s08-d04-cam-002.avi cannot be read as a video" in message
    assert "s08-d02" not in message


def test_every_bad_row_is_listed_with_its_number(tmp_path):
    rows = {
        "8,s08,1,10,2,cut": None,
        "8,s08,1,10,2": "must have 6 fields, got 5",
        "8,../s08,1,10,2,cut": "file_name must be a plain name",
        "8,s08,0,10,2,cut": "start_frame must be a positive whole number, got '0'",
        "8,s08,5,4,2,cut": "end_frame must not lie before start_frame, got 5 to 4",
        "x,s08,1,10,2,cut": "subject must be a positive whole number, got 'x'",
        "8,s08,1,10,3, ": "category_name must not be empty",
        "8,s08,20,30,2,peel": "names category 2 'peel', row 1 'cut'",
        "9,s08,40,50,2,cut": "gives this video subject 9, row 1 8",
        " ": "must have 6 fields, got 1",
    }
    path = tmp_path / "rows.csv"
    path.write_text("".join(f"{row}\n" for row in [*rows, "8,s08,1,10,2,cut"]))
    with pytest.raises(mpii.AnnotationError, match="has 10 bad rows") as caught:
        open_corpus(tmp_path)
    listed = str(caught.value).splitlines()[1:]
    problems = [(row, text) for row, text in enumerate([*rows.values(), "repeats row 1"], start=1) if text]
    for line, (row, text) in zip(listed, problems, strict=True):
        assert line.startswith(f"  row {row}: {text}")


@pytest.mark.parametrize("name", ["../up", "/root", "C:\\x", "a/b", "..", "", "a\0b", "x" * 200, ".hidden", "ä"])
def test_a_file_name_cannot_lead_out_of_the_folder(tmp_path, name):
    path = tmp_path / "rows.csv"
    path.write_text(f"8,{name},1,10,2,cut\n")
    with pytest.raises(mpii.AnnotationError, match="file_name must be a plain name"):
        mpii.parse_annotations(path)


def test_an_empty_annotation_file_is_refused(tmp_path):
    (tmp_path / "rows.csv").touch()
    with pytest.raises(mpii.AnnotationError, match="has no rows"):
        open_corpus(tmp_path)


def test_training_and_test_subjects_must_both_be_there(tmp_path):
    (tmp_path / "rows.csv").write_text("8,s08,1,10,2,cut\n8,s08,11,12,1, Background activity\n")
    with pytest.raises(mpii.AnnotationError, match="got 0 and 1"):
        open_corpus(tmp_path)


def test_frames_are_counted_from_zero_and_background_is_no_class(tmp_path):
    for name in ("s08", "s11"):
        write(tmp_path / "videos" / f"{name}.avi", moving_patch(12, 0))
    rows = ("8,s08,1,10,7,take \\& put", "11,s11,3,3,5,cut", "8,s08,11,12,1, Background activity", "9,s09,1,2,5,cut")
    (tmp_path / "rows.csv").write_text("".join(f"{row}\n" for row in rows))
    corpus = open_corpus(tmp_path)
    assert corpus.classes == ("cut", "take & put")
    assert corpus.test == (Clip("s08", 0, 10, 1, "rows.csv row 1"),)
    assert corpus.train == (Clip("s11", 2, 3, 0, "rows.csv row 2"),)
    assert set(corpus.videos) == {"s08", "s11"}


# Folders of classes


def test_classes_are_split_in_natural_order(corpus):
    assert corpus.classes == ("left", "right")
    assert [clip.video for clip in corpus.train] == ["left/1.avi", "left/2.avi", "right/1.avi", "right/2.avi"]
    assert [clip.video for clip in corpus.test] == ["left/10.avi", "right/10.avi"]
    assert [len(clip) for clip in corpus.train + corpus.test] == [12, 13, 12, 13, 12, 12]
    assert "(4 clips)" in corpus.split
    assert not corpus.has_paper_protocol


@needs_gestures
def test_the_gesture_videos_open():
    corpus = open_corpus(DATA / "egogestar")
    assert (len(corpus.classes), len(corpus.train), len(corpus.test)) == (10, 80, 40)
    clip = corpus.test[0]
    assert sum(1 for _ in video.decode(corpus.videos[clip.video])) == len(clip)


def test_names_with_a_dot_are_not_data(tmp_path):
    for name in ("left", "right", ".plan"):
        for number in (1, 2):
            write(tmp_path / name / f"{number}.avi", moving_patch(3, number))
    (tmp_path / "left" / "._1.avi").write_bytes(b"a resource fork")
    for name in (".123.rows.csv", "._rows.csv"):
        (tmp_path / name).write_bytes(b"half a row")
    corpus = open_corpus(tmp_path)
    assert corpus.classes == ("left", "right")
    assert sorted(corpus.videos) == ["left/1.avi", "left/2.avi", "right/1.avi", "right/2.avi"]


def test_what_a_class_folder_leaves_out_is_named(tmp_path, caplog):
    for name in ("left", "right"):
        for number in (1, 2):
            write(tmp_path / name / f"{number}.avi", moving_patch(3, number))
    write(tmp_path / "left" / "3.avi", moving_patch(3, 3)).rename(tmp_path / "left" / "3.M4V")
    (tmp_path / "right" / "3.raw").touch()
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "1.gif").touch()
    assert "left/3.M4V" in open_corpus(tmp_path).videos
    assert len(caplog.messages) == 1
    assert caplog.messages[0].endswith(": right/3.raw, up/")


def test_a_plan_leaves_no_class_in_the_data_folder(tmp_path):
    for name in ("left", "right"):
        for number in (1, 2):
            write(tmp_path / name / f"{number}.avi", moving_patch(12, number))
    corpus = open_corpus(tmp_path)
    plan.make(corpus, PRESET, tmp_path, torch.device("cpu"))
    assert list(tmp_path.rglob("excerpt.avi"))
    assert open_corpus(tmp_path) == corpus


def test_a_plan_needs_disk_for_what_is_not_written_yet(corpus, tmp_path, monkeypatch):
    for stage in ("_training_cost", "_feature_cost"):
        monkeypatch.setattr(plan, stage, lambda *_: plan.Cost("", "", 0.0, 2e9))
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda folder: SimpleNamespace(free=3e9))
    written = tmp_path / "models"
    written.mkdir()
    with pytest.raises(plan.NotEnoughDiskError, match=r"still needs 4\.0 GB in .*, but its disk has 3\.0 GB"):
        plan.make(corpus, PRESET, tmp_path, torch.device("cpu"), written=[written])
    with (written / "weights").open("wb") as file:
        file.truncate(2 * 10**9)
    assert "total" in plan.make(corpus, PRESET, tmp_path, torch.device("cpu"), written=[written])


def test_a_folder_of_neither_form_is_refused(tmp_path):
    with pytest.raises(DataError, match="must be an existing folder"):
        open_corpus(tmp_path / "nowhere")
    with pytest.raises(DataError, match="must hold an annotation file"):
        open_corpus(tmp_path)
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"got 2 in .*: a\.csv, b\.csv"):
        open_corpus(tmp_path)


def test_all_broken_videos_of_the_classes_are_listed(tmp_path):
    for name in ("left", "right"):
        write(tmp_path / name / "1.avi", moving_patch(3, 0))
    (tmp_path / "left" / "2.avi").touch()
    with pytest.raises(DataError, match="cannot be used") as caught:
        open_corpus(tmp_path)
    assert "left/2.avi cannot be read as a video" in str(caught.value)
    assert "class right must have at least two videos" in str(caught.value)


# Videos


def test_a_lossless_cache_is_exact_in_any_order(tmp_path):
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (31, 47), dtype=np.uint8) for _ in range(40)]
    cache = video.FrameCache(write(tmp_path / "flow.mkv", frames, "ffv1"))
    for index in random.Random(0).choices(range(40), k=100):
        np.testing.assert_array_equal(cache[index], frames[index])
    with pytest.raises(IndexError, match="has no frame 40"):
        cache[40]
    np.testing.assert_array_equal(cache[39], frames[39])


def test_a_picture_cache_reads_the_same_in_any_order(tmp_path):
    frames = moving_patch(20, 3)
    path = write(tmp_path / "rgb.mkv", frames, "mjpeg")
    in_order = list(video.decode(path))
    cache = video.FrameCache(path)
    for index in random.Random(0).choices(range(20), k=60):
        np.testing.assert_array_equal(cache[index], in_order[index])
    assert np.abs(in_order[0].astype(int) - frames[0]).mean() < 5  # noise is the worst case


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (truncate, r"cut\.avi is truncated: its header announces 60 frames, \d+ could be read"),
        (lambda path: path.write_bytes(b""), r"cut\.avi is broken after frame 0"),
        (lambda path: path.write_bytes(b"x" * 1000), r"cut\.avi is broken after frame 0"),
        (lambda path: path.unlink(), r"cut\.avi is broken after frame 0: No such file"),
    ],
    ids=["truncated", "empty", "other", "missing"],
)
def test_a_damaged_video_is_named(tmp_path, damage, match):
    path = write(tmp_path / "cut.avi", moving_patch(60, 0))
    damage(path)
    with pytest.raises(video.VideoError, match=match):
        list(video.decode(path))


def cut_without_coding(path: Path, first: int, target: Path) -> Path:
    """Let ``target`` begin at frame ``first``: an edit list hides the frames before it."""
    with av.open(str(path)) as whole, av.open(str(target), mode="w") as part:
        source = whole.streams.video[0]
        stream = part.add_stream_from_template(source)
        for packet in whole.demux(source):
            if packet.size > 0:
                earlier = round(first / source.average_rate / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - earlier, packet.dts - earlier, stream
                part.mux(packet)
    return target


@pytest.mark.parametrize("first", [5, 17])
@pytest.mark.parametrize("frames", [20, None], ids=["both ends", "start"])
def test_frames_hidden_by_a_cut_are_not_missed(tmp_path, first, frames):
    whole = write(tmp_path / "whole.mp4", [np.full((48, 64, 3), 4 * now, np.uint8) for now in range(60)])
    path = cut_without_coding(whole, first, tmp_path / "cut.mp4")
    if frames is not None:
        content = bytearray(path.read_bytes())
        milliseconds = content.index(b"elst") + 12  # the first entry's duration
        struct.pack_into(">I", content, milliseconds, 40 * frames)
        path.write_bytes(content)
    found, shown = list(video.decode(path)), list(video.decode(whole))[first:][:frames]
    assert video.count_frames(path) == len(found) == len(shown)
    np.testing.assert_array_equal(found, shown)


def test_a_video_in_the_making_is_not_there(tmp_path):
    def fail_half_way():
        with video.new_video(tmp_path / "a.avi", "mpeg4") as writer:
            writer.write(moving_patch(1, 0)[0])
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail_half_way()
    with pytest.raises(ValueError, match="at least one frame"):
        write(tmp_path / "b.avi", [])
    assert list(tmp_path.iterdir()) == []


def test_the_memory_of_frames_is_bounded_and_drops_the_oldest():
    memory = video.FrameMemory(capacity=30)
    loads = []

    def load(key: int) -> np.ndarray:
        return memory.get(key, lambda: loads.append(key) or np.zeros(10, np.uint8))

    for key in (0, 1, 2, 0, 3, 0, 1):
        load(key)
    assert loads == [0, 1, 2, 3, 1]
    assert memory.held == 30


# Flow


@settings(max_examples=50, deadline=None)
@given(st.floats(-20, 20), st.floats(0.5, 20))
def test_eight_bits_keep_a_displacement_to_one_step(displacement, bound):
    u, v = flow.quantise(np.full((1, 1, 2), displacement), bound).ravel().tolist()
    decoded = (u - 128) * 2 * bound / 255
    assert u == v
    assert abs(decoded - np.clip(displacement, -bound, bound)) <= 2 * bound / 255


@pytest.mark.parametrize("bound", [8.0, 20.0])
def test_eight_bits_saturate_at_the_bound(bound):
    step = 2 * bound / 255
    displacements = np.array([-1e6, -bound - step, -bound, -bound + step, bound - step, bound, bound + step, 1e6])
    u, v = flow.quantise(np.stack([displacements, -displacements], axis=-1)[None], bound)
    assert u.tolist() == [[0, 0, 0, 1, 254, 255, 255, 255]]
    assert v.tolist() == [[255, 255, 255, 254, 1, 0, 0, 0]]


def test_no_motion_is_exactly_128():
    assert (flow.quantise(np.zeros((3, 4, 2)), 8.0) == 128).all()


@pytest.mark.parametrize("method", ["dis", "tvl1"])
def test_flow_follows_a_shift_of_the_picture(method):
    texture = cv2.GaussianBlur(np.random.default_rng(0).uniform(0, 255, (80, 100)).astype(np.float32), (0, 0), 2)
    film = [np.roll(texture * 3 - 255, (now, 2 * now), (0, 1)).clip(0, 255).astype(np.uint8) for now in range(4)]
    found = list(flow.flows(film, flow.estimator(method), 8.0))
    u, v = (np.median((part[20:-20, 20:-20].astype(float) - 128) * 16 / 255) for part in found[0])
    assert (u, v) == pytest.approx((2, 1), abs=0.1)
    assert len(found) == len(film)
    np.testing.assert_array_equal(found[-1], found[-2])
    assert [part.tolist() for part in flow.flows(film[:1], flow.estimator(method), 8.0)] == [[[[128] * 100] * 80] * 2]


@pytest.mark.parametrize("size", [(112, 149), (128, 136), (200, 131), (1, 1)], ids=str)
def test_raft_gets_sides_and_values_it_can_take_and_gives_each_pixel_its_own_flow(size):
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 256, (2, *size), dtype=np.uint8)

    def network(*images: torch.Tensor) -> list[torch.Tensor]:
        """As u and v, the gray values of both pictures: so whatever moves or scales pixels shows."""
        for image, picture in zip(images, (first, second), strict=True):
            assert (image.dtype, image.shape[:2]) == (torch.float32, (1, 3))
            for side, wanted in zip(image.shape[2:], size, strict=True):
                assert side % 8 == 0
                assert max(128, wanted) <= side < max(129, wanted + 8)
            assert image.abs().max() <= 1
            assert torch.equal(image, image[:, :1].expand_as(image))
            assert set(gray(image).unique().tolist()) == set(picture.ravel().tolist()), "margins repeat the edge"
        return [torch.full_like(images[0][:, :2], torch.nan), torch.cat([gray(image) for image in images], dim=1)]

    def gray(image: torch.Tensor) -> torch.Tensor:
        return (image[:, :1] * 127.5 + 127.5).round()

    found = flow.raft(network, torch.device("cpu"))(first, second)
    np.testing.assert_array_equal(found, np.stack([first, second], axis=-1))


def test_what_raft_lacks_is_named(tmp_path, monkeypatch):
    weights = tmp_path / "raft.pth"
    for missing in (None, str(weights)):
        with pytest.raises(
            DataError, match=r"needs a file with torchvision's weights, such as .*, got (None|.*raft\.pth)"
        ):
            flow.estimator("raft", missing)
    weights.touch()
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(DataError, match=r"needs torchvision, built for torch .*: pip install torchvision"):
        flow.estimator("raft", str(weights))
    with pytest.raises(DataError, match=r"weights belong to flow raft, got .*raft\.pth with flow dis"):
        flow.estimator("dis", str(weights))


@pytest.mark.parametrize("name", ["raft_small", "raft_large"])
def test_torchvisions_raft_runs(tmp_path, name):
    optical_flow = pytest.importorskip("torchvision.models.optical_flow")
    weights = tmp_path / "raft.pth"
    torch.save(getattr(optical_flow, name)().state_dict(), weights)
    found = flow.estimator("raft", str(weights))(*np.zeros((2, 112, 149), np.uint8))
    assert (found.shape, found.dtype) == ((112, 149, 2), np.float32)
    weights.write_bytes(b"no weights")
    with pytest.raises(DataError, match="must hold weights of torchvision's raft_large or raft_small"):
        flow.estimator("raft", str(weights))


# Preparation


def stack_of(cache, frame: int) -> torch.Tensor:
    """The centred stack, from -5 to +4, straight from the cached flow."""
    numbers = np.clip(np.arange(frame - 5, frame + 5), 0, cache.frames - 1).tolist()
    return torch.from_numpy(np.stack([cache.flow(DETAIL, number) for number in numbers]))


def test_caches_hold_every_frame_at_every_level(corpus, caches):
    key = "left/2.avi"
    cache, frames = caches[key], list(video.decode(corpus.videos[key]))
    assert cache.frames == len(frames) == 13
    for level in levels(PRESET):
        assert cache.rgb(level, 12).shape == (level.height, cache.width(level), 3)
        assert cache.flow(level, 12).shape == (2, level.height, cache.width(level))
        large = cv2.resize(frames[12], (cache.width(level), level.height), interpolation=cv2.INTER_AREA)
        assert np.abs(cache.rgb(level, 12).astype(int) - large).mean() < 6


def test_prepared_profiles_equal_a_search_in_the_cached_flow(caches):
    for cache in caches.values():
        for level in levels(PRESET):
            search = MotionWindowTarget(window_side(PRESET, level), bound=PRESET.flow_bound)
            stacks = torch.stack([stack_of(cache, frame) for frame in range(cache.frames)])
            direct = search.profile(stacks)
            score, row = cache.profile(level, slice(None))
            np.testing.assert_array_equal(score, direct.score.numpy())
            np.testing.assert_array_equal(row, direct.row.numpy())


def test_prepared_scores_are_sums_over_windows_one_by_one(caches):
    cache = caches["left/10.avi"]
    stored = video.FrameCache(cache._unit.path("flow.mkv"))
    raw = np.stack([stored[number] for number in range(cache.frames)])
    flows = (raw.reshape(cache.frames, 2, PRESET.flow_height, -1) - 128.0) * 2 * PRESET.flow_bound / 255
    level = levels(PRESET)[0]
    side = window_side(PRESET, level)
    for frame in (0, 6, cache.frames - 1):
        around = np.clip(np.arange(frame - 5, frame + 5), 0, cache.frames - 1)
        motion = (flows[around] ** 2).sum(1).mean(0)
        height, width = motion.shape
        sums = np.array(
            [
                [motion[y : y + side, x : x + side].sum() for x in range(width - side + 1)]
                for y in range(height - side + 1)
            ]
        )
        score, row = cache.profile(level, frame)
        np.testing.assert_allclose(score, sums.max(0), rtol=1e-10)  # maps are rounded to 2^-52 of their sum
        np.testing.assert_allclose(sums[row, np.arange(len(row))], sums.max(0), rtol=1e-10)


def test_flow_is_resized_as_a_map_while_its_values_stay_displacements_of_the_flow_grid(tmp_path):
    for name in ("left", "right"):
        for number in (1, 2):
            write(tmp_path / name / f"{number}.avi", moving_patch(3, number, size=(48, 96)))
    general, _, detail = levels(PRESET)
    preset = replace(PRESET, flow_height=2 * general.height)
    cache = prepare(open_corpus(tmp_path), preset, Workspace(tmp_path / "work"))["left/1.avi"]
    raw = video.FrameCache(cache._unit.path("flow.mkv"))[1].reshape(1, 2, preset.flow_height, -1)
    assert np.ptp(raw) > 20, "with values scaled by the zoom this test would fail"
    raw = torch.from_numpy(raw).float()
    smaller = torch.nn.functional.avg_pool2d(raw, 2)[0]
    larger = torch.nn.functional.interpolate(raw, (detail.height, cache.width(detail)), mode="bilinear")[0]
    for level, expected in ((general, smaller), (detail, larger)):
        torch.testing.assert_close(torch.from_numpy(cache.flow(level, 1)).float(), expected, rtol=0, atol=1)


def test_preparation_keeps_nothing_of_the_frames_it_is_past(tmp_path, monkeypatch):
    for name, number in product(("left", "right"), (1, 2)):
        write(tmp_path / name / f"{number}.avi", moving_patch(100 if (name, number) == ("left", 1) else 3, 0))
    held = []

    def counted(path: Path, decode=video.decode) -> Iterator[np.ndarray]:
        for count, frame in enumerate(decode(path)):
            if count in (30, 90):
                gc.collect()
                tensors = sum(type(thing) is torch.Tensor for thing in gc.get_objects())
                held.append((tensors, tracemalloc.get_traced_memory()[0]))
            yield frame

    monkeypatch.setattr(video, "decode", counted)
    monkeypatch.setattr("examples.mpii_cooking.prepare._PARALLEL", 1)
    tracemalloc.start()
    prepare(open_corpus(tmp_path), PRESET, Workspace(tmp_path / "work"))
    tracemalloc.stop()
    (tensors, memory), (later_tensors, later_memory) = held
    assert later_tensors == tensors
    assert later_memory - memory < 60 * 256  # bytes, of all frames in between


def test_a_second_preparation_only_reads(corpus, tmp_path, monkeypatch):
    prepare(corpus, PRESET, Workspace(tmp_path))
    monkeypatch.setattr(video, "decode", lambda path: pytest.fail(f"{path} was decoded again"))
    prepare(corpus, PRESET, Workspace(tmp_path))


def test_all_unusable_videos_are_named_before_any_is_prepared(tmp_path, monkeypatch):
    for name in ("left", "right"):
        for number in (1, 2):
            write(tmp_path / name / f"{number}.avi", moving_patch(60, number))
    corpus = open_corpus(tmp_path)
    truncate(tmp_path / "left" / "2.avi")
    write(tmp_path / "right" / "1.avi", moving_patch(4, 0, size=(64, 48)))
    write(tmp_path / "right" / "2.avi", moving_patch(4, 0))
    monkeypatch.setattr(video, "decode", lambda path: pytest.fail(f"{path} was decoded"))
    with pytest.raises(DataError, match="3 problems with the videos") as caught:
        prepare(corpus, PRESET, Workspace(tmp_path / "work"))
    assert "left/2.avi is truncated" in str(caught.value)
    assert "right/1.avi must be at least as wide as high, got 48 x 64" in str(caught.value)
    assert "right/2.avi has 4 frames, but its clip of frames 1 to 60 (right/2.avi) needs more" in str(caught.value)


def test_clips_beyond_the_end_of_their_video_are_listed(corpus, caches, tmp_path):
    beyond = tuple(Clip("left/1.avi", 5, stop, 0, f"rows.csv row {stop}") for stop in (12, 13, 14))
    with pytest.raises(DataError, match="2 problems with the videos") as caught:
        prepare(replace(corpus, train=beyond), PRESET, Workspace(tmp_path))
    assert "has 12 frames, but its clip of frames 6 to 13 (rows.csv row 13) needs more" in str(caught.value)
    assert "row 14" in str(caught.value)


# Samples


class OneView(Samples):
    """A single, given view."""

    chosen: View

    def view(self, index: int) -> View:
        return self.chosen


def sample_of(corpus, caches, view: View, modality: str, level=DETAIL, preset=PRESET) -> Sample:
    samples = OneView(corpus.train, caches, level, modality, preset)
    samples.chosen = view
    return samples[0]


def same(one: Sample, other: Sample) -> bool:
    return all(map(torch.equal, one, other))


@pytest.mark.parametrize("column", [0, 7, 37])
@pytest.mark.parametrize("flipped", [False, True])
def test_a_target_is_the_window_with_the_most_motion_in_the_crop(corpus, caches, column, flipped):
    view = View(clip=1, frame=6, column=column, flipped=flipped)
    cache = caches[corpus.train[1].video]
    crop = (column, 0, DETAIL.height, DETAIL.height)
    direct = MotionWindowTarget(PRESET.glimpse, bound=PRESET.flow_bound)(stack_of(cache, 6)[None], crop=crop)
    expected = flip_theta(direct.theta) if flipped else direct.theta
    assert torch.equal(sample_of(corpus, caches, view, "spatial").theta, expected)


@pytest.mark.parametrize("level", levels(PRESET), ids=lambda level: level.name)
@pytest.mark.parametrize("modality", ["spatial", "temporal"])
def test_mirroring_a_sample_mirrors_what_its_window_shows(corpus, caches, level, modality):
    view = View(clip=0, frame=5, column=3, flipped=False)
    plain, mirrored = (
        sample_of(corpus, caches, view._replace(flipped=flip), modality, level) for flip in (False, True)
    )
    size = (PRESET.glimpse, PRESET.glimpse)
    expected = affine_sample(plain.image, plain.theta, size).flip(-1)
    if modality == "temporal":
        expected[:, 0::2] *= -1
    glimpse = affine_sample(mirrored.image, mirrored.theta, size)
    torch.testing.assert_close(glimpse, expected, rtol=0, atol=1e-4)


def test_images_are_the_cached_frames_about_their_mean(corpus, caches):
    view = View(clip=0, frame=5, column=3, flipped=False)
    cache = caches[corpus.train[0].video]
    spatial = sample_of(corpus, caches, view, "spatial").image[0] / PRESET.rgb_gain
    mean = torch.tensor([123.68, 116.779, 103.939])[:, None, None]
    pixels = torch.from_numpy(cache.rgb(DETAIL, 5)).permute(2, 0, 1)[..., 3 : 3 + DETAIL.height]
    torch.testing.assert_close(spatial + mean, pixels.float(), rtol=0, atol=1e-3)
    temporal = sample_of(corpus, caches, view, "temporal").image[0] / PRESET.flow_gain + 128
    assert torch.equal(temporal, stack_of(cache, 5).flatten(0, 1)[..., 3 : 3 + DETAIL.height].float())


@pytest.mark.parametrize("zoom", [2, 4])
def test_a_window_from_a_coarser_flow_grid_is_scaled_up(corpus, tmp_path, zoom):
    preset = replace(PRESET, flow_height=112 // zoom)
    caches = prepare(corpus, preset, Workspace(tmp_path))
    side = PRESET.glimpse // zoom
    numbers = np.clip(np.arange(1, 11), 0, 11).tolist()
    cache = caches["left/1.avi"]
    flows = [cache._memory.read(cache._unit.path("flow.mkv"), number) for number in numbers]
    stack = torch.from_numpy(np.stack(flows).reshape(1, 10, 2, preset.flow_height, -1))
    crop = (zoom, 0, 112 // zoom, 112 // zoom)
    direct = MotionWindowTarget(side, bound=preset.flow_bound)(stack, crop=crop)
    view = View(clip=0, frame=6, column=zoom * zoom, flipped=False)
    expected = window_to_theta(direct.window * zoom, (112, 112))
    assert torch.equal(sample_of(corpus, caches, view, "spatial", preset=preset).theta, expected)


@pytest.mark.parametrize("seed", range(8))
def test_from_a_finer_flow_grid_the_best_window_of_each_column_counts(corpus, caches, monkeypatch, seed):
    level, column, side = levels(PRESET)[0], seed % 6, PRESET.glimpse
    cache = caches[corpus.train[0].video]
    rng = np.random.default_rng(seed)
    score, row = rng.integers(0, 9, 52) / 8, rng.integers(0, 15, 52)  # few values, hence ties
    monkeypatch.setattr(cache, "profile", lambda level, frame: (score, row))
    zoom, room = level.height / PRESET.flow_height, level.height - side
    best: dict[int, tuple[float, int]] = {}
    for left in range(len(score)):
        x = min(round(left * zoom), cache.width(level) - side) - column
        if 0 <= x <= room and score[left] > best.get(x, (-1.0, 0))[0]:
            best[x] = score[left], min(round(row[left] * zoom), room)
    _, y, x = min((-value, y, x) for x, (value, y) in best.items())
    expected = window_to_theta(torch.tensor([[x, y, side, side]]), (level.height, level.height))
    view = View(clip=0, frame=6, column=column, flipped=False)
    assert torch.equal(sample_of(corpus, caches, view, "spatial", level).theta, expected)


def test_without_motion_the_window_is_central_and_not_trusted(tmp_path):
    for name in ("left", "right"):
        for number in (1, 2):
            write(tmp_path / name / f"{number}.avi", moving_patch(1, number))
    corpus = open_corpus(tmp_path)
    samples = ClipSamples(
        corpus.train, prepare(corpus, PRESET, Workspace(tmp_path / "work")), DETAIL, "temporal", PRESET, augment=True
    )
    sample = samples[0]
    assert torch.equal(sample.theta, torch.tensor([[[0.25, 0, 0], [0, 0.25, 0]]]))
    assert sample.confidence.tolist() == [0]
    assert not sample.image.any()


def test_samples_depend_on_seed_epoch_and_index_alone(corpus, caches):
    clips = corpus.train * 8

    def drawn(seed: int = 0, epoch: int = 0) -> list[View]:
        preset = replace(PRESET, seed=seed)
        samples = ClipSamples(clips, caches, DETAIL, "spatial", preset, augment=True, epoch=epoch)
        torch.rand(3)
        return [samples.view(index) for index in reversed(range(len(samples)))][::-1]

    views = drawn()
    assert views == drawn()
    assert views != drawn(seed=1)
    assert views != drawn(epoch=1)
    assert {view.flipped for view in views} == {True, False}
    assert all(clips[view.clip].start <= view.frame < clips[view.clip].stop for view in views)
    assert all(0 <= view.column <= 37 for view in views)
    assert len({view.corner for view in views}) > 16


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_loader_processes_change_nothing(corpus, caches):
    def loaded(workers: int) -> list[Sample]:
        preset = replace(PRESET, workers=workers)
        samples = ClipSamples(corpus.train, caches, DETAIL, "temporal", preset, augment=True)
        return list(batches(samples, chunks(samples.shuffled(), 3)))

    state = torch.get_rng_state()
    alone, together = loaded(0), loaded(2)
    assert [len(batch.label) for batch in alone] == [3, 1]
    assert all(same(*pair) for pair in zip(alone, together, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def loaded_in_order(folder: Path, work: Path, epoch: int) -> list[Sample]:
    corpus = open_corpus(folder)
    caches = prepare(corpus, PRESET, Workspace(work))
    samples = ClipSamples(corpus.train, caches, DETAIL, "temporal", PRESET, augment=True, epoch=epoch)
    return list(batches(samples, chunks(samples.shuffled(), 3)))


def test_a_restart_changes_nothing(corpus, caches):
    """A new process goes on in the second epoch, without having seen the first."""
    first = corpus.videos["left/1.avi"]
    work = caches["left/1.avi"]._unit.folder.parents[2]
    here = [loaded_in_order(first.parents[1], work, epoch) for epoch in (0, 1)][1]
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        there = pool.submit(loaded_in_order, first.parents[1], work, 1).result()
    assert all(same(*pair) for pair in zip(here, there, strict=True))


def test_random_windows_are_whole_pixel_windows_anywhere_in_the_crop(corpus, caches):
    level, side = levels(PRESET)[1], PRESET.glimpse
    samples = ClipSamples(corpus.train * 16, caches, level, "spatial", PRESET, augment=True)
    batch = samples.__getitems__(range(len(samples)))
    windows = theta_to_window(batch.random.double(), (level.height, level.height))
    corners = windows[:, :2].round().int()
    torch.testing.assert_close(windows[:, :2], corners.double(), rtol=0, atol=1e-4)
    assert corners.min() == 0
    assert corners.max() == level.height - side
    assert len(corners.unique(dim=0)) > 50
    glimpses = affine_sample(batch.image, batch.random, (side, side))
    crops = [image[:, y : y + side, x : x + side] for image, (x, y) in zip(batch.image, corners.tolist(), strict=True)]
    torch.testing.assert_close(glimpses, torch.stack(crops), rtol=0, atol=1e-4)


def test_where_nothing_is_drawn_the_window_is_the_centre(corpus, caches):
    samples = ClipSamples(corpus.train, caches, DETAIL, "spatial", PRESET, augment=False)
    assert torch.equal(samples[0].random, torch.tensor([[[0.25, 0, 0], [0, 0.25, 0]]]))


def test_an_order_is_a_permutation_of_its_own_epoch(corpus, caches):
    orders = [
        ClipSamples(corpus.train * 8, caches, DETAIL, "spatial", PRESET, augment=True, epoch=epoch).shuffled()
        for epoch in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[2]) == list(range(32))


def test_frame_samples_visit_every_clip_in_order(corpus, caches):
    samples = FrameSamples(corpus.test + corpus.train, caches, DETAIL, "spatial", PRESET)
    batch = samples.__getitems__(range(len(samples)))
    assert samples.lengths == [3, 3, 3, 4, 3, 4]
    assert batch.clip.tolist() == np.repeat(range(6), samples.lengths).tolist()
    assert batch.frame.tolist() == [0, 4, 8] * 3 + [0, 4, 8, 12] + [0, 4, 8] + [0, 4, 8, 12]
    centre = (caches["left/10.avi"].width(DETAIL) - DETAIL.height) // 2
    assert same(samples[1], sample_of(replace(corpus, train=corpus.test), caches, View(0, 4, centre, False), "spatial"))
