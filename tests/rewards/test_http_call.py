"""One HTTP request, against a real server on loopback."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from judge_server import Reply, serving

from gdro_comfy.rewards import http_call
from gdro_comfy.rewards.http_call import CallError, post, seconds_to_wait


def call(url, headers=None, time_limit=10.0):
    body = {"messages": [{"content": ["no picture"]}]}
    # In a thread, as the endpoint does: Playwright's event loop runs in the main one.
    with ThreadPoolExecutor(1) as thread:
        request = thread.submit(asyncio.run, post(url, body, headers or {}, time_limit))
        return request.result()


def test_the_response_comes_whole_whatever_its_status():
    reply = Reply({"error": "slow down"}, 429, {"Retry-After": "3"})
    with serving(lambda request: reply) as server:
        response = call(server.address, {"Authorization": "Bearer key"})
    assert response == (429, b'{"error": "slow down"}', 3.0)
    request = server.requests[0]
    assert request.body == {"messages": [{"content": ["no picture"]}]}
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Authorization"] == "Bearer key"


def test_redirects_are_not_followed():
    with serving(lambda request: Reply({})) as other:
        away = Reply({}, 307, {"Location": other.address})
        with serving(lambda request: away) as server:
            assert call(server.address, {"Authorization": "Bearer key"}).status == 307
        assert not other.requests


def test_proxies_of_the_environment_are_not_used(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with serving(lambda request: Reply({})) as server:
        assert call(server.address).status == 200


def test_a_response_without_end_is_given_up(monkeypatch):
    monkeypatch.setattr(http_call, "_MAX_BYTES", 2 * 1024**2)
    with serving(lambda request: Reply(b"x" * 2 * 1024**2)) as server:
        assert len(call(server.address).data) == 2 * 1024**2
    with (
        serving(lambda request: Reply(b"x" * (2 * 1024**2 + 1))) as server,
        pytest.raises(CallError, match="longer than 2 MB"),
    ):
        call(server.address)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/v1", "http:///v1"])
def test_where_there_is_no_server_the_error_says_so(url):
    with pytest.raises(CallError) as error:
        call(url)
    assert error.value.unreachable


def test_a_server_that_hangs_up_was_reached():
    with (
        serving(lambda request: Reply(hang_up=True)) as server,
        pytest.raises(CallError) as error,
    ):
        call(server.address)
    assert not error.value.unreachable


@pytest.mark.parametrize(
    ("header", "seconds"), [(None, None), ("7", 7), ("-3", 0), ("soon", None), ("nan", None)]
)
def test_seconds_to_wait(header, seconds):
    assert seconds_to_wait(header) == seconds
