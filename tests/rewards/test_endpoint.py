"""The address of an OpenAI-compatible endpoint, what is sent there, and the user's key."""

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
def test_a_rejection_names_the_input_to_change(status, name):
    rejection = Reply({"error": "no"}, status)
    with serving(lambda request: rejection) as server, pytest.raises(InputError) as error:
        score(reward_at(server), [grey(0)])
    assert error.value.input_name == name


def test_a_missing_server_is_reported_without_repetitions():
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
        "http://no..host/v1",
        "http://[::1",
        "http://host:99999/v1",
    ],
)
def test_unusable_addresses_are_refused(address):
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
def test_usual_forms_of_an_address_are_understood(typed, url):
    assert Endpoint(EndpointConfig(address=typed, model="eye")).url == url


def test_the_key_goes_to_the_server_and_nowhere_else(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)

    def answer(request):
        header = request.headers["Authorization"]
        if request.number == 1:
            return Reply({"error": f"busy, {header}"}, 503)
        if request.number == 2:
            return by_light(request)
        return Reply({"error": f"bad key {header}"}, 401)

    with serving(answer) as server:
        keys = "api.example.com=sk-other, 127.0.0.1=sk-very-secret"
        reward = reward_at(server, folder=tmp_path, keys=keys)
        score(reward, [grey(0)])
        with pytest.raises(InputError, match="wants another key") as error:
            score(reward, [grey(1)])
    assert server.requests[0].headers["Authorization"] == "Bearer sk-very-secret"
    texts = [str(error.value), str(reward.settings), caplog.text]
    texts += [path.read_text() for path in tmp_path.iterdir()]
    assert "***" in str(error.value)
    assert not any("sk-very-secret" in text for text in texts)


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
def test_a_key_is_used_for_its_own_host_only(keys, key):
    assert key_for("host.com", keys) == key


def test_the_message_about_a_missing_key_says_where_to_put_it():
    with serving(lambda request: Reply({"error": "no"}, 401)) as server:
        with pytest.raises(InputError, match=r"wants a key.*127\.0\.0\.1=<key>.*settings"):
            score(reward_at(server), [grey(0)])
        assert "Authorization" not in server.requests[0].headers


def test_a_key_is_not_sent_unencrypted_to_a_public_host():
    def keys():
        return "example.com=sk-1 localhost=sk-1 192.168.1.9=sk-1"

    public = Endpoint(EndpointConfig(address="http://example.com/v1", model="e"), keys)
    with pytest.raises(InputError, match="https"):
        public.check()
    for address in ("http://localhost:1/v1", "http://192.168.1.9/v1", "https://example.com/v1"):
        Endpoint(EndpointConfig(address=address, model="e"), keys).check()


def test_a_key_with_strange_characters_is_refused():
    endpoint = Endpoint(EndpointConfig("https://host/v1", "eye"), lambda: "host=schlüssel")
    with pytest.raises(InputError, match="characters that no key has"):
        endpoint.check()


def test_the_console_takes_keys_from_the_environment(host, monkeypatch):
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
def test_images_are_sent_in_sizes_that_models_accept(size, sent):
    with serving(by_light) as server:
        score(reward_at(server), [grey(255, size)])
    assert server.requests[0].image.size == sent
