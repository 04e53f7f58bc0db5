"""The panels on the nodes: they show a run while it goes, and after a reload."""

import pytest
from comfyui_page import OPEN, SET, run
from comfyui_server import SMALL

PANEL = (
    "(type) => app.graph.nodes.find(n => n.type === type)"
    ".widgets.find(w => w.name === 'gdro_panel').element"
)


def panel(page, node_type):
    """The panel of the node of a type, by a mark that is put on it."""
    page.evaluate(f"type => ({PANEL})(type).dataset.test = type", node_type)
    return page.locator(f'[data-test="{node_type}"]')


def small(page, run_name, **more):
    page.evaluate(OPEN, "quickstart")
    page.evaluate(SET, SMALL)
    page.evaluate(SET, {"GDRO_GroupRollout": {"run_name": run_name}, **more})


def loss_of(chart):
    """The loss chart's text with the value of its last step."""
    return chart.get_by_role("img", name="Loss").get_attribute("aria-label")


@pytest.fixture(params=[False, True], ids=["classic", "nodes 2.0"])
def renderer(page, request):
    page.evaluate(
        "on => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", request.param
    )
    yield request.param
    page.evaluate("app.extensionManager.setting.set('Comfy.VueNodes.Enabled', false)")


def test_the_panels_show_the_run_and_show_it_again_after_a_reload(page, server, renderer, tmp_path):
    small(page, f"panels {'new' if renderer else 'old'}")
    run(page)
    evaluation = panel(page, "GDRO_EvaluateAlignment")
    try:
        evaluation.get_by_text("Aligned against base").wait_for(timeout=400_000, state="attached")
    finally:
        page.screenshot(path=tmp_path / "panels.png")
    training = panel(page, "GDRO_TrainLoRA")
    training.get_by_text("Step 6 of 6").wait_for(state="attached")
    before = loss_of(training)
    assert "at step 6" in before
    for node_type in ("GDRO_GroupRollout", "GDRO_ScoreRollout"):
        shown = panel(page, node_type)
        shown.get_by_text("6 groups in panels").wait_for(state="attached")
        assert shown.locator(".gdro-image img").count() >= 4
        assert (
            page.evaluate(
                "type => app.graph.nodes.find(n => n.type === type).imgs?.length ?? 0", node_type
            )
            == 0
        ), "the canvas shows its own picture too"
    assert (
        page.evaluate(
            "document.querySelectorAll('[data-testid=live-preview], .image-preview').length"
        )
        == 0
    )
    page.wait_for_timeout(1500)  # the canvas keeps its draft half a second after a change
    page.reload()
    page.wait_for_function("window.app?.canvas && window.app.graph?.nodes?.length > 3")
    again = panel(page, "GDRO_TrainLoRA")
    again.get_by_text("Step 6 of 6").wait_for(state="attached")
    assert loss_of(again) == before
    panel(page, "GDRO_EvaluateAlignment").get_by_text("Aligned against base").wait_for(
        state="attached"
    )
    page.screenshot(path=tmp_path / "reloaded.png")
