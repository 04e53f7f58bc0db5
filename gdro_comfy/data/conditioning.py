"""Encoded prompts: what a network reads besides latents and noise level."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .damage import REMADE, DamagedFile
from .files import read_safetensors, write_tensors

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Conditioning(ABC):
    """Encoded prompts, in order. What is encoded is the model's business."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of prompts."""

    @abstractmethod
    def select(self, index: Sequence[int] | Tensor) -> Conditioning:
        """Return the prompts at these indices, in this order; an index may repeat."""

    @abstractmethod
    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Conditioning:
        """Return a copy on a device and, if given, in a dtype."""

    @abstractmethod
    def as_file(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Return tensors and header of the file that ``read`` reads."""

    @staticmethod
    def cat(parts: Sequence[Conditioning]) -> Conditioning:
        """Concatenate along the prompts; the parts come from one model.

        Batches of text of different lengths become structures, which ``stacked`` takes apart again.
        """
        import torch

        tensors = [part.tensors for part in parts if isinstance(part, BatchedConditioning)]
        if len(tensors) == len(parts) and len({_shapes(each) for each in tensors}) == 1:
            return BatchedConditioning(
                {name: torch.cat([t[name] for t in tensors]) for name in tensors[0]}
            )
        return StructuredConditioning(tuple(value for part in parts for value in _values(part)))

    def write(self, path: Path) -> None:
        """Write to a safetensors file, atomically."""
        write_tensors(path, *self.as_file())

    @staticmethod
    def read(path: Path) -> Conditioning:
        """Read a file that ``write`` wrote.

        Raises:
            DamagedFile: it cannot be read, or its checksum does not fit.
        """
        tensors, texts = read_safetensors(path, f"{REMADE}.")
        if texts.get("format") != StructuredConditioning.FORMAT:
            if not tensors:
                raise DamagedFile(path, "it is empty", f"{REMADE}.")
            return BatchedConditioning(tensors)
        try:
            return StructuredConditioning.from_file(tensors, texts)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DamagedFile(path, "its structure cannot be read", f"{REMADE}.") from error


@dataclass
class BatchedConditioning(Conditioning):
    """Named tensors whose first dimension is the prompt: all prompts have the same shapes."""

    tensors: dict[str, Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def select(self, index: Sequence[int] | Tensor) -> BatchedConditioning:
        import torch

        indices = torch.as_tensor(index, dtype=torch.long)
        return BatchedConditioning({n: t[indices.to(t.device)] for n, t in self.tensors.items()})

    def to(
        self, device: torch.device | str, dtype: torch.dtype | None = None
    ) -> BatchedConditioning:
        return BatchedConditioning({n: t.to(device, dtype) for n, t in self.tensors.items()})

    def as_file(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        return self.tensors, {}


def stacked(
    conditioning: StructuredConditioning,
) -> Iterator[tuple[list[int], BatchedConditioning]]:
    """Yield the prompts whose tensors have the same shapes as batches, each with their indices."""
    import torch

    alike: dict[Any, list[int]] = {}
    for index, value in enumerate(conditioning.values):
        alike.setdefault(_shapes(value), []).append(index)
    for indices in alike.values():
        values = [conditioning.values[index] for index in indices]
        yield (
            indices,
            BatchedConditioning({name: torch.cat([v[name] for v in values]) for name in values[0]}),
        )


def _shapes(tensors: Mapping[str, Tensor]) -> tuple[Any, ...]:
    """Return the names of tensors, which a file has in any order, and their shapes for one prompt."""
    return tuple((name, *tensors[name].shape[1:]) for name in sorted(tensors))


def _values(conditioning: Conditioning) -> Iterator[Any]:
    """Yield one structure per prompt, each tensor with a first dimension of 1."""
    if isinstance(conditioning, StructuredConditioning):
        yield from conditioning.values
    elif isinstance(conditioning, BatchedConditioning):
        for index in range(len(conditioning)):
            yield {name: t[index : index + 1] for name, t in conditioning.tensors.items()}


def tensors_of(conditioning: Conditioning) -> dict[str, Tensor]:
    """Return the tensors of a batched conditioning.

    Raises:
        TypeError: it is of another kind, and so of another model.
    """
    if not isinstance(conditioning, BatchedConditioning):
        raise TypeError(f"expected a BatchedConditioning, not {type(conditioning).__name__}")
    return conditioning.tensors


@dataclass(frozen=True)
class StructuredConditioning(Conditioning):
    """One structure per prompt: lists and dicts of tensors, numbers and text.

    Prompts may have tensors of different shapes, and options beside them. ComfyUI's CONDITIONING is of
    this kind.
    """

    FORMAT = "gdro structured conditioning 1"

    values: tuple[Any, ...]

    def __len__(self) -> int:
        return len(self.values)

    def select(self, index: Sequence[int] | Tensor) -> StructuredConditioning:
        return StructuredConditioning(tuple(self.values[int(i)] for i in index))

    def to(
        self, device: torch.device | str, dtype: torch.dtype | None = None
    ) -> StructuredConditioning:
        moved: dict[int, Tensor] = {}

        def move(tensor: Tensor) -> Tensor:
            # A prompt that repeats is moved once, and its copies stay one object.
            key = id(tensor)
            if key not in moved:
                moved[key] = tensor.to(device, dtype if tensor.is_floating_point() else None)
            return moved[key]

        return StructuredConditioning(tuple(_map_tensors(value, move) for value in self.values))

    def as_file(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        tensors: dict[str, Tensor] = {}
        structure = [_flatten(value, str(i), tensors) for i, value in enumerate(self.values)]
        return tensors, {"format": self.FORMAT, "structure": json.dumps(structure)}

    @classmethod
    def from_file(
        cls, tensors: Mapping[str, Tensor], header: Mapping[str, str]
    ) -> StructuredConditioning:
        """Rebuild the structures from the tensors and header of a file."""
        structure = json.loads(header["structure"])
        return cls(tuple(_unflatten(value, tensors) for value in structure))


def _map_tensors(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Apply a function to all tensors of a structure."""
    from torch import Tensor

    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: _map_tensors(item, function) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_map_tensors(item, function) for item in value]
    return value


def _flatten(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Move the tensors of a structure into ``tensors``; return the JSON-able rest.

    Raises:
        TypeError: there is something else in it; the message says where.
    """
    from torch import Tensor

    if isinstance(value, Tensor):
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"dict": {k: _flatten(v, f"{name}.{k}", tensors) for k, v in value.items()}}
    if isinstance(value, (list, tuple)):
        return {"list": [_flatten(v, f"{name}.{i}", tensors) for i, v in enumerate(value)]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return {"value": value}
    raise TypeError(f"{name} holds a {type(value).__name__}, which cannot be stored")


def _unflatten(value: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Any:
    """Reverse ``_flatten``."""
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _unflatten(item, tensors) for key, item in content.items()}
    if kind == "list":
        return [_unflatten(item, tensors) for item in content]
    return content
