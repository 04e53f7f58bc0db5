"""Gradients of a group computed in parts equal those of the whole group."""

import pytest
import tiny_models
import torch

from gdro_comfy.data.prompts import Prompt
from gdro_comfy.models.base import AdapterConfig, seeded_noise
from gdro_comfy.models.flux import FluxModel
from gdro_comfy.models.sd3 import SD3Model
from gdro_comfy.training import microbatch
from gdro_comfy.training.batches import Batch
from gdro_comfy.training.objectives import GDRO
from gdro_comfy.training.step import NoisyGroups, measure

CPU = torch.device("cpu")
OBJECTIVE = GDRO(group_size=5, beta=12.0, temperature=0.05, top1_weight=0.5)
REWARDS = torch.tensor([[0.9, 0.1, 0.5, 0.5, 0.0], [0.2, 0.8, 0.3, 1.0, 0.6]])


@pytest.fixture(scope="module", params=[FluxModel, SD3Model], ids=["flux", "sd3"])
def model(request):
    made = {FluxModel: tiny_models.flux_pipeline, SD3Model: tiny_models.sd3_pipeline}
    return request.param(made[request.param](), {"pipeline": "tiny"}, CPU)


class Step:
    """One step on two groups of five images, with its passes counted."""

    def __init__(self, model):
        self.model, self.images = model, []
        encoded = model.encode([Prompt("a red circle"), Prompt("one star")])
        x0 = seeded_noise(range(10), (16, 8, 8)).reshape(2, 5, 16, 8, 8)
        noise = seeded_noise([50, 51], (16, 8, 8))[:, None].expand_as(x0)
        batch = Batch(
            torch.tensor([0, 1]),
            torch.zeros(2, dtype=torch.long),
            torch.arange(5).expand(2, 5),
            x0,
            noise,
            torch.tensor([0.3, 0.7]),
            REWARDS,
        )
        self.groups = NoisyGroups.prepare(batch, model.with_guidance(encoded, 3.5), model)

    def gradient(self, at_once, checkpointed=False):
        """Return loss and gradients, by name, with adapters that are no longer fresh."""
        config = AdapterConfig(4, 8.0, "attention+mlp")
        with self.model.adapters(config, 1) as parameters, self.model.checkpointed(checkpointed):
            generator = torch.Generator().manual_seed(3)
            with torch.no_grad():
                for p in parameters.values():
                    p.add_(torch.randn(p.shape, generator=generator) * 0.02)
            velocity = self.model.velocity

            def counted(x, sigma, cond):
                self.images.append(len(x))
                return velocity(x, sigma, cond)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(self.model, "velocity", counted)
                signals, backward = measure(self.model, self.groups, at_once)
                loss = OBJECTIVE.loss(signals, REWARDS).loss + 3.0 * signals.drift.mean()
                backward(loss)
            # The text stream of the last block is dropped, so it has no gradient.
            grads = {n: p.grad.clone() for n, p in parameters.items() if p.grad is not None}
            return float(loss.detach()), grads


def difference(gradient, expected):
    """Return the norm of the difference of two gradients, relative to the second."""
    one, other = (torch.cat([g[n].flatten() for n in expected]) for g in (gradient, expected))
    assert other.norm() > 0.01
    return float((one - other).norm() / other.norm())


@pytest.fixture(scope="module")
def whole(model):
    return Step(model).gradient(10)


@pytest.mark.parametrize("at_once", [1, 2, 3, 4, 7])
def test_parts_of_a_group_give_the_gradient_of_the_whole(model, whole, at_once):
    expected_loss, expected = whole
    step = Step(model)
    loss, gradient = step.gradient(at_once)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert gradient.keys() == expected.keys()
    assert difference(gradient, expected) < 1e-5
    assert max(step.images) == at_once
    # Reference, scores, and once more with gradients: one forward pass more than the whole.
    assert sum(step.images) == 30


def test_checkpointing_gives_the_same_gradient(model, whole):
    _, gradient = Step(model).gradient(2, checkpointed=True)
    assert difference(gradient, whole[1]) < 1e-5
    assert not model.transformer.gradient_checkpointing


def test_all_at_once_takes_no_extra_pass(model):
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
