"""One POST of JSON over HTTP: a time limit for the whole of it, a size limit, no proxy, no redirects."""

from __future__ import annotations

import asyncio
import email.utils
import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

_MAX_BYTES = 4 * 1024 * 1024
_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",  # a small compressed response could be unpacked to gigabytes
}


class CallError(RuntimeError):
    """A request failed, and may succeed when it is repeated.

    Args:
        retry_after: seconds that the server asks to wait, if it does.
        unreachable: no connection to a server was made.
    """

    def __init__(
        self, message: str, retry_after: float | None = None, unreachable: bool = False
    ) -> None:
        super().__init__(message)
        self.retry_after, self.unreachable = retry_after, unreachable


class Response(NamedTuple):
    """A whole response; ``retry_after`` is in seconds, None if the server does not say."""

    status: int
    data: bytes
    retry_after: float | None


async def post(url: str, body: Any, headers: Mapping[str, str], time_limit: float) -> Response:
    """Post ``body`` as JSON and return the response, whatever its status.

    The bytes go to the address that was typed: proxies of the environment are not used, and redirects are
    not followed. Every call opens a new connection, which is closed when the call ends or is cancelled.

    Args:
        time_limit: seconds from the connection to the end of the response.

    Raises:
        CallError: there was no connection, or no complete response in time.
    """
    import aiohttp

    # aiohttp would prefer aiodns where it is installed, which does not find names in .local.
    connector = aiohttp.TCPConnector(force_close=True, resolver=aiohttp.ThreadedResolver())
    session = aiohttp.ClientSession(
        connector=connector, timeout=aiohttp.ClientTimeout(total=time_limit)
    )
    try:
        async with (
            session,
            session.post(
                url, json=body, headers={**_HEADERS, **headers}, allow_redirects=False
            ) as response,
        ):
            data = bytearray()
            async for chunk in response.content.iter_any():
                data += chunk
                if len(data) > _MAX_BYTES:
                    raise CallError(f"the response is longer than {_MAX_BYTES // 1024**2} MB")
            retry_after = seconds_to_wait(response.headers.get("Retry-After"))
            return Response(response.status, bytes(data), retry_after)
    except asyncio.TimeoutError as error:
        raise CallError(f"no answer within {time_limit:g} s") from error
    except (aiohttp.ClientConnectorError, aiohttp.InvalidURL) as error:
        raise CallError(_describe(error.__cause__ or error), unreachable=True) from error
    except (aiohttp.ClientError, OSError) as error:
        raise CallError(_describe(error)) from error


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")


def seconds_to_wait(header: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for, as a number or as a date.

    None if there is no header, or if it cannot be read.

    >>> seconds_to_wait("3")
    3.0
    """
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
