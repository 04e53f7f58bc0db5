"""The archive that ComfyUI-Manager installs, unpacked into a fresh ComfyUI: its nodes load and run."""

import zipfile

import pytest
from archive import pack_into
from comfyui_graphs import groups_only, quickstart, run_folder
from comfyui_server import started

FOLDER = "comfyui-gdro"  # the Manager names it after the package


@pytest.fixture(scope="module")
def installed(tmp_path_factory, comfy_python):
    """A ComfyUI whose only pack is unpacked from the archive."""
    base = tmp_path_factory.mktemp("fresh")
    pack_into(base / "pack.zip")
    with zipfile.ZipFile(base / "pack.zip") as archive:
        archive.extractall(base / "custom_nodes" / FOLDER)
    for name in ("input", "output", "models/loras"):
        (base / name).mkdir(parents=True)
    with started(base, comfy_python) as running:
        yield running


def test_the_archive_has_all_nodes_of_the_checkout(installed, server):
    def nodes(running):
        known = running.get("/object_info")
        return {name for name in known if name.startswith("GDRO_")}

    assert nodes(installed)
    assert nodes(installed) == nodes(server)
    [module] = {
        info["python_module"]
        for name, info in installed.get("/object_info").items()
        if name.startswith("GDRO_")
    }
    assert module == f"custom_nodes.{FOLDER}"


def test_the_archive_has_what_the_canvas_loads(installed):
    scripts = [path for path in installed.get("/extensions") if FOLDER in path]
    assert scripts
    for path in scripts:
        assert installed.fetch(path)
    [templates] = [
        names for pack, names in installed.get("/workflow_templates").items() if pack == FOLDER
    ]
    assert "quickstart" in templates
    for texts in installed.get("/i18n").values():
        assert "GDRO_TrainLoRA" in texts["nodeDefs"]


def test_a_graph_runs_from_the_archive(installed):
    installed.run(groups_only(quickstart("unpacked")))
    folder = run_folder(installed, "unpacked")
    assert list(folder.glob("prompts/*/000.png"))
    assert installed.get(f"/gdro/runs/{folder.name}/verify")["findings"] == []
