"""Preview images while training, by the weights that would become the LoRA."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..data.conditioning import Conditioning
from ..data.disk import make_folder
from ..data.files import write_png
from ..data.rollout import Rollout
from ..data.trainings import step_sheet
from ..imaging import contact_sheet
from ..rollouts.sample import sample_images

if TYPE_CHECKING:
    from .trainer import Trainer

_IMAGES = 4


class Previews:
    """Sample one image for each of the first prompts, with the same seeds every time.

    Args:
        rollout: whose prompts and sampler settings are used.
        every: steps between previews, the last step included; 0 makes none.
    """

    def __init__(self, rollout: Rollout, every: int) -> None:
        self.groups, self.settings = rollout.groups()[:_IMAGES], rollout.run.settings
        self.every = every

    def __call__(self, trainer: Trainer, row: dict[str, Any]) -> bool:
        is_last = trainer.step == trainer.config.steps
        if self.every < 1 or (trainer.step % self.every and not is_last):
            return False
        model = trainer.model
        encoded = Conditioning.cat([group.conditioning() for group in self.groups])
        seeds = list(range(len(encoded)))
        with trainer.weights(trainer.result()):
            _, images = sample_images(
                trainer.host, model, encoded.to(model.device), seeds, self.settings
            )
        sheet = contact_sheet(images, _IMAGES)
        make_folder(trainer.training.samples)
        write_png(step_sheet(trainer.training.samples, trainer.step), sheet)
        trainer.host.progress(trainer.step, trainer.config.steps, "training", sheet)
        return False
