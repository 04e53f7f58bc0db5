"""What the pack asks pip for: it shares one Python with ComfyUI and all other packs."""

import re
from pathlib import Path

import pytest

PACK = Path(__file__).parents[2]
tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads TOML")


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((PACK / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_what_comfyui_brings_has_lower_bounds_only(project):
    lines = (PACK / "requirements.txt").read_text(encoding="utf-8").splitlines()
    asked = [line for line in lines if line and not line.startswith("#")]
    assert set(asked) <= set(project["dependencies"])
    for requirement in project["dependencies"]:
        assert re.fullmatch(r"[\w-]+>=[\d.]+", requirement), requirement


def test_the_versions_of_the_demo_are_those_of_the_tests(project):
    extras = project["optional-dependencies"]
    assert set(extras["demo"]) <= set(extras["test"])
    for name in ("demo", "test", "dev"):
        # An extra that names another has pip download the newest torch before it sees the pin.
        assert all(re.fullmatch(r"[\w-]+==[\d.]+", one) for one in extras[name]), name


def test_the_registry_finds_a_version_where_the_package_has_it():
    """The registry reads it with a pattern, never by running the file."""
    import gdro_comfy

    tool = tomllib.loads((PACK / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["comfy"]
    source = (PACK / tool["version"]["path"]).read_text(encoding="utf-8")
    [found] = re.findall(r'^__version__ = "(\d+\.\d+\.\d+)"$', source, re.MULTILINE)
    assert found == gdro_comfy.__version__
    assert re.fullmatch(r">=\d+\.\d+\.\d+", tool["requires-comfyui"])
