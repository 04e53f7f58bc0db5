"""What an OpenAI-compatible endpoint sends and receives: its address, a key, an image, a completion."""

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
from .http_call import CallError
from .rubric import Answer, Refusal, Token

if TYPE_CHECKING:
    from PIL import Image

KEYS_VARIABLE = "GDRO_KEYS"
"""The environment variable with the user's keys."""

_SHORTEST_SIDE = 56  # in pixels; some vision encoders fail on less


def chat_url(address: str) -> str:
    """Return the address of chat completions for the address that a user types.

    >>> chat_url("http://localhost:11434")
    'http://localhost:11434/v1/chat/completions'

    Raises:
        InputError: it is not an http or https address of a host and a path only.
    """
    remedy = "Type one such as http://localhost:11434/v1 (Ollama) or http://localhost:1234/v1."
    if not address.strip():
        raise InputError("address", "it is empty, so nothing is asked", remedy)
    address = address.strip().rstrip("/")
    try:
        parts = urlsplit(address)
        host = (parts.hostname or "").encode("idna")  # as the look-up of the name will do
        usable = parts.scheme in ("http", "https") and bool(host) and parts.port != 0
    except ValueError:
        usable, parts = False, urlsplit("")
    if not usable or re.search(r"[\s\x00-\x1f]", address):
        raise InputError("address", "it is not an http or https address", remedy)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InputError(
            "address",
            "it holds more than a host and a path",
            "Leave out names, passwords, ? and #: workflows are shared. A key belongs in ComfyUI's settings.",
        )
    path = parts.path.removesuffix("/chat/completions") or "/v1"
    return f"{parts.scheme}://{parts.netloc}{path}/chat/completions"


def key_for(host: str, keys: str) -> str:
    """Return the key for a host, "" if there is none.

    Args:
        keys: pairs such as "api.openai.com=sk-1, openrouter.ai=sk-2".

    >>> key_for("openrouter.ai", "api.openai.com=sk-1, openrouter.ai=sk-2")
    'sk-2'
    """
    pairs = (pair.partition("=") for pair in re.split(r"[\s,;]+", keys))
    return next((key for name, _, key in pairs if name.lower() == host.lower()), "")


def is_private_host(host: str) -> bool:
    """Return whether a host is this machine or belongs to a private network."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost" or host.endswith((".local", ".localhost"))


def sent_size(size: tuple[int, int], longest_side: int) -> tuple[int, int]:
    """Return width and height of the image that is sent: not too large, not too thin."""
    scale = min(longest_side / max(size), max(1.0, _SHORTEST_SIDE / min(size)))
    width, height = (max(_SHORTEST_SIDE, round(side * scale)) for side in size)
    return width, height


def data_url(image: Image.Image, longest_side: int) -> str:
    """Return an image as a ``data:`` address with a JPEG of high quality; grey margins if it is thin."""
    from PIL import Image

    image = image.convert("RGB")
    size = sent_size(image.size, longest_side)
    if size != image.size:
        scale = min(size[0] / image.width, size[1] / image.height)
        width, height = (max(1, round(side * scale)) for side in image.size)
        resized = image.resize((width, height), Image.Resampling.LANCZOS)
        # Not ImageOps.pad: it rounds margins otherwise, and fails on lines of one pixel.
        image = Image.new("RGB", size, (128, 128, 128))
        image.paste(resized, ((size[0] - width) // 2, (size[1] - height) // 2))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def read_completion(data: bytes) -> Answer:
    """Return the answer in the body of a chat completion.

    Raises:
        CallError: it is not a complete chat completion.
        Refusal: the model, or a filter around it, does not answer.
    """
    try:
        body = json.loads(data)
        choice = body["choices"][0]
        message = choice["message"]
        text, refusal = _text(message.get("content")), message.get("refusal")
        thoughts = message.get("reasoning_content") or message.get("reasoning")
        usage = body.get("usage") or {}
        counts = usage.get("prompt_tokens"), usage.get("completion_tokens")
        logprobs = choice.get("logprobs") or {}
    except (
        ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError,
    ) as error:  # fmt: skip
        start = " ".join(data[:80].decode(errors="replace").split())
        raise CallError(f"the response is no chat completion ({start!r})") from error
    finish_reason = choice.get("finish_reason")
    if refusal or finish_reason == "content_filter":
        raise Refusal(f"the model refused: {str(refusal or 'content filter')[:200]}")
    if finish_reason not in (None, "stop", "length", "eos", "stop_sequence", "end_turn"):
        raise CallError(
            f"the model stopped with {str(finish_reason)[:40]!r}: {str(text or '')[:120]}"
        )
    if not text and finish_reason == "length":
        raise Refusal("its thoughts used up max_tokens; raise it, or turn the model's thinking off")
    if not text and thoughts:
        raise Refusal("the model wrote thoughts and no answer; turn its thinking off")
    if not isinstance(text, str):
        raise CallError("the response has no text")
    try:
        tokens = _tokens(logprobs.get("content") or ())
    except (KeyError, TypeError, ValueError, AttributeError):
        tokens = ()  # in another form, or with gaps: the score that was written counts
    if "".join(token.text for token in tokens) != text:
        tokens = ()  # as with a reasoning model, whose thoughts are left out of the text
    tokens_in, tokens_out = (count if isinstance(count, int) else 0 for count in counts)
    return Answer(text, tokens, finish_reason == "length", (tokens_in, tokens_out))


def _text(content: Any) -> Any:
    """Return the text of a content, which may be a list of parts; parts of thoughts are left out."""
    if not isinstance(content, list):
        return content
    parts = [part for part in content if isinstance(part, dict) and part.get("type") == "text"]
    return "".join(str(part.get("text") or "") for part in parts)


def error_status(data: bytes) -> int | None:
    """Return the status of an error in a body, as some servers send it with status 200; None if it is none.

    It is 500 where the body gives no status.
    """
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return None
    body = body[0] if isinstance(body, list) and body else body
    error = body.get("error") if isinstance(body, dict) and not body.get("choices") else None
    if not error:
        return None
    code = error.get("code") if isinstance(error, dict) else None
    return code if type(code) is int and 400 <= code < 600 else 500


def _tokens(rows: Sequence[Any]) -> tuple[Token, ...]:
    return tuple(
        Token(
            row["token"],
            {
                str(candidate["token"]): math.exp(min(0.0, float(candidate["logprob"])))
                for candidate in row.get("top_logprobs") or ()
            },
        )
        for row in rows
    )
