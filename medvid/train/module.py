"""The training step, as a Lightning module: usable with anybody's own Trainer."""

from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from medvid.build import Spec
from medvid.train.forward import compute_losses
from medvid.train.freeze import find_frozen_norms
from medvid.train.optim import Watch, build_optimizer, build_schedule


class ClipClassifier(lightning.LightningModule):
    """Trains a model on clips.

    Args:
        model: a `VideoModel`.
        criterion: takes logits and target; see `medvid.train.losses`.
        multilabel: several findings an item instead of one class.
        optimizer: name and options.
        schedule: name and options; stepped after every optimizer step.
        steps_per_epoch: optimizer steps.
        total_steps: optimizer steps of the whole training.
        watch: for the schedule `plateau`.
    """

    def __init__(
        self,
        model: nn.Module,
        criterion: nn.Module,
        *,
        multilabel: bool,
        optimizer: Spec,
        schedule: Spec,
        steps_per_epoch: int,
        total_steps: int,
        watch: Watch | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.criterion = criterion
        self.multilabel = multilabel
        self.optimizer_spec = optimizer
        self.schedule_spec = schedule
        self.steps_per_epoch = steps_per_epoch
        self.total_steps = total_steps
        self.watch = watch
        # Outside of the module tree: `train()` would wake them.
        self._still = tuple(find_frozen_norms(model))

    def forward(self, *inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns the model's logits."""
        return self.model(*inputs, mask=mask)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """Returns `loss` to be minimised, `total` (the same, for the log) and its parts."""
        for norm in self._still:
            norm.eval()
        parts = compute_losses(self.model, batch, self.criterion, multilabel=self.multilabel)
        total = torch.stack(list(parts.values())).sum()
        # Lightning divides `loss` by the number of accumulated batches; `total` stays as it is.
        return {"loss": total, "total": total.detach()} | {
            f"part_{name}": value.detach() for name, value in parts.items()
        }

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Builds the optimizer and its schedule, stepped after every optimizer step."""
        optimizer = build_optimizer(self.optimizer_spec, self.model)
        schedule = build_schedule(
            self.schedule_spec,
            optimizer,
            steps_per_epoch=self.steps_per_epoch,
            total_steps=self.total_steps,
            watch=self.watch,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
