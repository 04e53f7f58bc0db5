"""Gradients of a group in parts are those of the group as a whole."""

import pytest
import tiny_models
import torch

from gdro_comfy.data.prompts import Prompt
from gdro_comfy.models import flow
from gdro_comfy.models.base import AdapterConfig, seeded_noise
from gdro_comfy.models.flux import FluxModel
from gdro_comfy.models.sd3 import SD3Model
from gdro_comfy.training import microbatch
from gdro_comfy.training.objectives import GDRO, Signals

CPU = torch.device("cpu")
OBJECTIVE = GDRO(group_size=5, beta=12.0, temperature=0.05, top1_weight=0.5)
REWARDS = torch.tensor([[0.9, 0.1, 0.5, 0.5, 0.0], [0.2, 0.8, 0.3, 1.0, 0.6]])


@pytest.fixture(scope="module", params=[FluxModel, SD3Model], ids=["flux", "sd3"])
def model(request):
    made = {FluxModel: tiny_models.flux_pipeline, SD3Model: tiny_models.sd3_pipeline}
    return request.param(made[request.param](), {"pipeline": "tiny"}, CPU)


class Step:
    """One step on two groups of five images, its passes counted."""

    def __init__(self, model):
        self.model, self.images, self.passes = model, [], 0
        cond = model.with_guidance(model.encode([Prompt("a red circle"), Prompt("one star")]), 3.5)
        self.cond = cond.select([0] * 5 + [1] * 5)
        x0, noise = seeded_noise(range(10), (16, 8, 8)), seeded_noise([50, 51], (16, 8, 8))
        noise = noise.repeat_interleave(5, 0)
        self.sigma = torch.tensor([0.3, 0.7]).repeat_interleave(5)
        self.x = flow.interpolate(x0, noise, self.sigma)
        self.target = flow.target_velocity(x0, noise)

    def velocity(self, part):
        self.images.append(part.stop - part.start)
        cond = self.cond.select(range(10)[part])
        return self.model.velocity(self.x[part], self.sigma[part], cond)

    def gradient(self, at_once, checkpointed=False):
        """Loss and gradients, by name, with adapters that are no longer fresh."""
        config = AdapterConfig(4, 8.0, "attention+mlp")
        with self.model.adapters(config, 1) as parameters, self.model.checkpointed(checkpointed):
            generator = torch.Generator().manual_seed(3)
            with torch.no_grad():
                for p in parameters.values():
                    p.add_(torch.randn(p.shape, generator=generator) * 0.02)
            with torch.no_grad(), self.model.reference():
                base = torch.cat([self.velocity(part) for part in microbatch.parts(10, at_once)])

            def live(part):
                v = self.velocity(part)
                errors = flow.velocity_error(v, self.target[part])
                return torch.stack([errors, flow.velocity_error(v, base[part])])

            measured = microbatch.measure(live, 10, at_once)
            errors, drift = measured.values.reshape(2, 2, 5)
            reference = flow.velocity_error(base, self.target).reshape(2, 5)
            signals = Signals(errors, reference, drift)
            loss = OBJECTIVE.loss(signals, REWARDS).loss + 3.0 * drift.mean()
            measured.backward(loss)
            # The text's side of the last block has no say.
            grads = {n: p.grad.clone() for n, p in parameters.items() if p.grad is not None}
            return float(loss.detach()), grads


def difference(found, wanted):
    """Of two gradients, relative to the second."""
    one, other = (torch.cat([g[n].flatten() for n in wanted]) for g in (found, wanted))
    assert other.norm() > 0.01
    return float((one - other).norm() / other.norm())


@pytest.fixture(scope="module")
def whole(model):
    return Step(model).gradient(10)


@pytest.mark.parametrize("at_once", [1, 2, 3, 4, 7])
def test_parts_of_a_group_give_the_gradient_of_the_whole(model, whole, at_once):
    loss, wanted = whole
    step = Step(model)
    found_loss, found = step.gradient(at_once)
    assert found_loss == pytest.approx(loss, rel=1e-5)
    assert found.keys() == wanted.keys()
    assert difference(found, wanted) < 1e-5
    assert max(step.images) == at_once
    # Reference, scores, and once more with gradients: one forward pass more than the whole.
    assert sum(step.images) == 30


def test_checkpointing_gives_the_same_gradient(model, whole):
    _, found = Step(model).gradient(2, checkpointed=True)
    assert difference(found, whole[1]) < 1e-5
    assert not model.transformer.gradient_checkpointing


def test_all_at_once_takes_no_pass_more(model):
    step = Step(model)
    step.gradient(10)
    assert step.images == [10, 10]


def test_a_loss_that_ties_all_groups_together_is_exact_too():
    weights = torch.tensor([0.5, -1.0], requires_grad=True)
    data = torch.arange(12.0).reshape(6, 2) / 10

    def errors_of(part):
        return (data[part] @ weights).pow(2)

    def gradient(at_once):
        weights.grad = None
        measured = microbatch.measure(errors_of, 6, at_once)
        measured.backward(torch.sigmoid(measured.values.std()) + measured.values.prod())
        return weights.grad.clone()

    for at_once in (1, 4, 5):
        assert torch.allclose(gradient(at_once), gradient(6), rtol=1e-5)
