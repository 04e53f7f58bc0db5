"""The real front end in Chromium, in front of the real ComfyUI of ``comfyui_server``."""

import contextlib
import shutil

import comfyui_server
import pytest

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
_READY = "window.app?.canvas && window.app.graph?.nodes?.length > 0"
# What the server does not have, the canvas asks for all the same; and our own waits look before it is ready.
_HARMLESS = ("Failed to load resource", "ComfyApp graph accessed before initialization")


def pytest_configure(config) -> None:
    if not config.pluginmanager.is_registered(comfyui_server):
        config.pluginmanager.register(comfyui_server)


@pytest.fixture(scope="session")
def chromium():
    """A running Chromium."""
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
    """ComfyUI's page, ready to load a workflow; ``page_errors`` looks after what goes wrong in it."""
    context = chromium.new_context(viewport={"width": 1800, "height": 1200})
    context.set_default_timeout(120_000)
    page = context.new_page()
    page.request.post(f"{server.url}/settings/Comfy.TutorialCompleted", data="true")
    page.goto(server.url)
    page.wait_for_function(_READY)
    yield page
    context.close()


@contextlib.contextmanager
def _watched(page):
    """Fail at the end on an error in the page or in its console, or on a dialog of a script."""
    seen = []

    def on_error(error):
        seen.append(f"{error.message}\n{error.stack}")

    def on_console(message):
        if message.type == "error" and not message.text.startswith(_HARMLESS):
            seen.append(message.text)

    def on_dialog(dialog):
        if dialog.type == "beforeunload":  # the canvas's own question at a reload
            dialog.accept()
            return
        seen.append(f"{dialog.type}: {dialog.message}")
        dialog.dismiss()

    listeners = {"pageerror": on_error, "console": on_console, "dialog": on_dialog}
    for event, listener in listeners.items():
        page.on(event, listener)
    yield page
    for event, listener in listeners.items():
        page.remove_listener(event, listener)
    assert not seen


@pytest.fixture
def page(open_page):
    """The page of this file; the test fails on errors in it."""
    with _watched(open_page) as page:
        yield page


@pytest.fixture
def other_tab(open_page, server):
    """A second tab of the same browser; the test fails on errors in it."""
    page = open_page.context.new_page()
    page.goto(server.url)
    page.wait_for_function(_READY)
    with _watched(page):
        yield page
    page.close()
