"""LoRA layers on a diffusers network, through peft: attach, switch off, remove."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import AdapterConfig

if TYPE_CHECKING:
    from ..data.lora_weights import LoRAWeights

_NAME = "gdro"


@contextmanager
def attached(
    network: nn.Module, config: AdapterConfig, modules: Sequence[str], seed: int
) -> Iterator[dict[str, nn.Parameter]]:
    """Attach a LoRA whose update is exactly zero, and remove it on leaving.

    Its weights are float32 whatever the base's dtype: bfloat16 would swallow AdamW's small steps. It computes
    in the base's dtype: peft would keep a float32 copy of each layer's input for the backward pass.

    Args:
        modules: names of the linear layers that get one.
        seed: of A's values; the global generator is left as it was. B is zero.

    Yields:
        The parameters: ``<module>.lora_A`` and ``<module>.lora_B``.
    """
    from peft import LoraConfig, inject_adapter_in_model

    lora = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # peft divides it; a float is fine
        target_modules=list(modules),
        init_lora_weights=True,
    )
    trainable = {name for name, p in network.named_parameters() if p.requires_grad}
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(lora, network, adapter_name=_NAME)
    for layer in _layers(network).values():
        layer.forward = MethodType(_forward, layer)
    try:
        yield _parameters(network)
    finally:
        _remove(network)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name in trainable)


@contextmanager
def disabled(network: nn.Module) -> Iterator[None]:
    """Switch the LoRA layers off within this context: only their base layers compute."""
    layers = _layers(network)
    for layer in layers.values():
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers.values():
            layer.enable_adapters(True)


@contextmanager
def loaded(network: nn.Module, weights: LoRAWeights, strength: float) -> Iterator[None]:
    """Apply a finished LoRA within this context, its update multiplied by ``strength``."""
    config = AdapterConfig(weights.rank, weights.alpha * strength)
    with attached(network, config, weights.modules, 0) as parameters:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(weights.tensors[name])
        yield


def _forward(layer: Any, x: Tensor) -> Tensor:
    """Compute a LoRA layer in the dtype of its input."""
    out = layer.get_base_layer()(x)
    if layer.disable_adapters:
        return out
    down, up = (part[_NAME].weight.to(x.dtype) for part in (layer.lora_A, layer.lora_B))
    update = F.linear(F.linear(x, down), up) * layer.scaling[_NAME]
    return out + update.to(out.dtype)


def _layers(network: nn.Module) -> dict[str, Any]:
    """Return peft's LoRA layers by module name; peft types them as plain modules."""
    from peft.tuners.lora import LoraLayer

    return {name: m for name, m in network.named_modules() if isinstance(m, LoraLayer)}


def _parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return the LoRA's parameters by name, ready to train."""
    parameters: dict[str, nn.Parameter] = {}
    for name, layer in _layers(network).items():
        parameters[f"{name}.lora_A"] = layer.lora_A[_NAME].weight
        parameters[f"{name}.lora_B"] = layer.lora_B[_NAME].weight
    for parameter in parameters.values():
        parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))
        parameter.requires_grad_(True)
    return parameters


def _remove(network: nn.Module) -> None:
    """Put the base layers back where their LoRA layers are."""
    for name, layer in _layers(network).items():
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, layer.get_base_layer())
    if hasattr(network, "peft_config"):
        del network.peft_config
