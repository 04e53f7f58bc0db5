"""What is moved between CPU and device, and when (the moves are only written down)."""

import pytest
import torch
from torch import nn

from gdro_comfy.models.offload import ENCODERS, NETWORK, VAE, Places


@pytest.fixture
def moves(monkeypatch):
    seen = []
    monkeypatch.setattr(nn.Module, "to", lambda self, where: seen.append((self.name, str(where))))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    return seen


@pytest.fixture
def places(monkeypatch, moves):
    parts = {}
    for kind in (NETWORK, ENCODERS, VAE):
        module = nn.Linear(2, 2)
        module.name = kind
        parts[kind] = [module]
    made = Places(parts, torch.device("cuda"))
    monkeypatch.setattr(made, "_room", lambda kind: kind == VAE)
    return made


def test_encoders_and_vae_leave_the_device_after_their_work(places, moves):
    with places.active():
        with places.using(ENCODERS):
            pass
        places.bring(NETWORK)
        places.bring(NETWORK)
        with places.using(VAE):
            pass
    assert moves == [
        (ENCODERS, "cuda"), (ENCODERS, "cpu"), (NETWORK, "cuda"), (VAE, "cuda"), (VAE, "cpu"),
        (NETWORK, "cpu"),
    ]  # fmt: skip


def test_the_network_makes_room_for_encoders_that_do_not_fit_beside_it(places, moves):
    with places.active():
        places.bring(NETWORK)
        with places.using(ENCODERS):
            pass
    assert moves == [(NETWORK, "cuda"), (NETWORK, "cpu"), (ENCODERS, "cuda"), (ENCODERS, "cpu")]


def test_nothing_stays_after_an_error(places, moves):
    def work():
        with places.active():
            places.bring(NETWORK)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        work()
    assert moves[-1] == (NETWORK, "cpu")


def test_nothing_moves_outside_of_active_or_on_a_cpu(places, moves):
    places.bring(NETWORK)
    assert moves == []
