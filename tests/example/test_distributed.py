"""Several processes do what one does: the same steps to the bit or to the order of additions, the same results."""

import multiprocessing
import os
import pickle
import signal
import socket
import time
from datetime import timedelta
from itertools import product

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from examples.mpii_cooking import distributed, interrupts
from examples.mpii_cooking.config import PhaseSettings
from examples.mpii_cooking.training import train
from examples.mpii_cooking.training.checkpoints import load_history
from examples.mpii_cooking.training.runs import Run, build
from examples.mpii_cooking.variants import Modality, Phase, Variant
from examples.mpii_cooking.workspace import Workspace
from tests.example.test_train import EpochWithSigterm, without_time
from tests.helpers.made_up_samples import CLASSES, DETAIL, GENERAL, PRESET, Epoch, changed, made_up
from tests.helpers.programs import run_python

RUNS = (
    Run(Phase.GUIDANCE, Modality.SPATIAL, DETAIL, "vgg-m", Variant.SSTN),
    Run(Phase.RECOGNITION, Modality.TEMPORAL, GENERAL),
)
PARTS = {7: "1 for 2 ranks", 4: "2 for 2 ranks", 2: "4 for 2 ranks"}
"""Size of sub-batches -> their number in a batch of 7; the last batch, of 5, has almost as many."""


def test_a_process_ends_whose_parent_was_killed_before_it_watched():
    run_python("-m", "tests.example.programs.late_watch", timeout=30)  # returns when both have ended


def test_a_process_ends_whose_torchrun_was_killed_while_it_was_starting(monkeypatch):
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]
    places = {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "RANK": 0, "WORLD_SIZE": 2, "TORCHELASTIC_RUN_ID": 0}
    for name, value in (places | {"TORCHELASTIC_USE_AGENT_STORE": True}).items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(distributed, "FIRST_CONTACT", timedelta(seconds=1))
    monkeypatch.setattr(interrupts, "end_with_parent", lambda: None)
    with pytest.raises(distributed.OtherRankFailed, match="torchrun cannot be reached"), distributed.joined():
        pass


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


def fit_with_faults(folder, rank):
    """Train with a pixel of rank 1 that is no number, then with SIGTERM to rank 1 in the middle of an epoch."""
    rows = made_up(12, GENERAL, Modality.TEMPORAL)
    broken = rows._replace(image=rows.image.clone())
    broken.image[11, 0, 5, 5] = float("nan")  # the last of three sub-batches: the second step's second one
    run, preset = RUNS[1], changed(PRESET, batch=7, sub_batch=4, recognize=PhaseSettings(epochs=2, rate=1e-3))

    def fit(name, samples):
        unit = Workspace(folder).unit(name, {})
        train.fit(run, build(run, CLASSES, preset), preset, unit, lambda epoch: samples(epoch))

    fit("flawed", lambda epoch: Epoch([broken if epoch == 1 else rows]))
    signal.signal(signal.SIGTERM, interrupts.note_sigterm)
    stopped = failure(lambda: fit("stopped", lambda epoch: (EpochWithSigterm if rank == 1 else Epoch)([rows])))
    steps = load_history(Workspace(folder).unit("stopped", {})).steps
    interrupts._has_sigterm = False
    fit("stopped", lambda epoch: Epoch([rows]))
    return stopped, steps


def refuse(item):
    if item == 3:
        raise ValueError(f"{item} is refused")
    return item


def failure(work):
    try:
        work()
    except (ValueError, RuntimeError, interrupts.Stopped) as error:
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
        "nested": failure(lambda: distributed.once(lambda: distributed.once(lambda: rank))),
        "together again": distributed.once(lambda: rank),
        "stopped": fit_with_faults(folder, rank),
    }
    (folder / f"rank-{rank}").write_bytes(pickle.dumps(answers))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """What one process wrote, and what two together."""
    alone, together = (tmp_path_factory.mktemp(name) for name in ("alone", "together"))
    fit_all(alone)
    fit_with_faults(alone, rank=0)
    torch.multiprocessing.spawn(work_as, (together,), nprocs=2)
    return alone, together


def outcomes(folders, name):
    units = [Workspace(folder).unit(name, {}) for folder in folders]
    return [(load_file(unit.path("epoch-0002.safetensors")), without_time(load_history(unit))) for unit in units]


@pytest.mark.parametrize("sub_batch", [7, 4], ids=PARTS.get)
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_two_ranks_with_at_most_two_sub_batches_train_to_the_very_bits_of_one_process(folders, run, sub_batch):
    (weights, history), (shared_weights, shared_history) = outcomes(folders, f"{run.name}-{sub_batch}")
    assert all(torch.equal(shared_weights[name], weights[name]) for name in weights | shared_weights)
    assert shared_history == history


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_more_sub_batches_are_added_up_in_another_order(folders, run):
    (weights, history), (shared_weights, shared_history) = outcomes(folders, f"{run.name}-2")
    torch.testing.assert_close(shared_weights, weights, rtol=0, atol=2e-7)
    assert shared_history.loss == pytest.approx(history.loss, rel=1e-6)
    assert shared_history.measure == pytest.approx(history.measure, rel=1e-6)


def test_a_loss_that_is_not_finite_on_one_rank_stops_the_step_on_all(folders):
    (weights, history), (shared_weights, shared_history) = outcomes(folders, "flawed")
    assert all(torch.equal(shared_weights[name], weights[name]) for name in weights | shared_weights)
    assert shared_history == history
    assert history.skipped == ("the loss is nan in epoch 2, step 2: of 5 samples, from row 11",)


def test_sigterm_to_one_rank_ends_all_after_the_same_step_and_training_resumes_to_the_same_bits(folders):
    first, second = (pickle.loads((folders[1] / f"rank-{rank}").read_bytes())["stopped"] for rank in (0, 1))
    assert first == second == ("Stopped: ", 1)
    (weights, history), (shared_weights, shared_history) = outcomes(folders, "stopped")
    assert all(torch.equal(shared_weights[name], weights[name]) for name in weights | shared_weights)
    assert shared_history == history


def test_ranks_share_items_and_all_have_every_result_in_order(folders):
    answers = [pickle.loads((folders[1] / f"rank-{rank}").read_bytes()) for rank in (0, 1)]
    assert [answer["share"] for answer in answers] == [range(0, 5, 2), range(1, 5, 2)]
    for answer in answers:
        assert answer["map"] == [(0, 0), (1, 1), (2, 0), (3, 1), (4, 0)]
        assert answer["map of nothing"] == []
        assert answer["once"] == (0, 2)
        assert answer["together again"] == 0


REFUSED = "must not be called by the work of one of them"


def test_what_all_ranks_must_call_is_refused_inside_of_what_they_share(folders):
    first, second = (pickle.loads((folders[1] / f"rank-{rank}").read_bytes())["nested"] for rank in (0, 1))
    assert first.startswith(f"RuntimeError: shared_map, once, barrier and add_up {REFUSED}")
    assert second.startswith("OtherRankFailed: rank 0 failed: RuntimeError(")


@pytest.mark.parametrize(
    "inner",
    [
        lambda: distributed.once(lambda: 1),
        lambda: distributed.shared_map(str, [1]),
        distributed.barrier,
        lambda: distributed.add_up([]),
    ],
    ids=["once", "shared_map", "barrier", "add_up"],
)
@pytest.mark.parametrize("outer", [distributed.once, lambda work: distributed.shared_map(lambda _: work(), [1])])
def test_a_single_process_refuses_it_too_so_that_tests_find_it(outer, inner):
    with pytest.raises(RuntimeError, match=REFUSED):
        outer(inner)
    assert distributed.once(lambda: 1) == 1


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


SOON = 60.0  # seconds in which all have ended after one has failed


class EpochWithFault(Epoch):
    """Something happens whenever samples are loaded."""

    def __init__(self, batches, fault):
        super().__init__(batches)
        self.fault = fault

    def __getitems__(self, indices):
        self.fault()
        return super().__getitems__(indices)


def fail():
    raise ValueError("a sample is broken")


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def fit_three_epochs(folder, fault=None):
    """Train; if there is a fault, it happens in the second epoch."""
    rows = [made_up(12, GENERAL, Modality.TEMPORAL)]
    run, preset = RUNS[1], changed(PRESET, batch=7, sub_batch=4, recognize=PhaseSettings(epochs=3, rate=1e-3))
    unit = Workspace(folder).unit("run", {})

    def samples(epoch):
        return EpochWithFault(rows, fault) if fault and epoch == 1 else Epoch(rows)

    train.fit(run, build(run, CLASSES, preset), preset, unit, samples)


def fit_as(rank, folder, fault):
    """What one of three ranks does; the last has no sub-batches. Rank 1 has a fault. All say how and when they end."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=3)
    train.CHECKPOINT_SECONDS = 0.0

    def timed_fault():
        (folder / "fault").write_bytes(pickle.dumps(time.time()))
        fault()

    ended = failure(lambda: fit_three_epochs(folder, timed_fault if rank == 1 else None))
    (folder / f"rank-{rank}").write_bytes(pickle.dumps((ended, time.time())))
    os._exit(0)  # as run_all does


@pytest.mark.parametrize(("fault", "code"), [(fail, 0), (die, -signal.SIGKILL)], ids=["fails", "is killed"])
def test_when_a_rank_fails_or_is_killed_all_end_soon_and_another_number_of_ranks_goes_on(tmp_path, fault, code):
    shared, whole = tmp_path / "shared", tmp_path / "whole"
    shared.mkdir()
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=fit_as, args=(rank, shared, fault)) for rank in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, code, 0]
    if fault is fail:
        assert pickle.loads((shared / "rank-1").read_bytes())[0] == "ValueError: a sample is broken"
    began = pickle.loads((shared / "fault").read_bytes())
    for rank in (0, 2):
        ended, when = pickle.loads((shared / f"rank-{rank}").read_bytes())
        assert ended.startswith(f"OtherRankFailed: rank {rank} cannot reach the others: ")
        assert when - began < SOON
    assert load_history(Workspace(shared).unit("run", {})).epochs == 1
    for folder in (shared, whole):
        fit_three_epochs(folder)
    (weights, history), (other_weights, other_history) = (
        (load_file(folder / "run" / "epoch-0003.safetensors"), load_history(Workspace(folder).unit("run", {})))
        for folder in (whole, shared)
    )
    assert all(torch.equal(other_weights[name], weights[name]) for name in weights | other_weights)
    assert without_time(other_history) == without_time(history)
