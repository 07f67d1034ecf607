"""Guidance under Lightning: one step for each step of the optimizer, in an interrupted run as in a whole one."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from supervised_st import HardSwitch, RegressiveGuidance, SupervisedSpatialTransformer

lightning = pytest.importorskip("lightning")

from supervised_st.lightning import GuidanceSteps  # noqa: E402

# Of Lightning itself, in a new version of torch.
pytestmark = pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec:FutureWarning", "ignore:.*:UserWarning")


class Classifier(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        localization = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU())
        self.look = SupervisedSpatialTransformer(localization, 4, features=4, scale=0.5)
        self.classify = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        self.guidance = RegressiveGuidance(schedule=HardSwitch(4))
        self.seen = []

    def training_step(self, batch, _):
        image, target, label = batch
        self.seen.append(self.guidance.steps)
        return self.guidance.objective(
            self.look,
            image,
            target=target,
            task=lambda glimpse: nn.functional.cross_entropy(self.classify(glimpse.image), label),
        )

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def fit(model, epochs, accumulate, checkpoint=None):
    g = torch.Generator().manual_seed(1)
    target = 0.4 * torch.eye(2, 3).expand(10, 2, 3)
    data = TensorDataset(
        torch.rand(10, 1, 8, 8, generator=g), target, torch.randint(3, (10,), generator=g)
    )  # five batches
    trainer = lightning.Trainer(
        max_epochs=epochs, accumulate_grad_batches=accumulate, callbacks=[GuidanceSteps()], accelerator="cpu",
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model, DataLoader(data, batch_size=2), ckpt_path=checkpoint, weights_only=False)
    return trainer


def test_guidance_steps_with_the_optimizer():
    model = Classifier()
    trainer = fit(model, 2, accumulate=2)
    assert model.seen == [0, 0, 1, 1, 2, 3, 3, 4, 4, 5]  # the last batch of an epoch is a step of its own
    assert model.guidance.steps == trainer.global_step == 6


def test_a_resumed_run_ends_as_a_whole_one(tmp_path):
    whole, first, second = Classifier(), Classifier(), Classifier()
    fit(whole, 4, accumulate=2)
    fit(first, 2, accumulate=2).save_checkpoint(tmp_path / "run.ckpt")
    fit(second, 4, accumulate=2, checkpoint=tmp_path / "run.ckpt")
    assert second.guidance.steps == whole.guidance.steps == 12
    torch.testing.assert_close(second.state_dict(), whole.state_dict(), rtol=0, atol=0)
