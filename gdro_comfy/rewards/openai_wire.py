"""What goes over the wire to an OpenAI-compatible endpoint: its address, a picture, a completion."""

from __future__ import annotations

import base64
import io
import ipaddress
import json
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import InputError
from .http_call import Failure
from .rubric import Answer, Refused, Token

if TYPE_CHECKING:
    from PIL import Image

_LEAST_SIDE = 56  # below it, some vision encoders have no patch to look at


def chat_url(address: str) -> str:
    """The address of chat completions, from what a user types."""
    remedy = "Type one such as http://localhost:11434/v1 (Ollama) or http://localhost:1234/v1."
    if not address.strip():
        raise InputError("address", "it is empty, so nothing is asked", remedy)
    address = address.strip().rstrip("/")
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable, parts = False, urlsplit("")
    if not usable or re.search(r"[\s\x00-\x1f]", address):
        raise InputError("address", "it is no http or https address", remedy)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InputError(
            "address",
            "it holds more than host and path",
            "Leave out names, passwords, ? and #: workflows are shared. A key has its own input.",
        )
    path = parts.path.removesuffix("/chat/completions") or "/v1"
    return f"{parts.scheme}://{parts.netloc}{path}/chat/completions"


KEYS_VARIABLE = "GDRO_KEYS"
"""The environment variable with the user's keys."""


def key_for(host: str, keys: str) -> str:
    """The key for a host, from pairs such as "api.openai.com=sk-1, openrouter.ai=sk-2"; "" if there is
    none for it.

    >>> key_for("openrouter.ai", "api.openai.com=sk-1, openrouter.ai=sk-2")
    'sk-2'
    """
    pairs = (piece.partition("=") for piece in re.split(r"[\s,;]+", keys))
    return next((key for name, _, key in pairs if name.lower() == host.lower()), "")


def is_near(host: str) -> bool:
    """Whether this host is the machine itself or in its own network."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost" or host.endswith((".local", ".localhost"))


def sent_size(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Width and height of the picture that is sent: not too large, not too thin."""
    scale = min(longest / max(size), max(1.0, _LEAST_SIDE / min(size)))
    width, height = (max(_LEAST_SIDE, round(side * scale)) for side in size)
    return width, height


def data_url(image: Image.Image, longest: int) -> str:
    """The picture as JPEG of high quality, as a ``data:`` address; a thin one gets grey margins."""
    from PIL import Image as images

    image = image.convert("RGB")
    size = sent_size(image.size, longest)
    if size != image.size:
        scale = min(size[0] / image.width, size[1] / image.height)
        inner = [max(1, round(side * scale)) for side in image.size]
        sheet = images.new("RGB", size, (128, 128, 128))
        small = image.resize((inner[0], inner[1]), images.Resampling.LANCZOS)
        sheet.paste(small, ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2))
        image = sheet
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def read_completion(data: bytes) -> Answer:
    """The answer in the body of a chat completion.

    Raises:
        Failure: it is no whole chat completion.
        Refused: the model, or a filter around it, does not answer.
    """
    try:
        body = json.loads(data)
        choice = body["choices"][0]
        message = choice["message"]
        text, refusal = message.get("content"), message.get("refusal")
        usage = body.get("usage") or {}
        counted = usage.get("prompt_tokens"), usage.get("completion_tokens")
        tokens = _tokens((choice.get("logprobs") or {}).get("content") or ())
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        start = " ".join(data[:80].decode(errors="replace").split())
        raise Failure(f"the response is no chat completion ({start!r})") from error
    ended = choice.get("finish_reason")
    if refusal or ended == "content_filter":
        raise Refused(f"the model refused: {str(refusal or 'content filter')[:200]}")
    if not isinstance(text, str):
        raise Failure("the response has no text")
    if "".join(token.text for token in tokens) != text:
        tokens = ()  # as with a reasoning model, whose thoughts are left out of the text
    numbers = [n if isinstance(n, int) else 0 for n in counted]
    return Answer(text, tokens, ended == "length", (numbers[0], numbers[1]))


def _tokens(rows: Sequence[Any]) -> tuple[Token, ...]:
    return tuple(
        Token(
            row["token"],
            {
                str(other["token"]): math.exp(min(0.0, float(other["logprob"])))
                for other in row.get("top_logprobs") or ()
            },
        )
        for row in rows
    )
