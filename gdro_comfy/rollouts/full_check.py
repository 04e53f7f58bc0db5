"""Read groups in full before they are trained on, and make anew what is damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..data.rollout import SAMPLED_WITH
from ..errors import InputError
from .sample import encode_prompts, sample_missing

if TYPE_CHECKING:
    from ..data.rollout import Rollout
    from ..host import Host
    from ..models.base import FlowModel


_CANCEL_EVERY = 64
"""Groups after which to look for cancellation: each is read in a few milliseconds."""


def mend_for_training(host: Host, model: FlowModel, rollout: Rollout) -> None:
    """Read all that a training needs of a rollout, and make anew what is damaged or gone.

    Raises:
        InputError: latents are lost, and this model alone does not make them as they were.
    """
    groups = rollout.groups()
    for number, group in enumerate(groups, 1):
        if not number % _CANCEL_EVERY:
            host.check_cancelled()
        group.set_damaged_aside()
        if group.count() and not group.prompt_path.is_file():
            group.write_prompt()
    counts = [group.count() for group in groups]
    short = [g for g, n in zip(groups, counts, strict=True) if n < rollout.images_per_prompt]
    settings = rollout.run.settings
    if short and (settings.source_digest or SAMPLED_WITH in settings.model):
        raise InputError(
            "rollout",
            f"latents of {len(short)} prompts are damaged or gone, the first in {short[0].folder}",
            "Run the workflow again from the node that made these groups: it makes them anew.",
        )
    if short:
        sample_missing(host, model, rollout)
    unencoded = [group for group in groups if not group.is_encoded()]
    if unencoded:
        host.free_memory()
        with model.active():
            encode_prompts(host, model, unencoded)
