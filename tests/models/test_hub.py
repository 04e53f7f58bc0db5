"""Downloads from a hub on this machine: resumed, cancelled and refused; and no hub at all."""

import collections
import hashlib
import http.server
import json
import shutil
import socket
import threading

import pytest
import tiny_models
import torch
from huggingface_hub import constants

from gdro_comfy.errors import InputError
from gdro_comfy.models import hub, loading
from gdro_comfy.progress import Cancelled

REPO = "someone/tiny-flux"


class Hub(http.server.ThreadingHTTPServer):
    """Enough of the hub's API for one model; records requests and counts the bytes sent."""

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.gated, self.requests = folder, False, []
        self.sent = collections.Counter()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def refuse(self, status, code):
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def answer(self, body):
        self.server.requests.append(self.path)
        if "missing" in self.path:
            return self.refuse(404, "RepoNotFound")
        if self.server.gated:
            return self.refuse(401, "GatedRepo")
        path = self.path.split("?")[0]
        if path.startswith("/api/models/"):
            files = [p for p in self.server.folder.rglob("*") if p.is_file()]
            siblings = [
                {
                    "rfilename": p.relative_to(self.server.folder).as_posix(),
                    "size": p.stat().st_size,
                }
                for p in files
            ]
            text = json.dumps({"id": REPO, "sha": "f" * 40, "siblings": siblings}).encode()
            return self.send(text, {"Content-Type": "application/json"}, body)
        name = path.split("/resolve/" + "f" * 40 + "/")[1]
        data = (self.server.folder / name).read_bytes()
        start = 0
        if "Range" in self.headers and not self.headers["Range"].startswith("bytes=0-0"):
            start = int(self.headers["Range"].split("=")[1].split("-")[0])
        headers = {
            "ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": "f" * 40,
            "Accept-Ranges": "bytes",
        }  # fmt: skip
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        if body:
            self.server.sent[name] += len(data) - start
        return self.send(data[start:], headers, body, 206 if start else 200)

    def send(self, data, headers, body, status=200):
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(data)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repository")
    tiny_models.flux_pipeline().save_pretrained(folder)
    (folder / "flux1.safetensors").write_bytes(bytes(5000))  # a second copy, at the top
    (folder / "transformer" / "old.bin").write_bytes(bytes(5000))
    (folder / "README.md").write_text("words")
    return folder


@pytest.fixture
def server(repository, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    folder = tmp_path / "repository"
    shutil.copytree(repository, folder)
    server = Hub(folder)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_model_is_downloaded_once_and_loads(server, host):
    folder = hub.download(host, REPO, server.url)
    assert folder == host.model_dir("diffusers") / "someone--tiny-flux"
    assert loading.load(folder, torch.device("cpu")).title == "FLUX.1"
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert not names & {"flux1.safetensors", "transformer/old.bin", "README.md"}
    assert [stage for stage, _, _ in host.reports][-1] == "downloading, MB"
    server.shutdown()
    assert hub.download(host, REPO, "http://127.0.0.1:9") == folder  # needs no network any more


def test_a_cancelled_download_resumes_and_fetches_nothing_twice(server, host):
    host.cancel_after = 6
    with pytest.raises(Cancelled):
        hub.download(host, REPO, server.url)
    host.cancel_after = None
    folder = host.model_dir("diffusers") / "someone--tiny-flux"
    assert not (folder / "download.json").exists()
    hub.download(host, REPO, server.url)
    assert loading.load(folder, torch.device("cpu")).title == "FLUX.1"
    for name, sent in server.sent.items():
        size = (server.folder / name).stat().st_size
        assert sent < 2 * size or size < 10_000, name


def test_a_gated_model_without_a_token_says_what_to_do(server, host):
    server.gated = True
    with pytest.raises(InputError, match="repo_id: .* is gated.*Accept its license.*HF_TOKEN"):
        hub.download(host, REPO, server.url)


def test_a_model_that_does_not_exist_is_named(server, host):
    with pytest.raises(InputError, match="someone/missing is not on the hub"):
        hub.download(host, "someone/missing", server.url)


def test_another_family_is_refused_before_its_weights_are_fetched(server, host):
    (server.folder / "model_index.json").write_text('{"_class_name": "StableDiffusionXLPipeline"}')
    with pytest.raises(InputError, match="is a StableDiffusionXLPipeline"):
        hub.download(host, REPO, server.url)
    assert not any("safetensors" in path for path in server.requests)


def test_a_full_disk_is_known_before_the_weights_are_fetched(server, host, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 1000))
    with pytest.raises(InputError, match="still needs .* GB, and the disk"):
        hub.download(host, REPO, server.url)


def test_a_missing_network_is_explained(host, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = probe.getsockname()[1]
    with pytest.raises(InputError, match="the hub cannot be reached"):
        hub.download(host, REPO, f"http://127.0.0.1:{closed}")


@pytest.mark.parametrize("name", ["FLUX.1-dev", "../../etc", "a/b/c", "a/..", "https://x/y", ""])
def test_a_malformed_id_is_refused_at_once(host, name):
    with pytest.raises(InputError, match="is not a Hugging Face id"):
        hub.download(host, name)
