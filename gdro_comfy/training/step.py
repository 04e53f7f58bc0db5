"""What a training step measures: velocity errors of groups at their noise levels, and how a loss made of
them reaches the adapter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ..data.conditioning import Conditioning
from ..models import flow
from . import microbatch
from .objectives import Signals

if TYPE_CHECKING:
    from ..models.base import FlowModel
    from .batches import Batch


@dataclass(frozen=True)
class NoisyGroups:
    """Groups of k images at their noise levels, on the model's device.

    Args:
        x: ``(1 - sigma) x0 + sigma noise``, ``[groups * k, c, h, w]``, at the sigma that the network is
            told.
        sigma: ``[groups * k]``, before any rounding; the same within a group.
        target: the velocity ``noise - x0``, of the shape of ``x``.
        conditioning: one encoded prompt per image.
        group_size: k.
    """

    x: Tensor
    sigma: Tensor
    target: Tensor
    conditioning: Conditioning
    group_size: int

    @classmethod
    def prepare(cls, batch: Batch, conditioning: Conditioning, model: FlowModel) -> NoisyGroups:
        """Mix latents and noise of a batch; ``conditioning`` has one prompt per group of the data."""
        k, device = batch.x0.shape[1], model.device
        x0, noise = (tensor.flatten(0, 1).to(device) for tensor in (batch.x0, batch.noise))
        sigma = batch.sigma.repeat_interleave(k).to(device)
        # The embeddings go to the device once per group, and are repeated there.
        encoded = conditioning.select(batch.groups).to(device)
        per_image = encoded.select(torch.arange(len(batch)).repeat_interleave(k))
        x = flow.interpolate(x0, noise, model.told_sigma(sigma))
        target = flow.target_velocity(x0, noise)
        return cls(x, sigma, target, per_image, k)

    def __len__(self) -> int:
        return len(self.x)


class Guidance(NamedTuple):
    """Classifier-free guidance: ``v_negative + scale (v_prompt - v_negative)``.

    Args:
        scale: above 1.
        negative: the encoded prompt that it leads away from, one.
    """

    scale: float
    negative: Conditioning


def measure(
    model: FlowModel,
    groups: NoisyGroups,
    images_at_once: int,
    *,
    reference_errors: Tensor | None = None,
    reference_guidance: Guidance | None = None,
    old_policy: AbstractContextManager[None] | None = None,
    with_old_drift: bool = False,
    mixtures: Sequence[float] = (),
    beta_scale: Tensor | None = None,
    check_cancelled: Callable[[], None] = lambda: None,
) -> tuple[Signals, Callable[[Tensor], None]]:
    """Measure the signals of a loss, and return them with the backward pass of that loss.

    Args:
        model: with an adapter attached.
        groups: to measure on.
        images_at_once: images in one pass, 1 or more; the gradient is the same for any number.
        reference_errors: errors of the reference that are known already, ``[groups, k]``, NaN where one is
            not; the missing ones are measured. With None all are measured, and the drift with them.
        reference_guidance: of the reference's velocity, for its errors and for the drift.
        old_policy: a context in which the adapter is that of an older policy, if the objective looks at
            one.
        with_old_drift: measure the drift from the older policy too.
        mixtures: shares m of ``v_old + m (v - v_old)`` whose errors are measured too.
        beta_scale: passed on in the signals.
        check_cancelled: called before every pass; may raise.

    Returns:
        The signals, each ``[groups, k]``, and a function to call with the loss instead of
        ``loss.backward()``.
    """
    everything, k = torch.arange(len(groups)), groups.group_size
    images_at_once = min(images_at_once, len(groups))

    def velocity(part: slice | Tensor, negative: Conditioning | None = None) -> Tensor:
        check_cancelled()
        images = everything[part]
        if negative is None:
            conditioning = groups.conditioning.select(images)
        else:
            conditioning = negative.select([0] * len(images))
        return model.velocity(groups.x[part], groups.sigma[part], conditioning)

    def velocities(images: Tensor, negative: Conditioning | None = None) -> Tensor:
        return torch.cat([velocity(part, negative) for part in images.split(images_at_once)])

    def reference_velocities(images: Tensor) -> Tensor:
        prompted = velocities(images)
        if reference_guidance is None:
            return prompted
        # Two passes of as many images as training has at once, not one of twice as many.
        scale, negative = reference_guidance
        away = velocities(images, negative).float()
        return away + scale * (prompted.float() - away)

    def errors(prediction: Tensor, part: slice | Tensor) -> Tensor:
        return flow.velocity_error(prediction, groups.target[part])

    reference, old, old_velocity = None, None, None
    with torch.no_grad():
        with model.reference():
            if reference_errors is None:
                reference = reference_velocities(everything)
                reference_errors = errors(reference, everything).reshape(-1, k)
            else:
                flat = reference_errors.to(groups.x.device).flatten()
                unknown = flat.isnan().nonzero().flatten().cpu()
                if len(unknown):
                    flat[unknown] = errors(reference_velocities(unknown), unknown)
                reference_errors = flat.reshape(-1, k)
        if old_policy is not None:
            with old_policy:
                old_velocity = velocities(everything)
            old = errors(old_velocity, everything).reshape(-1, k)

    def live(part: slice) -> Tensor:
        """Return errors, drift and what else is needed of some images, ``[numbers, n]``, with gradients."""
        v = velocity(part)
        numbers = [errors(v, part)]
        if reference is None:
            numbers.append(torch.full_like(numbers[0], torch.nan))
        else:
            numbers.append(flow.velocity_error(v, reference[part]))
        if old_velocity is not None and with_old_drift:
            numbers.append(flow.velocity_error(v, old_velocity[part]))
        if old_velocity is not None and mixtures:
            dtype, target = torch.promote_types(v.dtype, torch.float32), groups.target[part]
            before, now = old_velocity[part].to(dtype), v.to(dtype)
            mixed = [before + share * (now - before) for share in mixtures]
            numbers += [flow.velocity_error(m, target) for m in mixed]
            numbers += [(m - target).abs().flatten(1).mean(1) for m in mixed]
        return torch.stack(numbers)

    measured = microbatch.measure(live, len(groups), images_at_once)
    error, drift, *rest = measured.values.reshape(len(measured.values), -1, k)
    signals = Signals(
        error, reference_errors, drift, old, beta_scale, groups.sigma.reshape(-1, k)[:, :1],
        old_drift=rest.pop(0) if old_velocity is not None and with_old_drift else None,
        mixed_squares=torch.stack(rest[: len(mixtures)]) if rest else None,
        mixed_distances=torch.stack(rest[len(mixtures) :]) if rest else None,
    )  # fmt: skip
    return signals, measured.backward
