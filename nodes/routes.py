"""The HTTP routes of the canvas, below ``/gdro/``.

``gdro_comfy.viewer`` looks runs up by their names in the list of runs, so no path comes from a client.
Content types are fixed, and requests may contain only JSON of a limited size.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import folder_paths
from aiohttp import web
from server import PromptServer

from ..gdro_comfy.data import ratings
from ..gdro_comfy.data.numbers import without_nan
from ..gdro_comfy.errors import InputError
from ..gdro_comfy.training import commands
from ..gdro_comfy.viewer import evaluations, groups, runs, upkeep
from .host import live_rows, locations_at_work

LARGEST_BODY = 64 * 1024
"""Bytes of a request; the ratings of a group of thousands of images fit."""

_SAFE = {
    "X-Content-Type-Options": "nosniff",
    # A report is a single page with its images inside: it runs no script and loads nothing else.
    "Content-Security-Policy": "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'",
}
_NAME = "{%s:[^/]{1,200}}"
_NUMBER = r"{%s:\d{1,9}}"
_RUN = "/gdro/runs/" + _NAME % "run"
_GROUP = _RUN + "/groups/" + _NAME % "group"
_TRAINING = _RUN + "/trainings/" + _NAME % "training"
_EVALUATION = _TRAINING + "/evaluations/" + _NAME % "evaluation"

Handler = Callable[[web.Request], Awaitable[web.Response]]
# A process that only loads nodes has no server, and nobody calls these.
_server = getattr(PromptServer, "instance", None)
_routes = web.RouteTableDef() if _server is None else _server.routes


def _output() -> Path:
    return Path(folder_paths.get_output_directory())


def _loras() -> Path:
    return Path(folder_paths.get_folder_paths("loras")[0])


def _run(request: web.Request) -> Path:
    return runs.find(_output(), request.match_info["run"])


def _training(request: web.Request) -> Path:
    return runs.training_folder(_run(request), request.match_info["training"])


def _answer(work: Callable[..., Any], content_type: str = "application/json") -> Handler:
    """Return a handler that calls ``work(request[, body])`` in a thread.

    It answers an unknown name with 404, invalid input with 400, and what cannot be read or written with
    409. A page without an origin, such as a sandboxed frame of another site, may change nothing.
    """

    async def handle(request: web.Request) -> web.Response:
        if request.method != "GET" and request.headers.get("Origin", "").strip().lower() == "null":
            return _json({"error": "this page has no origin, and may only read"}, 403)
        body = await _body(request) if request.method in ("POST", "PUT") else None
        arguments = (request,) if body is None else (request, body)
        try:
            result = await asyncio.to_thread(work, *arguments)
        except runs.UnknownName as error:
            return _json({"error": str(error)}, 404)
        except FileNotFoundError as error:  # deleted while it was read
            return _json({"error": f"it is gone ({error.strerror})"}, 404)
        except (InputError, ValueError) as error:
            return _json({"error": str(error)}, 400)
        except OSError as error:
            return _json({"error": f"its folder cannot be used ({error.strerror})"}, 409)
        if content_type == "application/json":
            return _json(result)
        headers = {**_SAFE, "Cache-Control": "private, max-age=3600"}
        charset = "utf-8" if content_type.startswith("text/") else None
        return web.Response(
            body=result, content_type=content_type, charset=charset, headers=headers
        )

    return handle


def _json(value: Any, status: int = 200) -> web.Response:
    headers = {**_SAFE, "Cache-Control": "no-store"}
    try:
        try:
            text = json.dumps(value, allow_nan=False)
        except ValueError:  # a file that another program wrote may contain NaN, which is no JSON
            text = json.dumps(without_nan(value))
    except RecursionError:
        status, text = 400, json.dumps({"error": "a file of this run is nested too deeply"})
    return web.json_response(text=text, status=status, headers=headers)


async def _body(request: web.Request) -> dict[str, Any]:
    """Read the JSON object of a request."""
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="send JSON")
    data = b""
    async for part in request.content.iter_chunked(8192):
        data += part
        if len(data) > LARGEST_BODY:
            raise web.HTTPRequestEntityTooLarge(LARGEST_BODY, len(data))
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise web.HTTPBadRequest(text="send a JSON object")
    return value


def _whole_number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise ValueError(f"{name} must be a whole number")
    return int(text)


def _groups(request: web.Request) -> dict[str, Any]:
    query = request.query
    return groups.page(
        _run(request),
        query.get("scores", ""),
        query.get("order", "arrival"),
        float(query.get("least_spread", "0")),
        _whole_number(request, "offset", 0),
        _whole_number(request, "limit", 50),
    )


def _history(request: web.Request) -> dict[str, Any]:
    """Return the training's history, with the steps since it was last written."""
    history = runs.history(_training(request))
    last = max((row.get("step", 0) for row in history["rows"]), default=0)
    live = live_rows(history["run"], history["training"])
    history["rows"] += [row for row in live if row.get("step", 0) > last]
    here = {"run": history["run"], "training": history["training"]}
    history["running"] = history["state"] != "finished" and any(
        here.items() <= location.items() for location in locations_at_work()
    )
    return history


def _delete_run(request: web.Request) -> dict[str, Any]:
    running, _ = PromptServer.instance.prompt_queue.get_current_queue()
    if running:
        raise ValueError("something is running: wait for it, or cancel it, and delete then")
    runs.delete(_output(), request.match_info["run"])
    return {"deleted": request.match_info["run"]}


def _command(request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
    if body.get("wish") == "continue":
        commands.reopen(_training(request))
    else:
        commands.send(_training(request), str(body.get("wish")))
    return {"wished": body.get("wish")}


def _rate(request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
    folder, ranked = _run(request), "ranks" in body
    if runs.is_linked(folder / ratings.FILE_NAME):
        raise runs.UnknownName("the ratings of this run are a link, which is not followed")
    group = groups.group_folder(folder, str(body.get("group")))
    values = body.get("ranks" if ranked else "ratings")
    if not isinstance(values, list):
        raise ValueError("ratings must be a list")
    ratings.write(folder, {group.name: ratings.GroupRating(values, ranked)})
    return {"rated": group.name}


def _ratings(request: web.Request) -> dict[str, Any]:
    folder = _run(request)
    linked = runs.is_linked(folder / ratings.FILE_NAME)
    by_group = {} if linked else ratings.read(folder)
    return {"ratings": {group: rating.to_json() for group, rating in by_group.items()}}


def _group_image(thumbnail: bool) -> Callable[[web.Request], bytes]:
    def read(request: web.Request) -> bytes:
        info = request.match_info
        return groups.image(_run(request), info["group"], int(info["image"]), thumbnail)

    return read


def _training_image(request: web.Request) -> bytes:
    step = request.match_info["step"]
    return runs.training_image(
        _training(request), request.match_info["kind"], None if step == "base" else int(step)
    )


def _evaluation_image(request: web.Request) -> bytes:
    info = request.match_info
    pair = int(info["pair"]) if "pair" in info else None
    return evaluations.image(
        _training(request), info["evaluation"], pair, int(info.get("model", "0"))
    )


def _report(request: web.Request) -> bytes:
    return evaluations.report(_training(request), request.match_info["evaluation"])


_IMAGE = _GROUP + "/images/" + _NUMBER % "image"
_routes.get("/gdro/runs")(_answer(lambda request: runs.summaries(_output())))
_routes.get("/gdro/working")(_answer(lambda request: locations_at_work()))
_routes.delete(_RUN)(_answer(_delete_run))
_routes.get(_RUN + "/verify")(
    _answer(lambda request: upkeep.check(_output(), request.match_info["run"], _loras()))
)
_routes.post(_RUN + "/verify")(
    _answer(
        lambda request, body: upkeep.set_damaged_aside(
            _output(), request.match_info["run"], _loras()
        )
    )
)
_routes.get("/gdro/leftovers")(_answer(lambda request: upkeep.left_over(_output(), _loras())))
_routes.delete("/gdro/leftovers")(
    _answer(lambda request: upkeep.left_over(_output(), _loras(), delete=True))
)
_routes.get(_RUN + "/workflow")(_answer(lambda request: runs.workflow(_run(request))))
_routes.get(_RUN + "/groups")(_answer(_groups))
_routes.get(_RUN + "/ratings")(_answer(_ratings))
_routes.put(_RUN + "/ratings")(_answer(_rate))
_routes.get(_IMAGE + "/thumbnail")(_answer(_group_image(thumbnail=True), "image/jpeg"))
_routes.get(_IMAGE)(_answer(_group_image(thumbnail=False), "image/png"))
_routes.get(_TRAINING)(_answer(_history))
_routes.post(_TRAINING + "/wish")(_answer(_command))
_routes.get(_TRAINING + r"/pictures/{kind:samples|validation}/{step:\d{1,9}|base}")(
    _answer(_training_image, "image/png")
)
_routes.get(_EVALUATION)(
    _answer(lambda request: evaluations.read(_training(request), request.match_info["evaluation"]))
)
_routes.get(_EVALUATION + "/comparison")(_answer(_evaluation_image, "image/png"))
_routes.get(_EVALUATION + "/pairs/" + _NUMBER % "pair" + r"/{model:\d{1,3}}")(
    _answer(_evaluation_image, "image/png")
)
_routes.get(_EVALUATION + "/report")(_answer(_report, "text/html"))
