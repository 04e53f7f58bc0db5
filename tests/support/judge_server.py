"""A small OpenAI-compatible server on loopback that misbehaves on purpose, and a reward that asks it."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

from gdro_comfy.data.prompts import Prompt
from gdro_comfy.rewards import create
from gdro_comfy.rewards.openai_endpoint import Endpoint, EndpointConfig
from gdro_comfy.rewards.rubric import question


class Asked:
    """One request, as the server sees it."""

    def __init__(self, path: str, headers: Any, body: dict[str, Any], count: int) -> None:
        self.path, self.headers, self.body, self.count = path, headers, body, count
        self.time = time.monotonic()

    @property
    def image(self) -> Image.Image:
        url = self.body["messages"][0]["content"][0]["image_url"]["url"]
        return Image.open(io.BytesIO(base64.b64decode(url.split(",")[1])))

    @property
    def question(self) -> str:
        return self.body["messages"][0]["content"][1]["text"]


def completion(text: str | None, finish: str = "stop", **message: Any) -> dict[str, Any]:
    """The body of a chat completion."""
    choice = {
        "index": 0,
        "finish_reason": finish,
        "message": {"role": "assistant", "content": text, **message},
    }
    return {"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 7}}


def with_tokens(body: dict[str, Any], tokens: list[tuple[str, dict[str, float]]]) -> dict[str, Any]:
    """The same with token probabilities; tokens without any are certain."""
    content = []
    for text, likely in tokens:
        top = [{"token": t, "logprob": math.log(p)} for t, p in (likely or {text: 1.0}).items()]
        content.append({"token": text, "logprob": 0.0, "top_logprobs": top})
    body["choices"][0]["logprobs"] = {"content": content}
    return body


class Reply:
    """What the server does: a status, headers and a body (JSON or raw bytes), or stranger things."""

    def __init__(
        self,
        body: Any = None,
        status: int = 200,
        headers: dict[str, str] | None = None,
        after: float = 0.0,
        hang_up: bool = False,
        drip: float = 0.0,
    ) -> None:
        self.raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.status, self.headers, self.after = status, headers or {}, after
        self.hang_up, self.drip = hang_up, drip


class JudgeServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, answer: Callable[[Asked], Reply]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer, self.asked = answer, []
        self.lock = threading.Lock()
        self.now = self.most = 0
        self.closing = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: JudgeServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            asked = Asked(self.path, self.headers, body, len(self.server.asked) + 1)
            self.server.asked.append(asked)
            self.server.now += 1
            self.server.most = max(self.server.most, self.server.now)
        try:
            self._reply(self.server.answer(asked))
        finally:
            with self.server.lock:
                self.server.now -= 1

    def _reply(self, reply: Reply) -> None:
        self.server.closing.wait(reply.after)
        if reply.hang_up:
            self.close_connection = True
            return
        self.send_response(reply.status)
        for name, value in {"Content-Type": "application/json", **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.raw)))
        self.end_headers()
        for place in range(len(reply.raw) if reply.drip else 0):
            self.wfile.write(reply.raw[place : place + 1])
            if self.server.closing.wait(reply.drip):
                return
        if not reply.drip:
            self.wfile.write(reply.raw)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def serving(answer: Callable[[Asked], Reply]) -> Iterator[JudgeServer]:
    """A running server whose replies ``answer`` chooses."""
    server = JudgeServer(answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


# A reward that asks this server, and pictures for it.

COSY = question("How cosy does this room look?", 1, 5)


def grey(level, size=(64, 64)):
    return Image.new("RGB", size, (level, level, level))


def pictures(count):
    return [grey(i * 255 // max(1, count - 1)) for i in range(count)]


def by_light(asked):
    """1 for black, 5 for white."""
    level = np.asarray(asked.image).mean() / 255
    return Reply(completion(f'{{"score": {round(1 + 4 * level)}}}'))


def reward_at(server, rubric=COSY, on_refusal="stop", folder=None, keys="", **config):
    config = {"address": server.address, "model": "eye", "first_wait": 0.01, **config}
    judge = Endpoint(EndpointConfig(**config), lambda: keys)
    return create("vlm", rubric=rubric, judge=judge, on_refusal=on_refusal, folder=folder)


def score(reward, images, check=lambda: None):
    return reward.score(images, [Prompt(f"room {i}") for i in range(len(images))], check)
