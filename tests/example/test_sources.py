"""Digests of the videos' content: other content is another digest, and nothing is read twice for nothing."""

import os
import shutil

import pytest

from examples.mpii_cooking.data import sources
from examples.mpii_cooking.data.dataset import DataError
from examples.mpii_cooking.data.sources import read_contents
from tests.helpers.small_videos import moving_patch, write_images


@pytest.fixture
def videos(tmp_path):
    """Two files and a folder of images."""
    for name, content in (("a.avi", b"first"), ("b.avi", b"other")):
        (tmp_path / name).write_bytes(content)
    write_images(tmp_path / "c", moving_patch(3, 0), "{}.png")
    return {name: tmp_path / name for name in ("a.avi", "b.avi", "c")}


@pytest.fixture
def read(videos, tmp_path, monkeypatch):
    """Read all contents; return the digests and the names of the files that were opened for it."""

    def read(**options):
        opened, sha256 = [], sources.sha256
        with monkeypatch.context() as patch:
            patch.setattr(sources, "sha256", lambda path: opened.append(path.name) or sha256(path))
            found = read_contents(videos, tmp_path / "sources.json", **options)
            return {key: source.digest for key, source in found.items()}, opened

    return read


def in_place(path, content):
    path.write_bytes(content)


def by_rename(path, content):
    aside = path.with_suffix(".new")
    aside.write_bytes(content)
    aside.replace(path)


@pytest.mark.parametrize("exchange", [in_place, by_rename])
def test_other_content_of_the_same_size_and_time_is_another_video(videos, read, exchange):
    before, _ = read()
    stat = videos["a.avi"].stat()
    exchange(videos["a.avi"], b"FIRST")
    os.utime(videos["a.avi"], ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (videos["a.avi"].stat().st_size, videos["a.avi"].stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    assert read(trust_mtime=True) == (before, []), "only this is asked for"
    after, opened = read()
    assert opened == ["a.avi"]
    assert {key for key in videos if before[key] != after[key]} == {"a.avi"}


def test_every_file_is_read_once(read):
    first, opened = read()
    assert sorted(opened) == ["0.png", "1.png", "2.png", "a.avi", "b.avi"]
    assert read() == (first, [])


def test_a_copy_is_read_again_unless_its_time_is_trusted(videos, read, tmp_path):
    first, all_files = read()
    for path in videos.values():
        away = path.replace(tmp_path / "away")
        (shutil.copytree if away.is_dir() else shutil.copy2)(away, path)
        (shutil.rmtree if away.is_dir() else os.unlink)(away)
    assert read(trust_mtime=True) == (first, [])
    assert read() == (first, all_files)
    assert read() == (first, [])


def test_every_image_and_its_name_count(videos, read):
    digests = [read()[0]["c"]]
    (videos["c"] / "1.png").write_bytes((videos["c"] / "0.png").read_bytes())
    digests.append(read()[0]["c"])
    (videos["c"] / "2.png").rename(videos["c"] / "3.png")
    digests.append(read()[0]["c"])
    (videos["c"] / "3.png").unlink()
    assert len({*digests, read()[0]["c"]}) == 4


@pytest.mark.parametrize("note", ["", "{", "no"])
def test_what_was_forgotten_is_read_again(read, tmp_path, note):
    first, all_files = read()
    (tmp_path / "sources.json").write_text(note)
    assert read() == (first, all_files)
    assert read() == (first, [])


def test_a_video_that_changes_while_it_is_read_is_an_error(videos, tmp_path, monkeypatch):
    def grow(path, content=sources.content):
        digest = content(path)
        if path == videos["b.avi"]:
            path.write_bytes(b"longer")
        return digest

    monkeypatch.setattr(sources, "content", grow)
    with pytest.raises(DataError, match=r"b\.avi was changed while it was read"):
        read_contents(videos, tmp_path / "sources.json")
