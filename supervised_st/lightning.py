"""For Lightning, which only this module imports: ``pip install lightning``."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from supervised_st.guidance import RegressiveGuidance


class GuidanceSteps(Callback):
    """Calls ``step`` of every `RegressiveGuidance` inside a module after each of its optimizer steps.

    These are fewer than its batches if gradients are accumulated. The state of guidance is part of the module's, so a
    resumed run continues with it. Not for manual optimization with several steps in one batch.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember how many optimizer steps were made before."""
        self._steps = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Count an optimizer step, if there was one."""
        if trainer.global_step > self._steps:
            self._steps = trainer.global_step
            for module in pl_module.modules():
                if isinstance(module, RegressiveGuidance):
                    module.step()
