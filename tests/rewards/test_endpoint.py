"""Where an OpenAI-compatible endpoint may be, what is sent there, and the key."""

import logging

import pytest
from judge_server import COSY, Reply, by_light, grey, reward_at, score, serving

from gdro_comfy.errors import InputError
from gdro_comfy.rewards import create
from gdro_comfy.rewards.openai_endpoint import Endpoint, EndpointConfig


@pytest.mark.parametrize(
    ("status", "name"), [(401, "key_variable"), (404, "address"), (302, "address"), (400, "model")]
)
def test_what_the_user_can_put_right_is_said_as_such(status, name):
    no = Reply({"error": "no"}, status)
    with serving(lambda asked: no) as server, pytest.raises(InputError) as error:
        score(reward_at(server), [grey(0)])
    assert error.value.input_name == name


def test_no_server_is_said_at_once():
    with serving(by_light) as server:
        address = server.address
    judge = Endpoint(EndpointConfig(address=address, model="eye", first_wait=60))
    with pytest.raises(InputError, match="nothing answers at"):
        score(create("vlm", rubric=COSY, judge=judge), [grey(0)])


@pytest.mark.parametrize(
    "address",
    [
        "",
        "localhost:11434",
        "ftp://host/v1",
        "http://me:secret@host/v1",
        "http://host/v1?key=secret",
        "http://ho st/v1",
        "http://[::1",
        "http://host:99999/v1",
    ],
)
def test_addresses_that_are_none(address):
    with pytest.raises(InputError) as error:
        Endpoint(EndpointConfig(address=address, model="eye"))
    assert error.value.input_name == "address"
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("typed", "url"),
    [
        ("http://localhost:11434", "http://localhost:11434/v1/chat/completions"),
        (" http://localhost:11434/v1/ ", "http://localhost:11434/v1/chat/completions"),
        ("https://host/api/chat/completions", "https://host/api/chat/completions"),
    ],
)
def test_addresses_in_usual_forms(typed, url):
    assert Endpoint(EndpointConfig(address=typed, model="eye")).url == url


def test_the_key_goes_to_the_server_and_nowhere_else(monkeypatch, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("EYE_KEY", "sk-very-secret")

    def answer(asked):
        sent = asked.headers["Authorization"]
        if asked.count == 1:
            return Reply({"error": f"busy, {sent}"}, 503)
        return by_light(asked) if asked.count == 2 else Reply({"error": f"bad key {sent}"}, 401)

    with serving(answer) as server:
        reward = reward_at(server, folder=tmp_path, key_variable="EYE_KEY")
        score(reward, [grey(0)])
        with pytest.raises(InputError) as error:
            score(reward, [grey(1)])
    assert server.asked[0].headers["Authorization"] == "Bearer sk-very-secret"
    everything = [str(error.value), str(reward.settings), caplog.text]
    everything += [path.read_text() for path in tmp_path.iterdir()]
    assert "***" in str(error.value)
    assert not any("sk-very-secret" in text for text in everything)


@pytest.mark.parametrize("typed", ["sk-abc123", "EYE KEY", "NOT_SET_ANYWHERE"])
def test_a_key_that_is_not_there_is_said_before_any_work(typed, monkeypatch):
    monkeypatch.delenv("NOT_SET_ANYWHERE", raising=False)
    config = EndpointConfig(address="http://localhost/v1", model="eye", key_variable=typed)
    with pytest.raises(InputError) as error:
        Endpoint(config).check()
    assert error.value.input_name == "key_variable"
    assert typed not in str(error.value)


def test_a_key_does_not_travel_unprotected(monkeypatch):
    monkeypatch.setenv("EYE_KEY", "sk-1")
    far = Endpoint(
        EndpointConfig(address="http://example.com/v1", model="e", key_variable="EYE_KEY")
    )
    with pytest.raises(InputError, match="https"):
        far.check()
    for near in ("http://localhost:1/v1", "http://192.168.1.9/v1", "https://example.com/v1"):
        Endpoint(EndpointConfig(address=near, model="e", key_variable="EYE_KEY")).check()


@pytest.mark.parametrize(
    ("size", "sent"),
    [
        ((1, 1), (56, 56)),
        ((8192, 64), (1024, 56)),
        ((64, 64), (64, 64)),
        ((2048, 1024), (1024, 512)),
    ],
)
def test_sizes_that_a_model_can_look_at(size, sent):
    with serving(by_light) as server:
        score(reward_at(server), [grey(255, size)])
    assert server.asked[0].image.size == sent
