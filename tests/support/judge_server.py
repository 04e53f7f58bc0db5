"""A local OpenAI-compatible server that can misbehave on purpose, and a reward that asks it."""

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


class JudgeRequest:
    """A request that the server received; ``number`` counts from 1."""

    def __init__(self, path: str, headers: Any, body: dict[str, Any], number: int) -> None:
        self.path, self.headers, self.body, self.number = path, headers, body, number
        self.time = time.monotonic()

    @property
    def image(self) -> Image.Image:
        return self.images[0]

    @property
    def images(self) -> list[Image.Image]:
        *pictures, _ = self.body["messages"][0]["content"]
        urls = [picture["image_url"]["url"] for picture in pictures]
        return [Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))) for url in urls]

    @property
    def question(self) -> str:
        return self.body["messages"][0]["content"][-1]["text"]


def completion(text: str | None, finish: str = "stop", **message: Any) -> dict[str, Any]:
    """Return the body of a chat completion."""
    choice = {
        "index": 0,
        "finish_reason": finish,
        "message": {"role": "assistant", "content": text, **message},
    }
    return {"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 7}}


def with_tokens(body: dict[str, Any], tokens: list[tuple[str, dict[str, float]]]) -> dict[str, Any]:
    """Add token probabilities to a completion; tokens without any are certain."""
    content = []
    for text, probabilities in tokens:
        top = [
            {"token": t, "logprob": math.log(p)} for t, p in (probabilities or {text: 1.0}).items()
        ]
        content.append({"token": text, "logprob": 0.0, "top_logprobs": top})
    body["choices"][0]["logprobs"] = {"content": content}
    return body


class Reply:
    """What the server answers.

    Args:
        body: JSON-able, or raw bytes.
        after: seconds before the answer.
        hang_up: close the connection without an answer.
        drip: seconds between the bytes of the body; 0 sends it at once.
    """

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
    """The server; records requests, and how many were active at once."""

    daemon_threads = True

    def __init__(self, answer: Callable[[JudgeRequest], Reply]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer, self.requests = answer, []
        self.lock = threading.Lock()
        self.active = self.peak = 0
        self.closing = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that hang up."""


class _Handler(BaseHTTPRequestHandler):
    server: JudgeServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            request = JudgeRequest(self.path, self.headers, body, len(self.server.requests) + 1)
            self.server.requests.append(request)
            self.server.active += 1
            self.server.peak = max(self.server.peak, self.server.active)
        try:
            self._reply(self.server.answer(request))
        finally:
            with self.server.lock:
                self.server.active -= 1

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
        for index in range(len(reply.raw) if reply.drip else 0):
            self.wfile.write(reply.raw[index : index + 1])
            if self.server.closing.wait(reply.drip):
                return
        if not reply.drip:
            self.wfile.write(reply.raw)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def serving(answer: Callable[[JudgeRequest], Reply]) -> Iterator[JudgeServer]:
    """Run a server whose replies come from ``answer``."""
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


COSY = question("How cosy does this room look?", 1, 5)


def grey(level, size=(64, 64)):
    return Image.new("RGB", size, (level, level, level))


def pictures(count):
    return [grey(i * 255 // max(1, count - 1)) for i in range(count)]


def by_light(request):
    """Reply with a score from 1 for black to 5 for white."""
    level = np.asarray(request.image).mean() / 255
    return Reply(completion(f'{{"score": {round(1 + 4 * level)}}}'))


def reward_at(server, rubric=COSY, on_refusal="stop", folder=None, keys="", **config):
    config = {"address": server.address, "model": "eye", "first_wait": 0.01, **config}
    judge = Endpoint(EndpointConfig(**config), lambda: keys)
    return create("vlm", rubric=rubric, judge=judge, on_refusal=on_refusal, folder=folder)


def score(reward, images, check=lambda: None):
    return reward.score(images, [Prompt(f"room {i}") for i in range(len(images))], check)
