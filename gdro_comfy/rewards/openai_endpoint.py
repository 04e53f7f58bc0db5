"""A vision-language model behind an OpenAI-compatible address (Ollama, LM Studio, vLLM, ...).

Nothing is sent before the user has typed the address. A key belongs to a host and is stored outside of
workflows, so that nobody who writes a workflow can have it sent elsewhere. It never appears in a message or
in a file.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import InputError
from .async_jobs import run_jobs
from .http_call import CallError, Response, post
from .openai_wire import (
    KEYS_VARIABLE,
    chat_url,
    data_url,
    error_status,
    is_private_host,
    key_for,
    read_completion,
    sent_size,
)
from .pair_rubric import PairRubric
from .rubric import Answer, Refusal, Rubric, UnreadableAnswer

if TYPE_CHECKING:
    from PIL import Image

log = logging.getLogger(__name__)

_PATCH = 28  # side of the pixels that one token stands for in common vision encoders
_LONGEST_WAIT = 600.0
_BUSY = frozenset({408, 409, 425, 429})  # statuses after which the request may be repeated
_NO_VISION = re.compile(
    r"(image|vision|multimodal|mmproj)[^.]{0,60}(not (?:be )?support|unsupported|not loaded|not enabled)"
    r"|(not support|unsupported|missing|no endpoints|without)[^.]{0,60}(image|vision|multimodal|mmproj)",
    re.IGNORECASE,
)
_NO_CREDIT = re.compile(r"insufficient[ _](quota|credit|balance|funds)", re.IGNORECASE)
_WRONG_KEY = re.compile(r"api[ _-]?key|unauthori[sz]ed|authenticat", re.IGNORECASE)
"""Words of servers for faults that last, whatever status they send."""


@dataclass(frozen=True)
class EndpointConfig:
    """Where the model is, and how to ask it.

    Args:
        address: such as ``http://localhost:11434/v1``.
        model: its name at that address.
        time_limit: of one answer, in seconds.
        concurrency: questions asked at once.
        retries: repetitions after a failure that may pass.
        longest_side: in pixels; larger images are reduced to it.
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
        keys: returns the user's keys, in the form that ``openai_wire.key_for`` reads.

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
        self._unsupported: set[str] = set()  # parts of a request that this server has rejected
        self._reached = False

    @property
    def _host(self) -> str:
        return urlsplit(self.url).hostname or ""

    def check(self) -> None:
        """Raise ``InputError`` if the key cannot be used, or would travel unencrypted."""
        self._key()

    def estimate(self, images: int, size: tuple[int, int], rubric: Rubric | PairRubric) -> str:
        """Describe what this many questions about images of this size cost."""
        width, height = sent_size(size, self.config.longest_side)
        image_tokens = math.ceil(width / _PATCH) * math.ceil(height / _PATCH) * rubric.pictures
        text_tokens = 50 + len(rubric.instructions) // 4
        millions = images * (image_tokens + text_tokens) / 1e6
        text = (
            f"{images:,} calls to {self.config.model} at {urlsplit(self.url).netloc}, about "
            f"{image_tokens:,} image tokens and {text_tokens:,} text tokens each: {millions:.2f} "
            "million"
        )
        if self.config.price:
            text += f", about {millions * self.config.price:.2f} at {self.config.price:g} a million"
        return text

    def ask(
        self,
        questions: Sequence[tuple[Image.Image | tuple[Image.Image, ...], str]],
        rubric: Rubric | PairRubric,
        check_cancelled: Callable[[], None],
    ) -> Generator[tuple[int, Answer | Refusal], None, None]:
        """Yield answers in the order in which they come, each with the index of its question.

        Args:
            questions: one or several images, and the question about them.

        Raises:
            InputError: the endpoint cannot be reached, or rejects the key, the model or the request.
            CallError: it still failed after all repetitions.
        """
        jobs = [functools.partial(self._answer, *question, rubric) for question in questions]
        yield from run_jobs(jobs, self.config.concurrency, check_cancelled, "gdro-judge")

    async def _answer(
        self,
        images: Image.Image | tuple[Image.Image, ...],
        question: str,
        rubric: Rubric | PairRubric,
    ) -> Answer | Refusal:
        """Return an answer that can be read, after as many attempts as that takes."""
        images = images if isinstance(images, tuple) else (images,)
        pictures = [data_url(image, self.config.longest_side) for image in images]
        unreadable = failures = 0
        while True:
            unsupported = set(self._unsupported)
            body = self._body(pictures, question, rubric, warm=unreadable > 0)
            try:
                response = await post(self.url, body, self._headers(), self.config.time_limit)
                self._reached = True
                response = _with_real_status(response)
                self._check_fault(response)
                if response.status in (400, 403, 422) and self._leave_out(response, unsupported):
                    continue
                self._check_status(response)
                answer = read_completion(response.data)
                rubric.read(answer)
                return answer
            except Refusal as refusal:
                return refusal
            except UnreadableAnswer as error:
                unreadable += 1
                if unreadable > 1:
                    return Refusal(str(error))
            except CallError as error:
                failures += 1
                await asyncio.sleep(self._seconds_to_wait(error, failures))

    def _seconds_to_wait(self, error: CallError, failures: int) -> float:
        """Return how long to wait after this many failures; raise if the request is not repeated."""
        if error.unreachable and not self._reached:
            raise InputError(
                "address",
                f"nothing answers at {self.url} ({error})",
                "Start the server, or correct the address.",
            ) from error
        if failures > self.config.retries:
            raise CallError(
                f"{self.url} failed {failures} times, the last time: {error}"
            ) from error
        wait = error.retry_after
        if wait is None:
            wait = min(60.0, self.config.first_wait * 2 ** (failures - 1))
        if wait > _LONGEST_WAIT:
            raise CallError(
                f"{self.url} wants no further request for {wait / 60:.0f} minutes"
            ) from error
        log.info("judge: %s; asking again in %.1f s", error, wait)
        return wait

    def _body(
        self, pictures: Sequence[str], question: str, rubric: Rubric | PairRubric, warm: bool
    ) -> dict[str, Any]:
        """Return the request's body; ``warm`` samples, for another answer to the same question."""
        body: dict[str, Any] = {
            "model": self.config.model.strip(),
            "messages": [
                {
                    "role": "user",
                    "content": [
                        *({"type": "image_url", "image_url": {"url": url}} for url in pictures),
                        {"type": "text", "text": question},
                    ],
                }
            ],
            "temperature": 0.5 if warm else 0,
            "max_tokens": self.config.max_tokens,
            "logprobs": True,
            "top_logprobs": 20 if "20 top_logprobs" not in self._unsupported else 5,
        }
        if rubric.structured:
            schema = {"name": "judgement", "strict": True, "schema": rubric.schema()}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        if "max_tokens" in self._unsupported:
            body["max_completion_tokens"] = body.pop("max_tokens")
        if "logprobs" in self._unsupported:
            del body["logprobs"], body["top_logprobs"]
        return {name: value for name, value in body.items() if name not in self._unsupported}

    def _leave_out(self, response: Response, unsupported: set[str]) -> bool:
        """Leave out of later requests what the server's message names, else what servers often lack.

        Args:
            response: with the server's message.
            unsupported: what the rejected request already left out.

        Returns:
            Whether the request is worth repeating.
        """
        if self._unsupported - unsupported:
            return True  # another question has found it in the meantime
        message = response.data.decode(errors="replace").lower()
        parts = (
            ("max_completion_tokens", "max_tokens"),
            ("max_tokens", "max_tokens"),
            ("temperature", "temperature"),
            ("top_logprobs", "20 top_logprobs"),
            ("logprobs", "logprobs"),
            ("response_format", "response_format"),
            ("json_schema", "response_format"),
            ("response_schema", "response_format"),
        )
        named = [part for word, part in parts if word in message and part not in self._unsupported]
        usual = [p for p in ("logprobs", "response_format") if p not in self._unsupported]
        for part in (named or (usual if response.status != 403 else []))[:1]:
            log.info("judge: %s does not support %s; asking without", self.url, part)
            self._unsupported.add(part)
            return True
        return False

    def _check_fault(self, response: Response) -> None:
        """Raise ``InputError`` for what no repetition mends: no vision, no credit, a wrong key, a size."""
        if response.status == 200:
            return
        message = response.data.decode(errors="replace")
        status = f"status {response.status} {self._excerpt(response.data)}"
        if _NO_VISION.search(message):
            raise InputError(
                "model",
                f"it cannot see pictures ({status})",
                "Choose a model that can, or load its vision part (mmproj) in the server.",
            )
        if response.status == 402 or _NO_CREDIT.search(message):
            raise InputError(
                "address", f"{self._host} wants to be paid first ({status})",
                "Add credit to the account of the key, or use another endpoint.",
            )  # fmt: skip
        if response.status == 413:
            raise InputError(
                "longest_side", f"the pictures are too large for {self._host} ({status})",
                "Use a smaller longest_side.",
            )  # fmt: skip
        if response.status == 400 and _WRONG_KEY.search(message):
            raise self._key_error(status)

    def _key_error(self, status: str) -> InputError:
        return InputError(
            "address",
            f"{self._host} wants {'another' if self._key() else 'a'} key ({status})",
            f"Add {self._host}=<key> to ComfyUI's settings (GDRO, keys of judges), or to the "
            f"environment variable {KEYS_VARIABLE}; never to a workflow.",
        )

    def _check_status(self, response: Response) -> None:
        status = response.status
        if status == 200:
            return
        message = self._excerpt(response.data)
        if status in _BUSY or status >= 500:
            raise CallError(f"status {status} {message}".rstrip(), response.retry_after)
        if status in (401, 403):
            raise self._key_error(f"status {status} {message}")
        if 300 <= status < 400:
            raise InputError(
                "address",
                f"{self.url} redirects elsewhere (status {status})",
                "Type the new address.",
            )
        if status in (404, 405):
            raise InputError(
                "address",
                f"{self.url} knows no such page or model (status {status} {message})",
                "Most addresses end in /v1; the model must be one that the endpoint lists.",
            )
        raise InputError(
            "model",
            f"the endpoint rejects the question (status {status} {message})",
            "Choose a model that can see pictures.",
        )

    def _excerpt(self, data: bytes) -> str:
        """Return the start of a server's message, without the key."""
        text = " ".join(data.decode(errors="replace").split())
        key = self._key()
        return (text.replace(key, "***") if key else text)[:200]

    def _headers(self) -> dict[str, str]:
        key = self._key()
        return {"Authorization": f"Bearer {key}"} if key else {}

    def _key(self) -> str:
        """Return the key for this host, "" if there is none; raise ``InputError`` if it is unsafe."""
        key = key_for(self._host, self._keys())
        if key and not (key.isascii() and key.isprintable()):
            raise InputError(
                "address",
                f"the key for {self._host} has characters that no key has",
                "Copy the key again: plain letters, digits and signs.",
            )
        if key and urlsplit(self.url).scheme == "http" and not is_private_host(self._host):
            raise InputError(
                "address",
                "the key would travel unprotected over http",
                "Use an address that begins with https.",
            )
        return key


def _with_real_status(response: Response) -> Response:
    """Return a response with the status of the error in its body, where that came with status 200."""
    status = error_status(response.data) if response.status == 200 else None
    return response if status is None else response._replace(status=status)
