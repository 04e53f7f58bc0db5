"""One request over HTTP that can be abandoned at any moment, and that ends on time."""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import json
import math
import socket
import ssl
import time
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

_MAX_BYTES = 4 * 1024 * 1024


class Abandoned(Exception):
    """The request was given up, because nobody waits for it any more."""


class Failure(RuntimeError):
    """A request failed in a way that may pass.

    Args:
        retry_after: seconds that the server asks to wait, if it does.
        unreachable: there was no server to talk to.
    """

    def __init__(
        self, message: str, retry_after: float | None = None, unreachable: bool = False
    ) -> None:
        super().__init__(message)
        self.retry_after, self.unreachable = retry_after, unreachable


class Response(NamedTuple):
    """``retry_after``: seconds that the server asks to wait, if it does."""

    status: int
    data: bytes
    retry_after: float | None


class Call:
    """A POST of JSON. ``run`` blocks; the other methods are for another thread.

    No redirects are followed and no proxy is used: the bytes go to the address that was typed.
    """

    def __init__(self, url: str, body: Any, headers: Mapping[str, str], time_limit: float) -> None:
        self._parts = urlsplit(url)
        self._body = json.dumps(body).encode()
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        self._headers.update(headers)
        self._time_limit = time_limit
        self._deadline = math.inf
        self._socket: socket.socket | None = None
        self._abandoned = self._late = False

    def run(self) -> Response:
        """The response, whatever its status.

        Raises:
            Failure: no connection, or no whole response in time.
            Abandoned: by the other thread.
        """
        self._deadline = time.monotonic() + self._time_limit
        connection = self._connection()
        reached = False
        try:
            connection.connect()
            reached, self._socket = True, connection.sock
            self._check()
            path = self._parts.path or "/"
            connection.request("POST", path, self._body, self._headers)
            response = connection.getresponse()
            data = response.read(_MAX_BYTES + 1)
            self._check()
        except (OSError, http.client.HTTPException) as error:
            self._check(error)
            words = f"{type(error).__name__}: {error}".rstrip(": ")
            raise Failure(words, unreachable=not reached) from error
        finally:
            self._deadline = math.inf
            connection.close()
        if len(data) > _MAX_BYTES:
            raise Failure(f"the response is longer than {_MAX_BYTES // 1024**2} MB")
        return Response(response.status, data, seconds_to_wait(response.getheader("Retry-After")))

    def abandon(self) -> None:
        """Make ``run`` end at once."""
        self._abandoned = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def abandon_if_late(self) -> None:
        """Make ``run`` end if its time is over: the time limit of a socket is for each piece of a
        response, not for the whole."""
        if time.monotonic() > self._deadline:
            self._late = True
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(
                host, port, timeout=self._time_limit, context=context
            )
        return http.client.HTTPConnection(host, port, timeout=self._time_limit)

    def _check(self, error: Exception | None = None) -> None:
        if self._abandoned:
            raise Abandoned from error
        if self._late or isinstance(error, TimeoutError):
            raise Failure(f"no answer within {self._time_limit:g} s") from error


def seconds_to_wait(header: str | None) -> float | None:
    """What a Retry-After header asks for: seconds, or a date. None if it says nothing usable.

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
