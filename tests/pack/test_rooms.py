"""The rooms of the engine: imports go one way, at run time and in types, and never in a circle."""

import ast
from pathlib import Path

ENGINE = Path(__file__).parents[2] / "gdro_comfy"

LEVELS = (
    {"errors"},
    {"progress", "time_left", "imaging"},
    {"distributed"},
    {"host"},
    {"data"},
    {"models"},
    {"lora"},
    {"rewards"},
    {"rollouts"},
    {"importing", "training", "evaluation", "viewer"},
    {"stages"},
    {"headless"},
    {"__main__"},
)
"""Rooms from the bottom up: a room imports from those below it only, and from itself."""


def _modules() -> dict[str, Path]:
    paths = ENGINE.rglob("*.py")
    return {".".join(path.relative_to(ENGINE).with_suffix("").parts): path for path in paths}


def _imports(name: str, path: Path, modules: dict[str, Path]) -> set[str]:
    """Modules of the engine that a module imports anywhere, also for types and inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        package = name.split(".")[: -node.level]
        base = [*package, *(node.module.split(".") if node.module else [])]
        for alias in node.names:
            for parts in ([*base, alias.name], base, [*base, "__init__"]):
                if ".".join(parts) in modules:
                    found.add(".".join(parts))
                    break
    return found - {name}


def test_every_room_has_its_level():
    assert {name.partition(".")[0] for name in _modules()} - {"__init__"} == set().union(*LEVELS)


def test_imports_go_down_only():
    modules = _modules()
    level = {room: number for number, rooms in enumerate(LEVELS) for room in rooms}
    upwards = []
    for name, path in modules.items():
        room = name.partition(".")[0]
        for imported in _imports(name, path, modules):
            target = imported.partition(".")[0]
            if "__init__" not in (room, target) and room != target and level[room] <= level[target]:
                upwards.append(f"{name} imports {imported}")
    assert not upwards, "\n".join(sorted(upwards))


def test_no_circle():
    modules = _modules()
    imports = {name: _imports(name, path, modules) for name, path in modules.items()}
    # Take away, again and again, what imports nothing that is left and what nothing left imports.
    while True:
        imported = set().union(*imports.values())
        loose = [
            n for n, needed in imports.items() if n not in imported or not needed & set(imports)
        ]
        if not loose:
            break
        imports = {n: needed - set(loose) for n, needed in imports.items() if n not in loose}
    assert not imports, "\n".join(f"{n} imports {sorted(needed)}" for n, needed in imports.items())
