"""What the canvas asks the server for, below ``/gdro/``.

Each answer comes from ``gdro_comfy.runs``, which knows runs by their names in the list of runs: no path
comes from a client. Content types are fixed, and only JSON of a limited size is taken in.
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
from ..gdro_comfy.errors import InputError
from ..gdro_comfy.training import commands
from ..gdro_comfy.viewer import groups, runs
from .host import live_rows

LARGEST_BODY = 64 * 1024
"""Bytes of a request; ratings of a group of thousands fit."""

_SAFE = {
    "X-Content-Type-Options": "nosniff",
    # A report is a page of its own, with pictures inside: nothing in it runs, or asks for more.
    "Content-Security-Policy": "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'",
}
_NAME = "{%s:[^/]{1,200}}"
_NUMBER = r"{%s:\d{1,9}}"
_RUN = "/gdro/runs/" + _NAME % "run"
_GROUP = _RUN + "/groups/" + _NAME % "group"
_TRAINING = _RUN + "/trainings/" + _NAME % "training"
_EVALUATION = _TRAINING + "/evaluations/" + _NAME % "evaluation"

Handler = Callable[[web.Request], Awaitable[web.Response]]
# A process that only loads nodes has no server: then nobody asks for these.
_server = getattr(PromptServer, "instance", None)
_routes = web.RouteTableDef() if _server is None else _server.routes


def _output() -> Path:
    return Path(folder_paths.get_output_directory())


def _run(request: web.Request) -> Path:
    return runs.find(_output(), request.match_info["run"])


def _training(request: web.Request) -> Path:
    return runs.training_folder(_run(request), request.match_info["training"])


def _answer(work: Callable[..., Any], content_type: str = "application/json") -> Handler:
    """A handler that does ``work(request[, body])`` beside the event loop; what is unknown is a 404,
    what does not fit a 400."""

    async def handle(request: web.Request) -> web.Response:
        body = await _body(request) if request.method in ("POST", "PUT") else None
        arguments = (request,) if body is None else (request, body)
        try:
            found = await asyncio.to_thread(work, *arguments)
        except runs.UnknownName as error:
            return _json({"error": str(error)}, 404)
        except (InputError, ValueError) as error:
            return _json({"error": str(error)}, 400)
        if content_type == "application/json":
            return _json(found)
        headers = {**_SAFE, "Cache-Control": "private, max-age=3600"}
        charset = "utf-8" if content_type.startswith("text/") else None
        return web.Response(body=found, content_type=content_type, charset=charset, headers=headers)

    return handle


def _json(value: Any, status: int = 200) -> web.Response:
    headers = {**_SAFE, "Cache-Control": "no-store"}
    return web.json_response(value, status=status, headers=headers)


async def _body(request: web.Request) -> dict[str, Any]:
    """The JSON object of a request."""
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


def _whole(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise ValueError(f"{name} has to be a whole number")
    return int(text)


def _groups(request: web.Request) -> dict[str, Any]:
    query = request.query
    return groups.groups(
        _run(request),
        query.get("scores", ""),
        query.get("order", "arrival"),
        float(query.get("least_spread", "0")),
        _whole(request, "offset", 0),
        _whole(request, "limit", 50),
    )


def _history(request: web.Request) -> dict[str, Any]:
    """The training's history, with the steps since it was last written."""
    found = runs.history(_training(request))
    last = max((row.get("step", 0) for row in found["rows"]), default=0)
    live = live_rows(found["run"], found["training"])
    found["rows"] += [row for row in live if row.get("step", 0) > last]
    return found


def _delete(request: web.Request) -> dict[str, Any]:
    running, _ = PromptServer.instance.prompt_queue.get_current_queue()
    if running:
        raise ValueError("something is running: wait for it, or cancel it, and delete then")
    runs.delete(_output(), request.match_info["run"])
    return {"deleted": request.match_info["run"]}


def _wish(request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
    commands.make(_training(request), str(body.get("wish")))
    return {"wished": body.get("wish")}


def _rate(request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
    folder, ranked = _run(request), "ranks" in body
    group = groups.group_folder(folder, str(body.get("group")))
    given = body.get("ranks" if ranked else "ratings")
    if not isinstance(given, list):
        raise ValueError("ratings have to be a list")
    ratings.write(folder, {group.name: ratings.Given(given, ranked)})
    return {"rated": group.name}


def _ratings(request: web.Request) -> dict[str, Any]:
    found = ratings.read(_run(request))
    return {"ratings": {group: given.to_json() for group, given in found.items()}}


def _picture(thumbnail: bool) -> Callable[[web.Request], bytes]:
    def read(request: web.Request) -> bytes:
        info = request.match_info
        return groups.picture(_run(request), info["group"], int(info["image"]), thumbnail)

    return read


def _sample(request: web.Request) -> bytes:
    step = request.match_info["step"]
    return runs.sample(
        _training(request), request.match_info["kind"], None if step == "base" else int(step)
    )


def _evaluation_picture(request: web.Request) -> bytes:
    info = request.match_info
    pair = int(info["pair"]) if "pair" in info else None
    return runs.evaluation_picture(
        _training(request), info["evaluation"], pair, int(info.get("model", "0"))
    )


def _report(request: web.Request) -> bytes:
    return runs.report(_training(request), request.match_info["evaluation"])


_image = "/images/" + _NUMBER % "image"
_routes.get("/gdro/runs")(_answer(lambda request: runs.summaries(_output())))
_routes.delete(_RUN)(_answer(_delete))
_routes.get(_RUN + "/workflow")(_answer(lambda request: runs.workflow(_run(request))))
_routes.get(_RUN + "/groups")(_answer(_groups))
_routes.get(_RUN + "/ratings")(_answer(_ratings))
_routes.put(_RUN + "/ratings")(_answer(_rate))
_routes.get(_GROUP + _image + "/thumbnail")(_answer(_picture(thumbnail=True), "image/jpeg"))
_routes.get(_GROUP + _image)(_answer(_picture(thumbnail=False), "image/png"))
_routes.get(_TRAINING)(_answer(_history))
_routes.post(_TRAINING + "/wish")(_answer(_wish))
_routes.get(_TRAINING + r"/pictures/{kind:samples|validation}/{step:\d{1,9}|base}")(
    _answer(_sample, "image/png")
)
_routes.get(_EVALUATION)(
    _answer(lambda request: runs.evaluation(_training(request), request.match_info["evaluation"]))
)
_routes.get(_EVALUATION + "/comparison")(_answer(_evaluation_picture, "image/png"))
_routes.get(_EVALUATION + "/pairs/" + _NUMBER % "pair" + r"/{model:\d{1,3}}")(
    _answer(_evaluation_picture, "image/png")
)
_routes.get(_EVALUATION + "/report")(_answer(_report, "text/html"))
