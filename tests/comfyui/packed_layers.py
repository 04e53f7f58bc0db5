"""Linear layers that store their weights in ways of their own, as packs for quantised models have them."""

import comfy.ops
import torch


class Packed(torch.Tensor):
    """Bytes with a scale for each row, as ComfyUI-GGUF's tensors a copy or a detached one is the same."""

    def __new__(cls, data, scale):
        return super().__new__(cls, data)

    def __init__(self, data, scale):
        super().__init__()
        self.scale = scale

    def clone(self, *args, **kwargs):
        return self

    def detach(self):
        return self

    def to(self, *args, **kwargs):
        moved = super().to(*args, **kwargs)
        moved.scale = getattr(self, "scale", None)
        return moved


def packed(weights, layers):
    """Return weights of which some are packed, and the numbers that they stand for."""
    stored, meant = dict(weights), dict(weights)
    for layer in layers:
        weight = weights[f"{layer}.weight"].clone()
        scale = weight.abs().amax(1, keepdim=True) / 127
        data = (weight / scale).round() + 128
        stored[f"{layer}.weight"] = Packed(data.to(torch.uint8), scale)
        meant[f"{layer}.weight"] = (data - 128) * scale
    for key, value in weights.items():  # what is not quantised has the class, too
        if "norm" in key:
            stored[key] = Packed(value, None)
    return stored, meant


def numbers_of(weight):
    if getattr(weight, "scale", None) is None:
        return torch.Tensor(weight)
    return (torch.Tensor(weight.data.to(torch.float32)) - 128) * weight.scale


class Loaded:
    """A layer that takes its parameters as they come."""

    def _load_from_state_dict(self, state_dict, prefix, *others):
        for name in ("weight", "bias"):
            if f"{prefix}{name}" in state_dict:
                value = torch.nn.Parameter(state_dict[f"{prefix}{name}"], requires_grad=False)
                setattr(self, name, value)


class WithCast(comfy.ops.manual_cast):
    """Layers that hand out their weight by a method."""

    class Linear(Loaded, comfy.ops.manual_cast.Linear):
        def cast_bias_weight(self, input):
            bias = None if self.bias is None else self.bias.to(input.dtype)
            return numbers_of(self.weight).to(input.dtype), bias

        def forward_comfy_cast_weights(self, input):
            return torch.nn.functional.linear(input, *self.cast_bias_weight(input))

    class RMSNorm(Loaded, comfy.ops.manual_cast.RMSNorm):
        pass


class WithoutCast(comfy.ops.manual_cast):
    """Layers that nobody else can read, as bitsandbytes' 4-bit ones."""

    class Linear(Loaded, torch.nn.Linear):
        def forward(self, input):
            return torch.nn.functional.linear(input, numbers_of(self.weight), self.bias)

    class RMSNorm(Loaded, comfy.ops.manual_cast.RMSNorm):
        pass


class OfAPack(comfy.ops.disable_weight_init):
    """Layers that compute as ComfyUI's own do."""

    class Linear(comfy.ops.disable_weight_init.Linear):
        pass


class ScaledAside(comfy.ops.manual_cast):
    """Layers with a scale beside the weight."""

    class Linear(comfy.ops.manual_cast.Linear):
        def forward(self, input):
            return 3 * super().forward(input)


class Foreign(comfy.ops.manual_cast):
    """Layers of a class of their own, as Nunchaku's, which no kernel with a backward pass computes."""

    class Linear(torch.nn.Module):
        def __init__(self, in_features, out_features, bias=True, device=None, dtype=None):
            super().__init__()
            self.in_features, self.out_features = in_features, out_features
            self.weight = torch.nn.Parameter(torch.empty(out_features, in_features), False)
            self.bias = torch.nn.Parameter(torch.empty(out_features), False) if bias else None

        def forward(self, input):
            with torch.no_grad():
                return torch.nn.functional.linear(input, self.weight, self.bias)
