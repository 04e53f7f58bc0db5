"""The routes below /gdro/ in a real ComfyUI: what they serve, and that they serve nothing else."""

import json
import shutil

import pytest
from comfyui_server import ask
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


NAN = b'{"step": 2, "loss": NaN}\n'
DAMAGE = {
    "prompts/GROUP/000.png": [b"", b"no picture", b"CUT", b"\x89PNG\r\n\x1a\n" + bytes(40)],
    "prompts/GROUP/prompt.json": [b"", b"[1]", b'{"text": 3}', b'{"text": "\\ud800"}', b"\xff"],
    "scores/redness.jsonl": [
        b"", b"\xff\xfe", b"[]\n3\nnull\n", b'{"prompt": [], "image": {}, "value": 1}\n',
        b'{"prompt": "GROUP", "image": 0, "value": NaN}\n',
        b'{"prompt": "GROUP", "image": 0, "value": 1, "details": [NaN]}\n',
        b'{"prompt": "GROUP", "image": 0, "value": %s}\n' % (b"9" * 400),
        b'{"prompt": "GROUP", "image": 99999999999999999999, "value": 1}\n',
    ],
    "train/aaaa000000/history.jsonl": [
        b"\xff", b"{}\n", b'{"step": "x"}\n{"step": null}\n{"step": 1}\n', NAN, b"[" * 100_000,
        b'{"step": 3, "validation": [], "samples": NaN}\n', b'{"step": 1e999}\n',
    ],
    "train/aaaa000000/done.json": [b"", b"3", b'{"steps": "x", "lora": []}'],
    "train/aaaa000000/config.json": [b"", b'{"training": []}', b'{"training": {"steps": NaN}}'],
    "train/aaaa000000/evaluations/eeee/result.json": [
        b"", b"[]", b'{"rollouts": 3}', b'{"rollouts": {}, "pairs": 7}', b'{"results": NaN}',
        b'{"rollouts": ["x"], "pairs": [{"group": "GROUP"}]}',
        b'{"results": ' + b"[" * 900 + b"]" * 900 + b"}",
    ],
    "run.json": [b"", b"[]", b'{"size": [NaN], "name": [], "model": 3}', b'{"name": "\\udfff"}'],
    "ratings.jsonl": [b"\xff\n[]\n{}\n", b'{"group": "GROUP", "ratings": [NaN]}\n'],
    "workflow.json": [b"", b"[]", b'{"x": NaN}', b'{"x": ' + b"[" * 900 + b"]" * 900 + b"}"],
}  # fmt: skip
READ = [
    "/gdro/runs",
    *(
        f"/gdro/runs/{RUN}/{path}"
        for path in (
            "workflow",
            "ratings",
            *(f"groups?order={order}" for order in ("arrival", "spread", "mean", "best", "prompt")),
            "groups?least_spread=nan",
            f"groups/{GROUP}/images/0",
            f"groups/{GROUP}/images/0/thumbnail",
            "trainings/aaaa000000",
            "trainings/aaaa000000/pictures/samples/1",
            "trainings/aaaa000000/pictures/validation/base",
            "trainings/aaaa000000/evaluations/eeee",
            "trainings/aaaa000000/evaluations/eeee/comparison",
            "trainings/aaaa000000/evaluations/eeee/pairs/0/0",
            "trainings/aaaa000000/evaluations/eeee/report",
        )
    ),
]


def refuse_nan(constant):
    raise AssertionError(f"{constant} is no JSON")


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_files_are_no_errors_of_the_server(server, folder, name):
    path = folder / name.replace("GROUP", GROUP)
    whole = path.read_bytes() if path.is_file() else b""
    path.parent.mkdir(parents=True, exist_ok=True)
    for damage in DAMAGE[name]:
        data = damage.replace(b"GROUP", GROUP.encode())
        path.write_bytes(whole[: len(whole) // 2] if data == b"CUT" else data)
        for url in READ:
            status, kind, body = ask(server, "GET", url)
            assert status in (200, 400, 404), (url, damage[:80], status)
            if kind.startswith("application/json"):
                json.loads(body, parse_constant=refuse_nan)
        runs = server.get("/gdro/runs")
        assert [run["run"] for run in runs if run["run"] == RUN] == [RUN]
    if name.endswith("png"):
        assert ask(server, "GET", f"/gdro/runs/{RUN}/groups/{GROUP}/images/0/thumbnail")[0] == 404


@pytest.mark.parametrize(
    "name",
    [
        "prompts", f"prompts/{GROUP}", "scores", "train", "train/aaaa000000",
        "train/aaaa000000/samples", "train/aaaa000000/evaluations",
        "train/aaaa000000/evaluations/eeee", "train/aaaa000000/history.jsonl",
        "train/aaaa000000/config.json", "workflow.json", "ratings.jsonl",
    ],
)  # fmt: skip
def test_linked_folders_and_files_inside_a_run_are_not_followed(server, folder, name):
    secret = "secret, and outside"
    training = folder / "train" / "aaaa000000"
    (training / "samples").mkdir()
    (training / "evaluations" / "eeee").mkdir(parents=True)
    (training / "samples" / "step_00001.png").write_text(secret)
    for file in ("comparison.png", "report.html"):
        (training / "evaluations" / "eeee" / file).write_text(secret)
    write_json(training / "evaluations" / "eeee" / "result.json", {"results": [secret]})
    write_json(training / "config.json", {"reward": secret})
    append_lines(training / "history.jsonl", [{"step": 2, "secret": secret}])
    write_json(folder / "workflow.json", {"secret": secret})
    write_json(folder / "prompts" / GROUP / "prompt.json", {"text": secret})
    (folder / "prompts" / GROUP / "001.png").write_text(secret)
    (folder / "scores").mkdir()
    row = {"prompt": GROUP, "image": 0, "value": 1, "details": {"secret": secret}}
    append_lines(folder / "scores" / "redness.jsonl", [row])
    rating = {"group": GROUP, "ratings": [3]}
    append_lines(folder / "ratings.jsonl", [rating])
    urls = [*READ, f"/gdro/runs/{RUN}/groups/{GROUP}/images/1"]
    before = [ask(server, "GET", url)[2] for url in urls]

    outside = server.base / "outside"
    shutil.rmtree(outside, ignore_errors=True)
    outside.mkdir()
    kept = outside / "kept"
    shutil.move(folder / name, kept)
    try:
        (folder / name).symlink_to(kept, target_is_directory=kept.is_dir())
    except OSError:
        pytest.skip("this system does not allow symbolic links")
    linked = [ask(server, "GET", url) for url in urls]
    assert all(status in (200, 404) for status, _, _ in linked)
    (folder / name).unlink()
    gone = [ask(server, "GET", url) for url in urls]

    def seen(answers):
        # The list of runs has the sizes of what is there.
        return [answer for url, answer in zip(urls, answers, strict=True) if url != "/gdro/runs"]

    assert seen(linked) == seen(gone)
    assert seen(before) != [body for _, _, body in seen(gone)]
    if name == "ratings.jsonl":
        (folder / name).symlink_to(kept)
        sent = {"Content-Type": "application/json"}
        body = json.dumps(rating).encode()
        assert ask(server, "PUT", f"/gdro/runs/{RUN}/ratings", body, sent)[0] == 404
        assert len(kept.read_bytes().splitlines()) == 1


def test_a_page_without_an_origin_may_change_nothing(server, folder):
    body = json.dumps({"group": GROUP, "ratings": [5]}).encode()
    wish = f"/gdro/runs/{RUN}/trainings/aaaa000000/wish"
    sent = {"Content-Type": "application/json", "Origin": "null"}
    for method, path, data in (
        ("DELETE", f"/gdro/runs/{RUN}", None),
        ("PUT", f"/gdro/runs/{RUN}/ratings", body),
        ("POST", wish, b'{"wish": "stop"}'),
    ):
        assert ask(server, method, path, data, sent)[0] == 403, method
    assert folder.is_dir()
    assert not (folder / "ratings.jsonl").exists()
    assert not list(folder.glob("train/*/wish-*"))
    own = {**sent, "Origin": server.url.rstrip("/")}
    assert ask(server, "PUT", f"/gdro/runs/{RUN}/ratings", body, own)[0] == 200
