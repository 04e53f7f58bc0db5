"""What the registry's scanners look for is not in the files that ComfyUI-Manager installs."""

import ast

from archive import PACK, shipped

MODULES = {
    "pickle", "marshal", "shelve", "dill", "subprocess", "socket", "ctypes", "pip", "runpy", "code",
    "multiprocessing", "telnetlib", "ftplib", "smtplib", "webbrowser",
}  # fmt: skip
CALLS = {
    "eval", "exec", "compile", "__import__", "torch.load", "os.system", "os.popen", "os.execv",
    "os.spawnv", "builtins.exec", "builtins.eval", "numpy.load", "np.load", "joblib.load",
}  # fmt: skip


def dotted(node):
    """Return the dotted name of an expression, as "os.system"; empty if it is none."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def suspects(source):
    """Return what a scanner would report about a file."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        found += [f"import {name}" for name in names if name.split(".")[0] in MODULES]
        if isinstance(node, ast.Call) and dotted(node.func) in CALLS:
            found.append(f"{dotted(node.func)}()")
    return found


def test_the_scanner_of_this_test_finds_what_it_looks_for():
    assert suspects("import pickle, os\nfrom subprocess import run\neval('1')\nos.system('x')") == [
        "import pickle", "import subprocess", "eval()", "os.system()",
    ]  # fmt: skip
    assert suspects("model.eval()\nimport json\ntorch.compile(f)") == []


def test_no_shipped_file_runs_or_unpickles_what_it_reads():
    found = {
        name: what
        for name in shipped()
        if name.endswith(".py") and (what := suspects((PACK / name).read_text(encoding="utf-8")))
    }
    assert not found


def test_the_archive_holds_the_pack_and_nothing_else():
    names = shipped()
    folders = {name.split("/")[0] for name in names if "/" in name}
    assert folders == {"gdro_comfy", "nodes", "web", "workflows", "subgraphs", "locales"}
    size = sum((PACK / name).stat().st_size for name in names if (PACK / name).is_file())
    assert size < 26e6  # 20 of them are the bundled model
    assert not [name for name in names if name.endswith((".pt", ".pth", ".ckpt", ".bin", ".pkl"))]
