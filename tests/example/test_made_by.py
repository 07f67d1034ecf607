"""What makes a unit: the digests of its code follow the imports, and only what can change a result counts."""

import sys

import numpy as np
import pytest
import torch

from examples.mpii_cooking import made_by as subject
from examples.mpii_cooking.made_by import made_by, made_now

EXAMPLE = "examples.mpii_cooking."
SOURCES = {
    "supervised_st": "from supervised_st.pool import Pool as Pool\nfrom supervised_st.look import look as look\n",
    "supervised_st.pool": "import numpy as np\nclass Pool:\n    size = 3\n",
    "supervised_st.look": "def look():\n    from supervised_st.deep import fast\n    return fast\n",
    "supervised_st.deep": "import torch\nfast = 1\n",
    EXAMPLE + "workspace": "import av\nfrom examples.mpii_cooking import other\n",
    EXAMPLE + "other": "x = 1\n",
    EXAMPLE + "pooled": '"""Pools."""\nfrom supervised_st import Pool\ndef pooled():\n    """Pool."""\n    return 2\n',
    EXAMPLE + "looked": "from examples.mpii_cooking import pooled, workspace\nfrom supervised_st import look\n",
}


@pytest.fixture
def made(monkeypatch):
    """What makes a module, after some text in one of the sources was replaced."""

    def made(module, where="supervised_st", old="", new=""):
        changed = SOURCES | {where: SOURCES[where].replace(old, new)}
        monkeypatch.setattr(subject, "_sources", lambda: {name: text.encode() for name, text in changed.items()})
        for kept in (subject.made_by, subject._module, subject._tree):
            kept.cache_clear()
        return made_by(module)

    yield made
    for kept in (subject.made_by, subject._module, subject._tree):
        kept.cache_clear()


def test_code_is_what_is_imported_by_name_and_what_that_imports(made):
    assert made(EXAMPLE + "pooled")["code"].keys() == {EXAMPLE + "pooled", "supervised_st.pool"}
    inside_functions = {"supervised_st.look", "supervised_st.deep"}
    assert made(EXAMPLE + "looked")["code"].keys() == {
        EXAMPLE + "looked", EXAMPLE + "pooled", "supervised_st.pool", *inside_functions
    }  # fmt: skip


def test_versions_are_those_of_the_packages_that_code_imports(made):
    python = "{}.{}".format(*sys.version_info)
    assert made(EXAMPLE + "pooled")["version"] == {"Python": python, "numpy": np.__version__}
    assert made(EXAMPLE + "looked")["version"] == {
        "Python": python, "numpy": np.__version__, "torch": torch.__version__
    }  # fmt: skip


@pytest.mark.parametrize(("where", "old", "new"), [
    (EXAMPLE + "pooled", "return 2", "return 3"),
    (EXAMPLE + "pooled", "from supervised_st import Pool", "from supervised_st import Pool as Other"),
    ("supervised_st.pool", "size = 3", "size = 4"),
    ("supervised_st.deep", "fast = 1", "fast = 1.0"),
])  # fmt: skip
def test_changed_code_is_seen_where_it_was_changed(made, where, old, new):
    before, after = made(EXAMPLE + "looked"), made(EXAMPLE + "looked", where, old, new)
    assert {name for name in before["code"] if before["code"][name] != after["code"][name]} == {where}
    assert made_now(before) == after


@pytest.mark.parametrize(("where", "old", "new"), [
    (EXAMPLE + "pooled", "def", "# A comment.\n\n\ndef"),
    (EXAMPLE + "pooled", '"""Pool."""', '"""Pool it."""'),
    (EXAMPLE + "pooled", '"""Pools."""\n', ""),
    (EXAMPLE + "pooled", "return 2", "return (2)"),
    (EXAMPLE + "other", "x = 1", "x = 2"),
    (EXAMPLE + "workspace", "import av", "import cv2"),
], ids=["comment", "docstring", "no docstring", "parentheses", "not imported", "keeps results"])  # fmt: skip
def test_what_changes_no_result_does_not_count(made, where, old, new):
    assert made(EXAMPLE + "looked") == made(EXAMPLE + "looked", where, old, new)


def test_a_module_that_is_gone_has_no_digest_now(made):
    before = made(EXAMPLE + "pooled")
    before["code"]["supervised_st.gone"] = "0"
    assert made_now(before)["code"] == before["code"] | {"supervised_st.gone": None}


def test_each_stage_depends_on_what_it_uses():
    def names(module):
        return {name.removeprefix(EXAMPLE) for name in made_by(EXAMPLE + module)["code"]}

    prepared, trained, scored = names("data.preparation"), names("training.train"), names("evaluation.scores")
    assert {"data.video", "data.flow", "supervised_st.motion"} <= prepared
    assert "presets" not in prepared | trained | scored, "what matters of them is in the keys of the units"
    others = ("training", "evaluation", "supervised_st._sampler.kernels")
    assert not [name for name in prepared if name.startswith(others)]
    assert {"training.networks", "data.samples", "data.caches", "supervised_st._sampler.fused"} <= trained
    assert not [name for name in trained if name.startswith("evaluation")]
    assert not {"data.preparation", "data.frames", "data.flow"} & trained
    assert {"evaluation.svm", "supervised_st.pooling"} <= scored
    assert "evaluation.svm" not in names("evaluation.features")
    assert not [name for name in scored if name.startswith(("report", "run_all", "workspace", "storage"))]
    assert "scikit-learn" in made_by(EXAMPLE + "evaluation.scores")["version"]
    assert made_by(EXAMPLE + "data.preparation")["version"].keys() == {"Python", "av", "numpy", "opencv", "torch"}
