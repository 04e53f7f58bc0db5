"""Attaching and detaching LoRA layers on a diffusers network, through peft."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .base import AdapterConfig

_NAME = "gdro"


@contextmanager
def attached(
    network: nn.Module, config: AdapterConfig, targets: list[str], seed: int
) -> Iterator[dict]:
    """Attach a fresh LoRA whose output is exactly zero; yield ``{"<module>.lora_A": parameter}``.

    Its weights are float32 whatever the base's dtype: bfloat16 would swallow AdamW's small steps. A is
    drawn from ``seed`` whatever the state of the global generator, which is left alone.
    """
    from peft import LoraConfig, inject_adapter_in_model

    lora = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # peft divides it; a float is fine
        target_modules=targets,
        init_lora_weights=True,
    )
    trainable = {name for name, p in network.named_parameters() if p.requires_grad}
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(lora, network, adapter_name=_NAME)
    try:
        yield _parameters(network)
    finally:
        _remove(network)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name in trainable)


@contextmanager
def disabled(network: nn.Module) -> Iterator[None]:
    """Within this context the LoRA layers pass their base layer's output through."""
    layers = _layers(network)
    for layer in layers.values():
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers.values():
            layer.enable_adapters(True)


@contextmanager
def loaded(network: nn.Module, state: dict[str, Tensor], strength: float) -> Iterator[None]:
    """Within this context a finished LoRA is on. ``state`` is what ``attached`` yields, plus
    ``<module>.alpha``; modules and ranks are taken from it."""
    ranks = {
        key[: -len(".lora_A")]: t.shape[0] for key, t in state.items() if key.endswith(".lora_A")
    }
    rank = next(iter(ranks.values()))
    first = next(iter(ranks))
    alpha = float(state.get(f"{first}.alpha", torch.tensor(float(rank)))) * strength
    with attached(network, AdapterConfig(rank, alpha), list(ranks), 0) as parameters:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(state[name])
        yield


def _layers(network: nn.Module) -> dict[str, Any]:
    """peft's LoRA layers by module name (typed loosely: peft types them as plain modules)."""
    from peft.tuners.lora import LoraLayer

    return {name: m for name, m in network.named_modules() if isinstance(m, LoraLayer)}


def _parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    found: dict[str, nn.Parameter] = {}
    for name, layer in _layers(network).items():
        found[f"{name}.lora_A"] = layer.lora_A[_NAME].weight
        found[f"{name}.lora_B"] = layer.lora_B[_NAME].weight
    for parameter in found.values():
        parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))
        parameter.requires_grad_(True)
    return found


def _remove(network: nn.Module) -> None:
    """Put the original layers back in the place of the LoRA layers around them."""
    for name, layer in _layers(network).items():
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, layer.get_base_layer())
    if hasattr(network, "peft_config"):
        del network.peft_config
