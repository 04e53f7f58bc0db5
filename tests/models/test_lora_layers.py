"""LoRA layers compute in the dtype of the network, on weights in float32."""

import pytest
import torch
from torch import nn

from gdro_comfy.models import lora_layers
from gdro_comfy.models.base import AdapterConfig

CONFIG = AdapterConfig(4, 8.0)


def network(dtype):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 12, dtype=dtype).requires_grad_(False))


def filled(parameters):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return parameters


def test_in_float32_they_equal_pefts_own_to_the_bit():
    module, x = network(torch.float32), torch.randn(3, 16)
    with lora_layers.attached(module, CONFIG, ["0"], 0) as parameters:
        filled(parameters)
        layer = module[0]
        assert torch.equal(module(x), type(layer).forward(layer, x))
        with lora_layers.disabled(module):
            assert torch.equal(module(x), layer.get_base_layer()(x))


def test_in_bfloat16_nothing_is_kept_in_float32_and_gradients_are_right():
    module = network(torch.bfloat16)
    x = torch.randn(64, 16).bfloat16().requires_grad_()
    kept = []

    def keep(tensor):
        kept.append((tensor.dtype, tensor.numel()))
        return tensor

    with lora_layers.attached(module, CONFIG, ["0"], 0) as parameters:
        filled(parameters)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            y = module(x)
        assert (torch.bfloat16, x.numel()) in kept
        assert not any(dtype == torch.float32 for dtype, _ in kept)
        y.float().square().mean().backward()
        down, up = (p.detach().double().requires_grad_() for p in parameters.values())
        weight, bias = (t.double() for t in (module[0].weight, module[0].bias))
        exact = x.double() @ (weight + 2.0 * up @ down).T + bias
        exact.square().mean().backward()
        for parameter, expected in zip(parameters.values(), (down.grad, up.grad), strict=True):
            assert parameter.grad.dtype == torch.float32
            error = (parameter.grad.double() - expected).norm() / expected.norm()
            assert float(error) == pytest.approx(0, abs=0.02)
