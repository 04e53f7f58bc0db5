"""The routes below /gdro/ in a real ComfyUI: what they serve, and that they serve nothing else."""

import http.client
import json
import shutil
from urllib.parse import urlsplit

import pytest
from PIL import Image

from gdro_comfy.data.files import append_lines, digest, write_json

RUN = "routes-00000000"
EVIL = "<img src=x onerror=alert(1)>"
GROUP = digest(EVIL)


@pytest.fixture
def folder(server):
    """A run with one group and an unfinished training."""
    folder = server.base / "output" / "gdro" / RUN
    group = folder / "prompts" / GROUP
    group.mkdir(parents=True)
    write_json(folder / "run.json", {"name": EVIL, "model": {}})
    write_json(group / "prompt.json", {"text": EVIL})
    Image.new("RGB", (300, 300)).save(group / "000.png")
    (folder / "train" / "aaaa000000").mkdir(parents=True)
    append_lines(folder / "train" / "aaaa000000" / "history.jsonl", [{"step": 1, "loss": 0.5}])
    (server.base / "output" / "secret.png").write_bytes(b"secret")
    (server.base / "output" / "gdro" / "secret.png").write_bytes(b"secret")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def ask(server, method, path, body=None, headers=None):
    """Return status, content type and body of the response; the path is sent unchanged."""
    url = urlsplit(server.url)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.getheader("Content-Type", ""), response.read()
    finally:
        connection.close()


def test_runs_are_served_with_their_content_types(server, folder):
    status, kind, body = ask(server, "GET", "/gdro/runs")
    assert (status, kind.split(";")[0]) == (200, "application/json")
    assert [run["name"] for run in json.loads(body) if run["run"] == RUN] == [EVIL]
    status, kind, body = ask(server, "GET", f"/gdro/runs/{RUN}/groups")
    assert json.loads(body)["groups"][0]["prompt"] == EVIL
    image = f"/gdro/runs/{RUN}/groups/{GROUP}/images/0"
    assert ask(server, "GET", image)[:2] == (200, "image/png")
    assert ask(server, "GET", f"{image}/thumbnail")[:2] == (200, "image/jpeg")
    status, _, body = ask(server, "GET", f"/gdro/runs/{RUN}/trainings/aaaa000000")
    assert json.loads(body)["rows"] == [{"step": 1, "loss": 0.5}]


@pytest.mark.parametrize(
    "path",
    [
        "/gdro/runs/../secret.png",
        "/gdro/runs/..%2f..%2foutput/groups",
        "/gdro/runs/%2e%2e/groups",
        f"/gdro/runs/{RUN}/groups/..%2f..%2f../images/0",
        f"/gdro/runs/{RUN}/groups/%2e%2e/images/0",
        f"/gdro/runs/{RUN}/groups/{GROUP}/images/..%2f..%2f..%2f..%2fsecret.png",
        f"/gdro/runs/{RUN}/groups/{GROUP}/images/7",
        f"/gdro/runs/{RUN}/trainings/%2e%2e",
        f"/gdro/runs/{RUN}/trainings/..%2f..%2f{RUN}",
        f"/gdro/runs/{RUN}/groups?scores=..%2frun.json",
        f"/gdro/runs/{RUN}/trainings/aaaa000000/pictures/..%2f..%2fprompts/0",
        f"/gdro/runs/{RUN}/trainings/aaaa000000/evaluations/%2e%2e/report",
    ],
)
def test_nothing_outside_a_run_is_served(server, folder, path):
    status, _, body = ask(server, "GET", path)
    assert status == 404, path
    assert b"secret" not in body


@pytest.mark.parametrize("query", ["offset=x", "limit=-1", "offset=99999999999", "least_spread=x"])
def test_malformed_queries_are_refused(server, folder, query):
    status, _, body = ask(server, "GET", f"/gdro/runs/{RUN}/groups?{query}")
    assert status == 400
    assert json.loads(body)["error"]


def test_other_methods_are_refused(server, folder):
    wish = f"/gdro/runs/{RUN}/trainings/aaaa000000/wish"
    for method, path in (
        ("POST", "/gdro/runs"),
        ("PUT", f"/gdro/runs/{RUN}/groups"),
        ("DELETE", f"/gdro/runs/{RUN}/groups/{GROUP}/images/0"),
        ("DELETE", wish),
    ):
        assert ask(server, method, path)[0] == 405, (method, path)
    assert ask(server, "DELETE", "/gdro/runs/%2e%2e")[0] == 404
    assert ask(server, "DELETE", "/gdro/runs/secret.png")[0] == 404
    assert folder.is_dir()


def test_commands_must_be_small_json_of_known_words(server, folder):
    path = f"/gdro/runs/{RUN}/trainings/aaaa000000/wish"
    sent = {"Content-Type": "application/json"}
    assert ask(server, "POST", path, b'{"wish": "stop"}', {"Content-Type": "text/plain"})[0] == 415
    assert ask(server, "POST", path, b"[" * 1000, sent)[0] == 400
    assert ask(server, "POST", path, b"[]", sent)[0] == 400
    assert ask(server, "POST", path, b'{"wish": "../../x"}', sent)[0] == 400
    large = json.dumps({"wish": "stop", "more": "x" * 100_000}).encode()
    assert ask(server, "POST", path, large, sent)[0] == 413
    assert [path.name for path in (folder / "train" / "aaaa000000").iterdir()] == ["history.jsonl"]
    assert ask(server, "POST", path, b'{"wish": "stop"}', sent)[0] == 200
    assert (folder / "train" / "aaaa000000" / "wish-stop").is_file()


def test_delete_removes_the_run(server, folder):
    assert ask(server, "DELETE", f"/gdro/runs/{RUN}")[0] == 200
    assert not folder.exists()
    assert ask(server, "DELETE", f"/gdro/runs/{RUN}")[0] == 404


def test_ratings_must_fit_a_group_of_the_run(server, folder):
    path, sent = f"/gdro/runs/{RUN}/ratings", {"Content-Type": "application/json"}

    def rate(group, ratings):
        body = json.dumps({"group": group, "ratings": ratings})
        return ask(server, "PUT", path, body.encode(), sent)[0]

    assert rate(GROUP, [5]) == 200
    assert rate("../../x", [5]) == 404
    for wrong in ([6], [0], ["5"], [True], [1.5], "5", None):
        assert rate(GROUP, wrong) == 400, wrong
    assert server.get(path) == {"ratings": {GROUP: {"ratings": [5]}}}
    order = json.dumps({"group": GROUP, "ranks": [2]}).encode()
    assert ask(server, "PUT", path, order, sent)[0] == 200
    assert server.get(path) == {"ratings": {GROUP: {"ranks": [2]}}}
    assert ask(server, "POST", path, b"{}", sent)[0] == 405
