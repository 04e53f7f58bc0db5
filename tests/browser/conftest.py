"""ComfyUI's real front end in Chromium, on the real server of ``comfyui_server``."""

import contextlib
import shutil

import comfyui_server
import pytest
from comfyui_page import READY, use_vue_nodes
from PIL import Image

from gdro_comfy.data.files import digest, write_json

_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# The canvas requests files that no server has, and our own waits look at the graph before it is there.
_HARMLESS = ("Failed to load resource", "ComfyApp graph accessed before initialization")


def pytest_configure(config) -> None:
    if not config.pluginmanager.is_registered(comfyui_server):
        config.pluginmanager.register(comfyui_server)


@pytest.fixture(scope="session")
def chromium():
    """Start Chromium."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="no Playwright: pip install playwright"
    )
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        pytest.skip(f"no Chromium: none of {', '.join(_NAMES)} is on the PATH")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program, headless=True, args=_FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def open_page(chromium, server):
    """Open ComfyUI's page, ready to load a workflow."""
    context = chromium.new_context(viewport={"width": 1800, "height": 1200})
    context.set_default_timeout(120_000)
    page = context.new_page()
    page.request.post(f"{server.url}/settings/Comfy.TutorialCompleted", data="true")
    page.goto(server.url)
    page.wait_for_function(READY)
    yield page
    context.close()


@contextlib.contextmanager
def _watched(page):
    """Fail at the end if the page had an error, logged one, or opened a dialog."""
    problems = []

    def on_error(error):
        problems.append(f"{error.message}\n{error.stack}")

    def on_console(message):
        if message.type == "error" and not message.text.startswith(_HARMLESS):
            problems.append(message.text)

    def on_dialog(dialog):
        if dialog.type == "beforeunload":  # the canvas asks before a reload
            dialog.accept()
            return
        problems.append(f"{dialog.type}: {dialog.message}")
        dialog.dismiss()

    listeners = {"pageerror": on_error, "console": on_console, "dialog": on_dialog}
    for event, listener in listeners.items():
        page.on(event, listener)
    yield page
    for event, listener in listeners.items():
        page.remove_listener(event, listener)
    assert not problems


@pytest.fixture
def page(open_page):
    """Return the page of this module's tests; errors in it fail the test."""
    with _watched(open_page) as page:
        yield page


@pytest.fixture
def other_tab(open_page, server):
    """Open a second tab of the same browser; errors in it fail the test."""
    page = open_page.context.new_page()
    page.goto(server.url)
    page.wait_for_function(READY)
    with _watched(page):
        yield page
    page.close()


@pytest.fixture(params=[False, True], ids=["classic", "nodes 2.0"])
def renderer(page, request):
    """Switch to the classic canvas, or to Vue components; True for the latter."""
    use_vue_nodes(page, request.param)
    yield request.param
    use_vue_nodes(page, False)


@pytest.fixture
def three(server):
    """Create a run of three groups of four images, one with markup as its prompt."""
    folder = server.base / "output" / "gdro" / "three-00000000"
    for number, prompt in enumerate(("<img src=x onerror=alert(1)>", "second", "third")):
        group = folder / "prompts" / digest(prompt)
        group.mkdir(parents=True)
        write_json(group / "prompt.json", {"text": prompt})
        for index in range(4):
            Image.new("RGB", (8, 8), (60 * index, 90 * number, 40)).save(group / f"{index:03d}.png")
    write_json(folder / "run.json", {"name": "three", "model": {}, "size": [8, 8]})
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
