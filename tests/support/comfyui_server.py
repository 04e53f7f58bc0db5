"""A pytest plugin that starts a real ComfyUI with temporary folders.

The checkout is that in COMFYUI_PATH, or else ~/ComfyUI; its Python that in COMFYUI_PYTHON, or else of a
venv in or beside the checkout, or else the current one. Tests that need a checkout are skipped without
one. ``tests/comfyui`` and ``tests/browser`` register the plugin and share one server.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from example_package import install, install_example

PACK = Path(__file__).parents[2]
CHECKOUT = Path(os.environ.get("COMFYUI_PATH") or Path.home() / "ComfyUI")
WORKFLOWS = sorted((PACK / "workflows").glob("*.json"))
_HOW = "set COMFYUI_PATH to a checkout of ComfyUI (CONTRIBUTING.md says how to make one)"
_NEEDS_IT = (PACK / "tests" / "comfyui", PACK / "tests" / "browser")

Graph = dict[str, dict[str, Any]]


def _python() -> str:
    if os.environ.get("COMFYUI_PYTHON"):
        return os.environ["COMFYUI_PYTHON"]
    for folder in (CHECKOUT, CHECKOUT.parent):
        for venv in ("venv", ".venv"):
            for name in ("bin/python", "Scripts/python.exe"):
                if (folder / venv / name).is_file():
                    return str(folder / venv / name)
    return sys.executable


def pytest_collection_modifyitems(items) -> None:
    if (CHECKOUT / "main.py").is_file():
        return
    for item in items:
        if any(folder in item.path.parents for folder in _NEEDS_IT):
            item.add_marker(pytest.mark.skip(reason=f"no ComfyUI at {CHECKOUT}: {_HOW}"))


def to_api(workflow: dict[str, Any]) -> Graph:
    """Return a saved workflow (UI format) as the graph that ``POST /prompt`` takes, without notes."""
    origins = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    graph: Graph = {}
    for node in workflow["nodes"]:
        if node["type"] in ("MarkdownNote", "Note"):
            continue
        inputs = dict(node.get("widgets_values_named") or {})
        inputs.pop("control_after_generate", None)  # exists only on the canvas
        for slot in node["inputs"]:
            if slot.get("link") is not None:
                inputs[slot["name"]] = origins[slot["link"]]
        graph[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return graph


def node_id(graph: Graph, class_type: str) -> str:
    """Return the id of the first node of a type."""
    return next(key for key, node in graph.items() if node["class_type"] == class_type)


def change(graph: Graph, class_type: str, inputs: dict[str, Any]) -> None:
    """Set inputs of all nodes of a type."""
    for node in graph.values():
        if node["class_type"] == class_type:
            node["inputs"].update(inputs)


SMALL = {
    "GDRO_PromptSet": {"limit": 6},
    "GDRO_GroupRollout": {"images_per_prompt": 4, "steps": 2},
    "GDRO_TrainLoRA": {
        "algorithm.group_size": 4,
        "steps": 6,
        "groups_per_step": 2,
        "preview_every": 3,
        "checkpoint_every": 3,
    },
    "GDRO_EvaluateAlignment": {"images_per_prompt": 1, "steps": 2},
}
"""Values of the quickstart's nodes that make it take seconds."""


@dataclass
class Server:
    """A running ComfyUI."""

    url: str
    base: Path
    log: Path

    def fetch(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return answer.read()

    def get(self, path: str):
        return json.loads(self.fetch(path))

    def post(self, path: str, body) -> tuple[int, dict]:
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text else {}
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"{}")

    def queue(self, prompt: Graph) -> str:
        """Queue an API-format graph; return its id."""
        status, answer = self.post("/prompt", {"prompt": prompt})
        assert status == 200, answer
        assert not answer["node_errors"], answer
        return answer["prompt_id"]

    def wait(
        self, prompt_id: str, until: Callable[[], bool] = lambda: False, limit: float = 400
    ) -> dict:
        """Wait until the graph has ended, and return its history entry; {} once ``until`` returns True."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            entry = self.get(f"/history/{prompt_id}").get(prompt_id)
            if entry and entry.get("status", {}).get("status_str"):
                return entry
            if until():
                return {}
            time.sleep(0.05)
        raise AssertionError(f"not finished after {limit} s; the log ends with:\n{self.log_tail()}")

    def run(self, prompt: Graph) -> dict:
        """Queue a graph, wait for it to succeed, and return its history entry."""
        entry = self.wait(self.queue(prompt))
        assert entry["status"]["status_str"] == "success", json.dumps(entry["status"])[:3000]
        return entry

    def cancel_when(self, prompt: Graph, until: Callable[[], bool]) -> dict:
        """Queue a graph, cancel it once ``until`` returns True, and return its history entry."""
        prompt_id = self.queue(prompt)
        assert not self.wait(prompt_id, until), "it ended before it could be cancelled"
        self.post("/interrupt", {"prompt_id": prompt_id})
        return self.wait(prompt_id)

    def forget(self) -> None:
        """Make ComfyUI drop its cache, as a restart would."""
        self.post("/free", {"unload_models": True, "free_memory": True})
        time.sleep(1)

    def log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]


def ask(
    server: Server,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, str, bytes]:
    """Return status, content type and body of the response; the path is sent unchanged."""
    url = urlsplit(server.url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.getheader("Content-Type", ""), response.read()
    finally:
        connection.close()


def messages(entry: dict, kind: str) -> list[dict]:
    """Return the messages of one kind in a history entry, such as ``execution_error``."""
    return [message for name, message in entry["status"]["messages"] if name == kind]


@pytest.fixture(scope="session")
def comfy_python() -> str:
    return _python()


@pytest.fixture(scope="session")
def comfy_base(tmp_path_factory) -> Path:
    """A base directory of ComfyUI for these tests, with the pack installed."""
    base = tmp_path_factory.mktemp("comfyui")
    (base / "custom_nodes").mkdir()
    (base / "custom_nodes" / "ComfyUI-GDRO").symlink_to(PACK, target_is_directory=True)
    for name in ("input", "output", "models/loras", "models/diffusion_models", "models/diffusers"):
        (base / name).mkdir(parents=True)
    # One package that works, and one that cannot be imported.
    install_example(base / "site")
    install(base / "site", "broken-rewards", "import gone_away", {"mine": "broken_rewards:Mine"})
    return base


@pytest.fixture(scope="session")
def server(comfy_base, comfy_python) -> Iterator[Server]:
    with started(comfy_base, comfy_python) as running:
        yield running


@contextmanager
def started(comfy_base: Path, comfy_python: str) -> Iterator[Server]:
    """Start a ComfyUI with a base directory, and end it with the context."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = comfy_base / "server.log"
    command = [comfy_python, "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(port)]
    command += ["--base-directory", str(comfy_base), "--database-url", "sqlite:///:memory:"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    paths = [str(comfy_base / "site"), os.environ.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command, cwd=CHECKOUT, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
    running = Server(f"http://127.0.0.1:{port}", comfy_base, log)
    try:
        for _ in range(900):
            assert process.poll() is None, f"ComfyUI ended while starting:\n{running.log_tail()}"
            try:
                running.get("/system_stats")
                break
            except OSError:
                time.sleep(0.2)
        else:
            raise AssertionError(f"ComfyUI did not start:\n{running.log_tail()}")
        yield running
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
