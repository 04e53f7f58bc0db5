"""Check the size of pictures before any model is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .before_work import Planned


@dataclass(frozen=True)
class _Measures:
    """What ``image_size`` asks of a model; a side of 0 becomes one that always fits."""

    size_multiple: int

    @property
    def default_size(self) -> tuple[int, int]:
        return self.size_multiple, self.size_multiple


def check_size(node: Planned) -> None:
    """Raise ``InputError`` if the linked model is known not to make pictures of this width and height."""
    from ..rollouts.sample import image_size

    sides = (node.values.get("width"), node.values.get("height"))
    width, height = (side if isinstance(side, int) else 0 for side in sides)
    multiple = _size_multiple(node.origin("model"))
    if multiple is not None:
        model: Any = _Measures(multiple)
        image_size(model, width, height)


def _size_multiple(loader: Planned | None) -> int | None:
    """Return what sides are multiples of, in pixels; None if only the loaded model knows it."""
    from ..models import families, loading

    source = None if loader is None else loader.values.get("source")
    if loader is None or not isinstance(source, dict):
        return None
    if source["source"] == "bundled" and source.get("model") in loading.BUNDLED:
        return families.size_multiple(loading.bundled_folder(source["model"]))
    if source["source"] == "diffusers folder":
        folder = loader.machine.model_files("diffusers").get(str(source.get("folder")))
        return None if folder is None else families.size_multiple(folder)
    return None
