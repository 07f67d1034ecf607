"""Many threads that call one layer, and workers of a data loader, get the bits that one thread gets."""

import threading

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from supervised_st import (
    MotionWindowTarget,
    RegressiveGuidance,
    SupervisedSpatialTransformer,
    TemporalCorrelationPooling,
    affine_sample,
)
from tests.helpers.remembered import forget_calls

THREADS, ROUNDS = 8, 5


class Everything(nn.Module):
    """One layer of each kind."""

    def __init__(self):
        super().__init__()
        localization = nn.Sequential(nn.Flatten(), nn.Linear(2 * 6 * 7, 3), nn.Tanh())
        self.look = SupervisedSpatialTransformer(localization, (3, 4), features=3, scale=0.6)
        nn.init.normal_(self.look.head.weight, std=0.1)
        self.target = MotionWindowTarget((3, 2))
        self.guide = RegressiveGuidance("grid_mse")
        self.pool = TemporalCorrelationPooling("correlation")

    def forward(self, seed):
        """All results for the inputs of a seed, and gradients."""
        g = torch.Generator().manual_seed(seed)
        image, flow = torch.randn(2, 2, 6, 7, generator=g), torch.randn(2, 3, 2, 6, 7, generator=g)
        image.requires_grad_()
        window = self.target(flow)
        glimpse = self.look(image)
        narrow = affine_sample(image, glimpse.theta, (2, 2 + seed % 3), padding_mode="border")
        loss = self.guide(glimpse.theta, window.theta) + glimpse.image.square().sum() + narrow.square().sum()
        gradients = torch.autograd.grad(loss, (image, *self.look.parameters()))
        pooled = self.pool(glimpse.image.detach().flatten(2))
        return [it.detach() for it in (*window, *glimpse, narrow, loss, pooled, *gradients)]


class Samples(Dataset):
    def __init__(self, model):
        self.model = model

    def __len__(self):
        return 6

    def __getitem__(self, seed):
        return self.model(seed)


def test_threads_that_share_layers_get_the_bits_of_one_thread():
    model, wrong = Everything(), []
    want = [model(seed) for seed in range(THREADS)]
    start = threading.Barrier(THREADS)

    def work(seed):
        for _ in range(ROUNDS):
            if start.wait() == 0:  # all begin together, and the first calls of all kinds are made again
                forget_calls()
            found = model(seed)
            if not all(map(torch.equal, found, want[seed])):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_a_data_loader_get_the_bits_of_their_parent(method):
    """Workers start after the parent has made calls of every kind, whose records they inherit or make themselves."""
    if method not in torch.multiprocessing.get_all_start_methods():
        pytest.skip(f"there is no {method} on this system")
    samples = Samples(Everything())
    want = [samples[seed] for seed in range(len(samples))]
    loader = DataLoader(samples, batch_size=None, num_workers=2, multiprocessing_context=method)
    for found, true in zip(loader, want, strict=True):
        assert all(map(torch.equal, found, true))
