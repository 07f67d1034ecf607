"""Several processes do what one does: the same steps to the bit or to the order of additions, the same results."""

import pickle
from datetime import timedelta
from itertools import product

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from examples.mpii_cooking import distributed
from examples.mpii_cooking.config import PhaseSettings
from examples.mpii_cooking.training import train
from examples.mpii_cooking.training.checkpoints import load_history
from examples.mpii_cooking.training.runs import Run, build
from examples.mpii_cooking.variants import Modality, Phase, Variant
from examples.mpii_cooking.workspace import Workspace
from tests.example.test_train import without_time
from tests.helpers.made_up_samples import CLASSES, DETAIL, GENERAL, PRESET, Epoch, changed, made_up

RUNS = (
    Run(Phase.GUIDANCE, Modality.SPATIAL, DETAIL, "vgg-m", Variant.SSTN),
    Run(Phase.RECOGNITION, Modality.TEMPORAL, GENERAL),
)
PARTS = {7: "1 for 2 ranks", 4: "2 for 2 ranks", 2: "4 for 2 ranks"}
"""Size of sub-batches -> their number in a batch of 7; the last batch, of 5, has almost as many."""


def fit_all(folder):
    """Train every run, with dropout, with every sub-batch."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    phase = PhaseSettings(epochs=2, rate=1e-3)
    for run, sub_batch in product(RUNS, PARTS):
        # Adam divides a gradient by its size, and so magnifies the last bits of the smallest ones.
        optimizer = "sgd" if sub_batch == 2 else "adam"
        preset = changed(PRESET, batch=7, sub_batch=sub_batch, guide=phase, recognize=phase, optimizer=optimizer)
        unit = Workspace(folder).unit(f"{run.name}-{sub_batch}", {})
        samples = Epoch([made_up(12, run.level, run.modality)])
        train.fit(run, build(run, CLASSES, preset), preset, unit, lambda epoch, samples=samples: samples)
    torch.set_num_threads(threads)


def refuse(item):
    if item == 3:
        raise ValueError(f"{item} is refused")
    return item


def failure(work):
    try:
        work()
    except (ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def work_as(rank, folder):
    """What one of two ranks does; its answers are left in the folder."""
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2, timeout=timedelta(minutes=2)
    )
    fit_all(folder)
    answers = {
        "share": distributed.share(range(5)),
        "map": distributed.shared_map(lambda item: (item, distributed.rank()), range(5)),
        "map of nothing": distributed.shared_map(lambda item: item, []),
        "failed map": failure(lambda: distributed.shared_map(refuse, range(5))),
        "once": distributed.once(lambda: (rank, distributed.world())),
        "failed once": failure(lambda: distributed.once(lambda: refuse(3))),
        "together again": distributed.once(lambda: rank),
    }
    (folder / f"rank-{rank}").write_bytes(pickle.dumps(answers))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """What one process wrote, and what two together."""
    alone, together = (tmp_path_factory.mktemp(name) for name in ("alone", "together"))
    fit_all(alone)
    torch.multiprocessing.spawn(work_as, (together,), nprocs=2)
    return alone, together


def outcomes(folders, run, sub_batch):
    units = [Workspace(folder).unit(f"{run.name}-{sub_batch}", {}) for folder in folders]
    return [(load_file(unit.path("epoch-0002.safetensors")), without_time(load_history(unit))) for unit in units]


@pytest.mark.parametrize("sub_batch", [7, 4], ids=PARTS.get)
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_two_ranks_with_at_most_two_sub_batches_train_to_the_very_bits_of_one_process(folders, run, sub_batch):
    (weights, history), (shared_weights, shared_history) = outcomes(folders, run, sub_batch)
    assert all(torch.equal(shared_weights[name], weights[name]) for name in weights | shared_weights)
    assert shared_history == history


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_more_sub_batches_are_added_up_in_another_order(folders, run):
    (weights, history), (shared_weights, shared_history) = outcomes(folders, run, 2)
    torch.testing.assert_close(shared_weights, weights, rtol=0, atol=2e-7)
    assert shared_history.loss == pytest.approx(history.loss, rel=1e-6)
    assert shared_history.measure == pytest.approx(history.measure, rel=1e-6)


def test_ranks_share_items_and_all_have_every_result_in_order(folders):
    answers = [pickle.loads((folders[1] / f"rank-{rank}").read_bytes()) for rank in (0, 1)]
    assert [answer["share"] for answer in answers] == [range(0, 5, 2), range(1, 5, 2)]
    for answer in answers:
        assert answer["map"] == [(0, 0), (1, 1), (2, 0), (3, 1), (4, 0)]
        assert answer["map of nothing"] == []
        assert answer["once"] == (0, 2)
        assert answer["together again"] == 0


def test_a_failure_is_raised_where_it_happens_and_ends_the_others_too(folders):
    first, second = (pickle.loads((folders[1] / f"rank-{rank}").read_bytes()) for rank in (0, 1))
    assert second["failed map"] == first["failed once"] == "ValueError: 3 is refused"
    assert first["failed map"] == "OtherRankFailed: rank 1 failed: ValueError('3 is refused')"
    assert second["failed once"] == "OtherRankFailed: rank 0 failed: ValueError('3 is refused')"


def test_a_single_process_has_all_the_work():
    assert distributed.share([1, 2, 3]) == [1, 2, 3]
    assert distributed.shared_map(str, [1, 2, 3]) == ["1", "2", "3"]
    assert distributed.once(distributed.rank) == 0
    with pytest.raises(ValueError, match="3 is refused"):
        distributed.shared_map(refuse, range(5))
