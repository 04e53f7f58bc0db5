"""Where an OpenAI-compatible endpoint may be, what is sent there, and the key."""

import logging

import pytest
from judge_server import COSY, Reply, by_light, grey, reward_at, score, serving

from gdro_comfy.errors import InputError
from gdro_comfy.rewards import create
from gdro_comfy.rewards.openai_endpoint import Endpoint, EndpointConfig
from gdro_comfy.rewards.openai_wire import key_for


@pytest.mark.parametrize(
    ("status", "name"), [(401, "address"), (404, "address"), (302, "address"), (400, "model")]
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


def test_the_key_goes_to_the_server_and_nowhere_else(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)

    def answer(asked):
        sent = asked.headers["Authorization"]
        if asked.count == 1:
            return Reply({"error": f"busy, {sent}"}, 503)
        return by_light(asked) if asked.count == 2 else Reply({"error": f"bad key {sent}"}, 401)

    with serving(answer) as server:
        keys = "api.example.com=sk-other, 127.0.0.1=sk-very-secret"
        reward = reward_at(server, folder=tmp_path, keys=keys)
        score(reward, [grey(0)])
        with pytest.raises(InputError, match="wants another key") as error:
            score(reward, [grey(1)])
    assert server.asked[0].headers["Authorization"] == "Bearer sk-very-secret"
    everything = [str(error.value), str(reward.settings), caplog.text]
    everything += [path.read_text() for path in tmp_path.iterdir()]
    assert "***" in str(error.value)
    assert not any("sk-very-secret" in text for text in everything)


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ("", ""),
        ("sk-1", ""),
        ("host.com.evil.net=sk-1", ""),
        ("evil-host.com=sk-1 HOST.com=sk-2", "sk-2"),
        ("a=1,\nhost.com=sk=with=signs;b=2", "sk=with=signs"),
    ],
)
def test_a_key_is_for_its_own_host_only(keys, key):
    assert key_for("host.com", keys) == key


def test_a_server_that_wants_a_key_says_where_it_goes():
    with serving(lambda asked: Reply({"error": "no"}, 401)) as server:
        with pytest.raises(InputError, match=r"wants a key.*127\.0\.0\.1=<key>.*settings"):
            score(reward_at(server), [grey(0)])
        assert "Authorization" not in server.asked[0].headers


def test_a_key_does_not_travel_unprotected():
    def keys():
        return "example.com=sk-1 localhost=sk-1 192.168.1.9=sk-1"

    far = Endpoint(EndpointConfig(address="http://example.com/v1", model="e"), keys)
    with pytest.raises(InputError, match="https"):
        far.check()
    for near in ("http://localhost:1/v1", "http://192.168.1.9/v1", "https://example.com/v1"):
        Endpoint(EndpointConfig(address=near, model="e"), keys).check()


def test_the_environment_holds_keys_for_the_console(host, monkeypatch):
    monkeypatch.setenv("GDRO_KEYS", "host.com=sk-3")
    assert key_for("host.com", host.judge_keys()) == "sk-3"


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
