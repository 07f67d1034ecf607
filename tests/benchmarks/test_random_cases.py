"""The random cases hold, a few of each kind, and would be seen if they did not."""

import pytest

from benchmarks.reliability import progress, random_cases
from benchmarks.reliability.parser_cases import Edit, damaged
from benchmarks.reliability.random_cases import PROPERTIES, SHORT_CASES, Chunk, try_cases


@pytest.mark.parametrize("name", PROPERTIES)
def test_random_cases_hold(name):
    tried, failures = try_cases(Chunk(name, 0), SHORT_CASES)
    assert tried > 0
    assert not failures, failures[0]


def test_a_million_cases_are_planned():
    assert sum(it.chunks for it in PROPERTIES.values()) * random_cases.CASES >= 1_000_000


@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        ("supervised_st.affine_sample", lambda right: lambda *a, **k: right(*a, **k) + 1e-2),
        (
            "supervised_st.affine_sample",
            lambda right: lambda image, *a, **k: right(image.detach() + 0 * image, *a, **k),
        ),
        ("window_iou", lambda right: lambda *a: right(*a) * 1.0001),
    ],
)
def test_wrong_results_are_seen(place, wrong, monkeypatch):
    module, name = ("library", "windows, overlaps, parameters") if place == "window_iou" else ("sampler", "sampler")
    function = place.rpartition(".")[2]
    right = getattr(getattr(random_cases, module), function)
    monkeypatch.setattr(getattr(random_cases, module), function, wrong(right))
    assert try_cases(Chunk(name, 0), 200).failures


def test_damage_is_what_the_edits_say():
    assert damaged(b"abcdef", [Edit(2, 1, b"XY", 0)]) == b"abXYdef"
    assert damaged(b"abcdef", [Edit(7 + 2, 0, b"", 1), Edit(6, 5, b"!", 8)]) == b"abbdef!"
    assert damaged(b"", [Edit(5, 50, b"", 128)]) == b""


def test_an_error_of_another_kind_is_a_failure(monkeypatch):
    def refuse(case):
        raise RuntimeError(case)

    monkeypatch.setitem(PROPERTIES, "guidance", PROPERTIES["guidance"]._replace(check=refuse))
    tried, failures = try_cases(Chunk("guidance", 0), 5)
    assert tried == len(failures) > 0
    assert "RuntimeError" in failures[0]


class Inline:
    """Processes that are this one."""

    def __init__(self, *_):
        self.map = map

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


@pytest.mark.parametrize(("commit", "again"), [("abc", [2]), ("abc with changes", [0, 1, 2])])
def test_a_run_that_was_stopped_goes_on(monkeypatch, tmp_path, commit, again):
    tried, limit = [], 2

    def attempt(chunk):
        if len(tried) == limit:
            raise KeyboardInterrupt
        tried.append(chunk.number)
        return random_cases.Outcome(10, ["it broke"] if chunk.number == 1 else [])

    monkeypatch.setattr(progress, "ROOT", tmp_path)
    monkeypatch.setattr(progress, "provenance", lambda *_: {"commit": commit})
    monkeypatch.setattr(random_cases, "ProcessPoolExecutor", Inline)
    monkeypatch.setattr(random_cases, "PROPERTIES", {"guidance": PROPERTIES["guidance"]._replace(chunks=3)})
    monkeypatch.setattr(random_cases, "try_cases", attempt)
    with pytest.raises(KeyboardInterrupt):
        list(random_cases.measure(short=False))
    assert tried == [0, 1]
    limit = None
    (figure,) = random_cases.measure(short=False)
    assert tried[2:] == again
    assert (figure.held, figure.tried, figure.failures) == (29, 30, ("it broke",))
