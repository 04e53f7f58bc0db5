"""How many images are sampled at once on devices of different sizes."""

import pytest
import tiny_models
import torch
from meta_device import META

from gdro_comfy.models import batching
from gdro_comfy.models.flux import FluxModel
from gdro_comfy.models.sd3 import SD3Model


def sd3(device):
    """A tiny SD3 with positions for images of 1024 pixels."""
    pipeline = tiny_models.sd3_pipeline()
    config = {**pipeline.transformer.config, "pos_embed_max_size": 64}
    pipeline.transformer = type(pipeline.transformer).from_config(config)
    return SD3Model(pipeline, {"pipeline": "tiny"}, device)


FAMILIES = {
    "sd3": sd3,
    "flux": lambda device: FluxModel(tiny_models.flux_pipeline(), {"pipeline": "tiny"}, device),
}
SPARE = 2 << 30


@pytest.fixture(params=FAMILIES)
def model(request):
    return FAMILIES[request.param](META)


@pytest.mark.parametrize(("images", "found"), [(0.5, 1), (1, 1), (3.5, 3), (8, 8), (100, 8)])
def test_as_many_large_images_go_at_once_as_fit_beside_the_weights(
    model, monkeypatch, images, found
):
    size = (512, 512)
    each = batching.pass_in_bytes(model, size)
    free = model.weights_in_bytes() + SPARE + images * each
    monkeypatch.setattr(batching, "free_bytes", lambda device: int(free))
    assert model.batch_size(size) == found


def test_small_images_and_devices_of_unknown_memory_stay_as_they_were(model, monkeypatch):
    assert model.batch_size((512, 512)) == 1
    assert model.batch_size((64, 64)) == 64
    monkeypatch.setattr(batching, "free_bytes", lambda device: 1 << 40)
    assert model.batch_size((64, 64)) == 64


def test_larger_images_take_more(model):
    sizes = [batching.pass_in_bytes(model, (side, side)) for side in (256, 512, 1024)]
    assert 0 < sizes[0] < sizes[1] < sizes[2]
    assert sizes[2] > 3 * sizes[0]


def test_a_cpu_is_not_counted_for(monkeypatch):
    def fail(*args):
        raise AssertionError("counted")

    monkeypatch.setattr(batching, "pass_in_bytes", fail)
    assert FAMILIES["sd3"](torch.device("cpu")).batch_size((1024, 1024)) == 1
