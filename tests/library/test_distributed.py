"""Training on two processes, wrapped as the documentation says, gives what one process gives; so do its checkpoints."""

import multiprocessing
import warnings

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from supervised_st import HardSwitch, RegressiveGuidance, SupervisedSpatialTransformer

pytestmark = pytest.mark.skipif(not dist.is_gloo_available(), reason="needs torch with Gloo")


class Training(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        localization = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU())
        self.look = SupervisedSpatialTransformer(localization, 4, features=8, scale=0.5)
        self.classify = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        self.guidance = RegressiveGuidance(schedule=HardSwitch(3))

    def forward(self, image, target, label):
        return self.guidance.objective(
            self.look,
            image,
            target=target,
            task=lambda glimpse: nn.functional.cross_entropy(self.classify(glimpse.image), label),
        )


def train(wrapped, guidance, rows):
    """Three guided steps and three free ones, whose length guidance limits."""
    optimizer, g = torch.optim.SGD(wrapped.parameters(), lr=0.1), torch.Generator().manual_seed(1)
    for _ in range(6):
        image, label = torch.rand(4, 1, 8, 8, generator=g), torch.randint(3, (4,), generator=g)
        loss = wrapped(image[rows], 0.4 * torch.eye(2, 3).expand(len(image[rows]), 2, 3), label[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        guidance.step()


def sharded():
    training, mesh = Training(), init_device_mesh("cpu", (2,))
    fully_shard(training.look, mesh=mesh)
    register_fsdp_forward_method(training.look, "localize")
    return fully_shard(training, mesh=mesh)


def work(rank, folder):
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # theta is a view of what the head returns, about which FSDP2 warns
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    rows = slice(2 * rank, 2 * rank + 2)

    ddp = Training()
    train(nn.parallel.DistributedDataParallel(ddp, find_unused_parameters=True), ddp.guidance, rows)

    fsdp, whole = sharded(), StateDictOptions(full_state_dict=True)
    train(fsdp, fsdp.guidance, rows)
    dcp.save(get_model_state_dict(fsdp), checkpoint_id=folder / "checkpoint")
    loaded = sharded()
    state = get_model_state_dict(loaded)
    dcp.load(state, checkpoint_id=folder / "checkpoint")
    set_model_state_dict(loaded, state)

    found = [ddp.state_dict(), *(get_model_state_dict(model, options=whole) for model in (fsdp, loaded))]
    if rank == 0:
        torch.save(found, folder / "found.pt")
    dist.destroy_process_group()


def test_wrapped_models_learn_what_one_process_learns(tmp_path):
    processes = [multiprocessing.get_context("fork").Process(target=work, args=(rank, tmp_path)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    one = Training()
    train(one, one.guidance, slice(None))
    assert one.guidance.steps == 6
    want = one.state_dict()
    for found in torch.load(tmp_path / "found.pt"):
        assert found.keys() == want.keys()
        for key, value in want.items():
            if key.endswith("_extra_state"):
                other = Training()
                other.load_state_dict(found)
                assert other.guidance.steps == 6
            else:
                torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-6)
