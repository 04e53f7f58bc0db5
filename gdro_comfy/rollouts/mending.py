"""Make anew what is damaged or gone of finished groups: encoded prompts, latents, images, prompts."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ..data.groups import Group, GroupState
from ..imaging import to_pil
from ..models.device_memory import in_parts

if TYPE_CHECKING:
    from PIL import Image

    from ..models.base import FlowModel
    from ..progress import Progress

log = logging.getLogger(__name__)


def clear(groups: Iterable[Group]) -> dict[Group, GroupState]:
    """Set aside what is in the way of going on, write lost prompts, and return what is on disk."""
    found = {}
    for group in groups:
        state = group.state()
        if state.strays or state.lost:
            # Lost images are made from the latents, which are read in full anyway.
            group.set_damaged_aside()
            state = group.state()
        if state.count and not state.has_prompt:
            log.warning("%s was gone or damaged: it is written anew", group.prompt_path)
            group.write_prompt()
        found[group] = state
    return found


def decode_lost(host: Progress, model: FlowModel, lost: Mapping[Group, Sequence[int]]) -> None:
    """Decode lost images from their latents."""
    for done, (group, indices) in enumerate(lost.items(), 1):
        latents = group.latents()[list(indices)]

        def decode(part: slice, latents=latents) -> list[Image.Image]:
            host.check_cancelled()
            return to_pil(model.decode(latents[part].float()))

        parts = in_parts(model, decode, len(indices), 1, "decoding")
        replace_images(group, dict(zip(indices, (i for part in parts for i in part), strict=True)))
        host.progress(done, len(lost), "restoring pictures")


def replace_images(group: Group, images: Mapping[int, Image.Image]) -> None:
    """Write lost images of a group, by index, and note them with its latents."""
    pictures = [picture for chunk in group.chunks() for picture in chunk.pictures]
    for index, image in images.items():
        pictures[index] = group.write_image(index, image)
        log.warning("%s was gone or damaged: it is made anew", group.image_path(index))
    group.rewrite(pictures)
