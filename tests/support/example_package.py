"""Packages in a folder as pip would install them: modules with metadata beside them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "example_packages" / "gdro_reward_warmth"


def install(site: Path, name: str, code: str, points: dict[str, str], summary: str = "") -> None:
    """Install a package of one module into a folder of packages; ``points`` are its entry points."""
    site.mkdir(parents=True, exist_ok=True)
    module = name.replace("-", "_")
    (site / f"{module}.py").write_text(code, encoding="utf-8")
    folder = site / f"{module}-1.0.0.dist-info"
    folder.mkdir()
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0.0\n"
    about += f"Summary: {summary}\n" if summary else ""
    (folder / "METADATA").write_text(about, encoding="utf-8")
    lines = [f"{point} = {value}\n" for point, value in points.items()]
    (folder / "entry_points.txt").write_text("[gdro_comfy.rewards]\n" + "".join(lines))


def install_example(site: Path) -> None:
    """Install the example package with the metadata of its pyproject.toml."""
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    code = (EXAMPLE / "gdro_reward_warmth.py").read_text(encoding="utf-8")
    points = project["entry-points"]["gdro_comfy.rewards"]
    install(site, project["name"], code, points, project["description"])


def copy_test(folder: Path) -> Path:
    return Path(shutil.copy(EXAMPLE / "test_warmth.py", folder))
