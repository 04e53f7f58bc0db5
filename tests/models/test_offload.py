"""Where the components of a real model are while each of them works, on a device without values."""

import pytest
import tiny_models
import torch
from meta_device import META, MetaDevice, weight_bytes

from gdro_comfy.data.prompts import Prompt
from gdro_comfy.models import offload
from gdro_comfy.models.base import AdapterConfig
from gdro_comfy.models.flux import FluxModel
from gdro_comfy.models.offload import ENCODERS, NETWORK, VAE, Offloader
from gdro_comfy.models.sd3 import SD3Model

FAMILIES = {
    "sd3": lambda device: SD3Model(tiny_models.sd3_pipeline(), {"pipeline": "tiny"}, device),
    "flux": lambda device: FluxModel(tiny_models.flux_pipeline(), {"pipeline": "tiny"}, device),
}
PROMPTS = [Prompt("a red circle")]
GIB = 1 << 30


class Watched:
    """A model on the meta device. ``log`` has the component at work and all that are on the device."""

    def __init__(self, family):
        self.model = FAMILIES[family](META)
        pipeline = self.model.pipeline
        encoders = [pipeline.text_encoder, pipeline.text_encoder_2]
        encoders += [pipeline.text_encoder_3] if family == "sd3" else []
        self.components = {NETWORK: [pipeline.transformer], ENCODERS: encoders, VAE: [pipeline.vae]}
        self.log = []
        watched = {
            NETWORK: [pipeline.transformer],
            ENCODERS: encoders,
            VAE: [pipeline.vae.encoder, pipeline.vae.decoder],
        }
        for kind, modules in watched.items():
            for module in modules:
                module.register_forward_pre_hook(lambda *_, kind=kind: self._note(kind))

    def _note(self, kind):
        entry = (kind, self.on_device())
        if entry not in self.log[-1:]:
            self.log.append(entry)

    def size(self, *kinds):
        """Bytes of the components' weights, wherever they are."""
        return offload.size_in_bytes([m for kind in kinds for m in self.components[kind]])

    def on_device(self):
        """The kinds of components whose weights are all on the device; none may be there in part."""
        kinds = set()
        for kind, modules in self.components.items():
            there = sum(weight_bytes(module) for module in modules)
            assert there in (0, self.size(kind)), kind
            kinds |= {kind} if there else set()
        return kinds


@pytest.fixture(params=FAMILIES)
def watched(request):
    return Watched(request.param)


@pytest.fixture
def capacity(monkeypatch, watched):
    """Gives the device a size in bytes."""

    def limit(total):
        monkeypatch.setattr(
            offload, "free_bytes", lambda device: total - watched.size(*watched.on_device())
        )

    return limit


def work(model):
    """Sample an image and encode it again, as a rollout and an import do."""
    cond = model.encode(PROMPTS)
    latents = model.sample(cond, [1], 2, 2.0, (64, 64))
    return cond, model.encode_images(model.decode(latents))


def test_encoders_and_vae_are_on_the_device_only_while_they_work(watched, capacity):
    capacity(16 * GIB)
    with MetaDevice(), watched.model.active():
        cond, latents = work(watched.model)
        assert latents.device == cond.tensors["hidden"].device == META
        assert watched.on_device() == {NETWORK}
    # SD3 encodes the empty prompt, for its guidance, when it first samples with guidance.
    assert watched.log[0] == (ENCODERS, {ENCODERS})
    assert watched.log[-2:] == [(NETWORK, {NETWORK}), (VAE, {NETWORK, VAE})]
    assert watched.on_device() == set()


def test_each_component_is_copied_once_where_all_fit(watched, capacity):
    capacity(16 * GIB)
    with MetaDevice() as device, watched.model.active():
        cond = watched.model.encode(PROMPTS)
        before = device.copied_bytes
        watched.model.sample(cond, [1], 4, 1.0, (64, 64))
        watched.model.sample(cond, [2], 4, 1.0, (64, 64))
        network = watched.size(NETWORK)
        assert network <= device.copied_bytes - before < 1.1 * network


@pytest.mark.parametrize("spare", [1, 0])
def test_the_network_gives_way_to_a_vae_that_does_not_fit_beside_it(watched, capacity, spare):
    """Beside its weights a component needs 2 GiB for its work."""
    capacity(watched.size(NETWORK, VAE) + 2 * GIB + spare)
    with MetaDevice(), watched.model.active():
        cond = watched.model.encode(PROMPTS)
        latents = watched.model.sample(cond, [1], 2, 1.0, (64, 64))
        watched.model.decode(latents)
        beside = {NETWORK} if spare else set()
        assert watched.log[-1] == (VAE, {VAE} | beside)
        assert watched.on_device() == beside
        watched.model.sample(cond, [1], 2, 1.0, (64, 64))
        assert watched.log[-1] == (NETWORK, {NETWORK})


def test_on_a_device_of_unknown_size_the_network_always_gives_way(watched):
    with MetaDevice(), watched.model.active():
        work(watched.model)
    assert all(on_device == {kind} for kind, on_device in watched.log)


def test_an_adapter_trains_on_the_device_and_the_model_returns_without_it(watched):
    names = [name for name, _ in watched.model.transformer.named_parameters()]
    config = AdapterConfig(2, 2.0, "attention+mlp")
    model = watched.model
    with MetaDevice(), model.active():
        cond, latents = work(model)
        with model.adapters(config) as parameters:
            sigma = torch.tensor([0.5], device=META)
            model.velocity(latents, sigma, cond).square().mean().backward()
            assert {p.device for p in parameters.values()} == {META}
            assert any(p.grad is not None for p in parameters.values())
    assert [name for name, _ in model.transformer.named_parameters()] == names
    assert {p.device.type for p in model.transformer.parameters()} == {"cpu"}


def test_nothing_stays_on_the_device_after_an_error(watched):
    def stop(*_):
        raise RuntimeError("in the middle")

    def fail():
        with watched.model.active():
            cond = watched.model.encode(PROMPTS)
            watched.model.sample(cond, [1], 2, 1.0, (64, 64), stop)

    with MetaDevice(), pytest.raises(RuntimeError, match="in the middle"):
        fail()
    assert watched.log[-1] == (NETWORK, {NETWORK})
    assert watched.on_device() == set()


def test_an_inner_active_keeps_the_model_on_the_device(watched):
    model = watched.model
    with MetaDevice(), model.active():
        with model.active():
            cond = model.encode(PROMPTS)
            model.sample(cond, [1], 1, 1.0, (64, 64))
        assert watched.on_device() == {NETWORK}


@pytest.mark.parametrize("device", [META, torch.device("cpu")])
def test_nothing_moves_outside_of_active_or_on_a_cpu(watched, device):
    offloader = Offloader(watched.components, device)
    with MetaDevice() as meta:
        offloader.onload(NETWORK)
        with offloader.onloaded(VAE):
            assert watched.on_device() == set()
        if device.type == "cpu":
            with offloader.active():
                offloader.onload(NETWORK)
        assert meta.copied_bytes == 0


def test_a_component_that_does_not_fit_leaves_nothing_behind(monkeypatch):
    network = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)).requires_grad_(
        False
    )
    offloader, original = Offloader({NETWORK: [network]}, META), offload._copy_on
    room = 3

    def copy_on(parameter, device):
        nonlocal room
        room -= 1
        if room < 0:
            raise torch.OutOfMemoryError("full")
        return original(parameter, device)

    monkeypatch.setattr(offload, "_copy_on", copy_on)
    with MetaDevice(), offloader.active():
        with pytest.raises(torch.OutOfMemoryError):
            offloader.onload(NETWORK)
        assert not offloader.is_on_device(NETWORK)
        assert weight_bytes(network) == 0
        room = 4
        offloader.onload(NETWORK)
        assert {p.device for p in network.parameters()} == {META}


def tensors(module):
    """All tensors of a module by name, those beside packed weights too."""
    found = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    for name, parameter in list(found.items()):
        state = getattr(parameter, "quant_state", None)
        if state is not None:
            found |= {f"{name}.absmax": state.absmax, f"{name}.code": state.code}
            found |= {f"{name}.offset": state.offset, f"{name}.nested": state.state2.absmax}
    return found


@pytest.mark.parametrize("method", ["none", "8-bit", "nf4"])
def test_frozen_weights_of_every_kind_go_and_come_back_without_a_transfer(method, host):
    if method == "nf4":
        pytest.importorskip("bitsandbytes")
    pipeline = tiny_models.flux_pipeline(heads=1, head_width=128)
    model = FluxModel(pipeline, {"pipeline": "tiny"}, torch.device("cpu"))
    model.prepare(host, quantization=method)
    offloader = Offloader({NETWORK: [model.transformer]}, META)
    before = tensors(model.transformer)
    addresses = {name: tensor.data_ptr() for name, tensor in before.items()}
    values = {name: tensor.clone() for name, tensor in before.items()}
    with MetaDevice() as device, offloader.active():
        offloader.onload(NETWORK)
        there = tensors(model.transformer)
        assert there.keys() == before.keys()
        assert {tensor.device for tensor in there.values()} == {META}
        size = sum(tensor.numel() * tensor.element_size() for tensor in there.values())
        assert size <= device.copied_bytes == offload.size_in_bytes([model.transformer])
    after = tensors(model.transformer)
    assert {name: tensor.data_ptr() for name, tensor in after.items()} == addresses
    assert all(torch.equal(after[name], values[name]) for name in values)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU of CUDA or ROCm")
@pytest.mark.parametrize("family", FAMILIES)
def test_on_a_gpu_the_weights_return_unchanged_and_all_memory_is_given_back(family):
    model = FAMILIES[family](torch.device("cuda"))
    weights = {name: weight.clone() for name, weight in model.transformer.state_dict().items()}
    before = torch.cuda.memory_allocated()
    with model.active():
        cond, latents = work(model)
        assert latents.isfinite().all()
        assert torch.cuda.memory_allocated() - before >= model.weights_in_bytes()
    del cond, latents
    assert torch.cuda.memory_allocated() == before
    after = model.transformer.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in weights.items())
    assert offload.free_bytes(model.device) > 0
