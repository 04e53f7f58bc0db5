"""A vision-language model behind an OpenAI-compatible address (Ollama, LM Studio, vLLM, ...).

Nothing is sent before the user has typed the address. A key is bound to the host it is for, outside of
the workflow: whoever writes a workflow cannot have it sent elsewhere. It appears in no message or file of
ours.
"""

from __future__ import annotations

import logging
import math
import queue
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import InputError
from .http_call import Abandoned, Call, Failure, Response
from .openai_wire import (
    KEYS_VARIABLE,
    chat_url,
    data_url,
    is_near,
    key_for,
    read_completion,
    sent_size,
)
from .rubric import Answer, Refused, Rubric, Unreadable

if TYPE_CHECKING:
    from PIL import Image

log = logging.getLogger(__name__)

_PATCH = 28  # a token of the common encoders stands for 28 x 28 pixels
_POLL = 0.1  # seconds between two looks at the user's cancel button
_LONGEST_WAIT = 600.0
_BUSY = frozenset({408, 409, 425, 429})  # statuses that ask to come again


@dataclass(frozen=True)
class EndpointConfig:
    """Where the model is, and how to ask it.

    Args:
        address: such as ``http://localhost:11434/v1``.
        model: its name there.
        time_limit: seconds for one answer.
        concurrency: questions at once.
        retries: repetitions after a failure that may pass.
        longest_side: larger pictures are made smaller, in pixels.
        max_tokens: of an answer.
        price: of a million tokens read, in any currency; for the estimate only.
        first_wait: seconds before the first repetition; doubled each time, at most 60.
    """

    address: str
    model: str
    time_limit: float = 120.0
    concurrency: int = 4
    retries: int = 4
    longest_side: int = 1024
    max_tokens: int = 512
    price: float = 0.0
    first_wait: float = 1.0


class Endpoint:
    """A judge (see ``vlm.Judge``) that asks over HTTP.

    Args:
        keys: gives the user's keys, as ``openai_wire.key_for`` reads them.

    Raises:
        InputError: the address or the model's name cannot be used.
    """

    def __init__(self, config: EndpointConfig, keys: Callable[[], str] = lambda: "") -> None:
        self.config, self._keys = config, keys
        self.url = chat_url(config.address)
        if not config.model.strip():
            raise InputError(
                "model", "it is empty", "Type the model's name, as the endpoint lists it."
            )
        self.identity: dict[str, Any] = {
            "address": self.url,
            "model": config.model.strip(),
            "longest_side": config.longest_side,
            "max_tokens": config.max_tokens,
        }
        self._without: set[str] = set()  # what this server has turned down
        self._reached = False

    @property
    def _host(self) -> str:
        return urlsplit(self.url).hostname or ""

    def check(self) -> None:
        """Raise ``InputError`` if the key cannot be used, or would travel unprotected."""
        self._key()

    def estimate(self, images: int, size: tuple[int, int], rubric: Rubric) -> str:
        """What it would cost to ask about pictures of this size, in words."""
        width, height = sent_size(size, self.config.longest_side)
        seen = math.ceil(width / _PATCH) * math.ceil(height / _PATCH)
        words = 50 + len(rubric.instructions) // 4
        total = images * (seen + words)
        text = (
            f"{images:,} calls to {self.config.model} at {urlsplit(self.url).netloc}, about "
            f"{seen:,} image tokens and {words:,} text tokens each: {total / 1e6:.2f} million"
        )
        if self.config.price:
            text += (
                f", about {total / 1e6 * self.config.price:.2f} at {self.config.price:g} a million"
            )
        return text

    def ask(
        self,
        asked: Sequence[tuple[Image.Image, str]],
        rubric: Rubric,
        check_cancelled: Callable[[], None],
    ) -> Generator[tuple[int, Answer | Refused], None, None]:
        """Answers in the order in which they come, each with the place of its question.

        Raises:
            InputError: the endpoint cannot be reached, or turns down the key, the model or the form.
            Failure: it went on failing after all repetitions.
        """
        todo: queue.SimpleQueue[int] = queue.SimpleQueue()
        done: queue.SimpleQueue[tuple[int, Answer | BaseException]] = queue.SimpleQueue()
        stop = threading.Event()
        calls: set[Call] = set()
        for place in range(len(asked)):
            todo.put(place)

        def work() -> None:
            while not stop.is_set():
                try:
                    place = todo.get_nowait()
                except queue.Empty:
                    return
                try:
                    done.put((place, self._answer(*asked[place], rubric, stop, calls)))
                except BaseException as error:  # carried to the thread that asked
                    done.put((place, error))

        # Daemons, so that one stuck in a look-up of the address does not keep the program alive.
        for _ in range(min(self.config.concurrency, len(asked))):
            threading.Thread(target=work, daemon=True, name="gdro-judge").start()
        try:
            for _ in asked:
                try:
                    place, answer = self._next(done, calls, check_cancelled)
                    if isinstance(answer, BaseException) and not isinstance(answer, Refused):
                        raise answer
                except BaseException:
                    stop.set()
                    yield from _arrived(done)  # they were paid for
                    raise
                yield place, answer
        finally:
            stop.set()
            for call in tuple(calls):
                call.abandon()

    @staticmethod
    def _next(
        done: queue.SimpleQueue[tuple[int, Answer | BaseException]],
        calls: set[Call],
        check_cancelled: Callable[[], None],
    ) -> tuple[int, Answer | BaseException]:
        while True:
            check_cancelled()
            for call in tuple(calls):
                call.abandon_if_late()
            try:
                return done.get(timeout=_POLL)
            except queue.Empty:
                continue

    def _answer(
        self,
        image: Image.Image,
        question: str,
        rubric: Rubric,
        stop: threading.Event,
        calls: set[Call],
    ) -> Answer:
        """One answer that can be read, after as many attempts as that takes."""
        picture = data_url(image, self.config.longest_side)
        unreadable, failures = 0, 0
        while True:
            sent_without = set(self._without)
            body = self._body(picture, question, rubric, warm=unreadable > 0)
            call = Call(self.url, body, self._headers(), self.config.time_limit)
            calls.add(call)
            try:
                response = call.run()
                self._reached = True
                if response.status in (400, 422) and self._give_way(response.data, sent_without):
                    continue
                self._check_status(response)
                answer = read_completion(response.data)
                rubric.read(answer)
                return answer
            except Unreadable as error:
                unreadable += 1
                if unreadable > 1:
                    raise Refused(str(error)) from error
            except Failure as failure:
                if failure.unreachable and not self._reached:
                    raise InputError(
                        "address",
                        f"nothing answers at {self.url} ({failure})",
                        "Start the server, or mend the address.",
                    ) from failure
                failures += 1
                if failures > self.config.retries:
                    raise Failure(
                        f"{self.url} failed {failures} times, the last time: {failure}"
                    ) from failure
                wait = failure.retry_after
                if wait is None:
                    wait = min(60.0, self.config.first_wait * 2 ** (failures - 1))
                if wait > _LONGEST_WAIT:
                    raise Failure(
                        f"{self.url} is to be asked again in {wait / 60:.0f} minutes only"
                    ) from failure
                log.info("judge: %s; asking again in %.1f s", failure, wait)
                if stop.wait(wait):
                    raise Abandoned from failure
            finally:
                calls.discard(call)

    def _body(self, picture: str, question: str, rubric: Rubric, warm: bool) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.config.model.strip(),
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": picture}},
                        {"type": "text", "text": question},
                    ],
                }
            ],
            "temperature": 0.5 if warm else 0,
            "max_tokens": self.config.max_tokens,
            "logprobs": True,
            "top_logprobs": 20 if "20 top_logprobs" not in self._without else 5,
        }
        if rubric.structured:
            schema = {"name": "judgement", "strict": True, "schema": rubric.schema()}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        if "max_tokens" in self._without:
            body["max_completion_tokens"] = body.pop("max_tokens")
        if "logprobs" in self._without:
            del body["logprobs"], body["top_logprobs"]
        return {name: value for name, value in body.items() if name not in self._without}

    def _give_way(self, data: bytes, sent_without: set[str]) -> bool:
        """After a request was turned down: leave out, from now on, what the message names, else what
        servers most often lack. False if there is nothing left to leave out."""
        if self._without - sent_without:
            return True  # another question found it meanwhile
        said = data.decode(errors="replace")
        named = (
            ("max_completion_tokens", "max_tokens"),
            ("temperature", "temperature"),
            ("top_logprobs", "20 top_logprobs"),
            ("logprobs", "logprobs"),
            ("response_format", "response_format"),
            ("json_schema", "response_format"),
        )
        found = [part for word, part in named if word in said and part not in self._without]
        usual = [p for p in ("logprobs", "response_format") if p not in self._without]
        for part in (found or usual)[:1]:
            log.info("judge: %s does without %s", self.url, part)
            self._without.add(part)
            return True
        return False

    def _check_status(self, response: Response) -> None:
        status = response.status
        if status == 200:
            return
        said = self._shown(response.data)
        if status in _BUSY or status >= 500:
            raise Failure(f"status {status} {said}".rstrip(), response.retry_after)
        if status in (401, 403):
            raise InputError(
                "address",
                f"{self._host} wants {'another' if self._key() else 'a'} key (status {status} {said})",
                f"Add {self._host}=<key> to ComfyUI's settings (GDRO, keys of judges), or to the "
                f"environment variable {KEYS_VARIABLE}; never to a workflow.",
            )
        if 300 <= status < 400:
            raise InputError(
                "address", f"{self.url} points elsewhere (status {status})", "Type the new address."
            )
        if status in (404, 405):
            raise InputError(
                "address",
                f"{self.url} knows no such page or model (status {status} {said})",
                "Most addresses end in /v1; the model must be one that the endpoint lists.",
            )
        raise InputError(
            "model",
            f"the endpoint turns the question down (status {status} {said})",
            "Choose a model that can see pictures.",
        )

    def _shown(self, data: bytes) -> str:
        """The start of a server's message, without the key."""
        text = " ".join(data.decode(errors="replace").split())
        key = self._key()
        return (text.replace(key, "***") if key else text)[:200]

    def _headers(self) -> dict[str, str]:
        key = self._key()
        return {"Authorization": f"Bearer {key}"} if key else {}

    def _key(self) -> str:
        key = key_for(self._host, self._keys())
        if key and not (key.isascii() and key.isprintable()):
            raise InputError(
                "address", f"the key for {self._host} is none", "It must be plain letters."
            )
        if key and urlsplit(self.url).scheme == "http" and not is_near(self._host):
            raise InputError(
                "address",
                "the key would travel unprotected over http",
                "Use an address that begins with https.",
            )
        return key


def _arrived(
    done: queue.SimpleQueue[tuple[int, Answer | BaseException]],
) -> Generator[tuple[int, Answer | Refused], None, None]:
    """The answers among what waits in the queue."""
    while not done.empty():
        place, answer = done.get()
        if isinstance(answer, (Answer, Refused)):
            yield place, answer
