"""Every panel has something to see at the start, in the middle, after a reload and after a cancel."""

import pytest
from comfyui_page import open_workflow, reload, run, status, wait_for_status, wait_for_step

ROLLOUT, SCORE = "GDRO_GroupRollout", "GDRO_ScoreRollout"
TRAIN, EVALUATE = "GDRO_TrainLoRA", "GDRO_EvaluateAlignment"
VALUES = {
    "GDRO_PromptSet": {"limit": 10},
    ROLLOUT: {"images_per_prompt": 16, "steps": 4},
    TRAIN: {"steps": 10, "groups_per_step": 2, "preview_every": 4},
    EVALUATE: {"images_per_prompt": 8, "steps": 4},
}
# How many scores stood in the panel of the scoring node while it scored.
WATCH_SCORES = """
(type) => {
  const node = app.graph.nodes.find(node => node.type === type);
  const { element } = node.widgets.find(widget => widget.name === 'gdro_panel');
  window.scoresWhileScoring = 0;
  window.hasScored = false;
  const { api } = window.comfyAPI.api;
  api.addEventListener('executed', ({ detail }) => {
    window.hasScored ||= String(detail.node) === String(node.id);
  });
  new MutationObserver(() => {
    if (window.hasScored) return;
    const texts = [...element.querySelectorAll('.gdro-image span')].filter(one => one.textContent);
    window.scoresWhileScoring = Math.max(window.scoresWhileScoring, texts.length);
  }).observe(element, { childList: true, subtree: true });
}
"""
# Every text of the training's status that says it is unfinished, with its step.
WATCH_STATUS = """
(type) => {
  const node = app.graph.nodes.find(node => node.type === type);
  const line = node.widgets.find(w => w.name === 'gdro_panel').element.querySelector('.gdro-status');
  window.unfinished = [];
  new MutationObserver(() => {
    if (line.textContent.includes('unfinished')) window.unfinished.push(line.textContent);
  }).observe(line, { childList: true, characterData: true, subtree: true });
}
"""
PICTURES = """
(type) => {
  const node = app.graph.nodes.find(node => node.type === type);
  const { element } = node.widgets.find(widget => widget.name === 'gdro_panel');
  return [...element.querySelectorAll('img[src]')]
    .filter(image => !image.closest('[hidden]') && image.naturalWidth).length;
}
"""


def wait_for_pictures(page, node_type):
    """Wait until a panel shows an image."""
    page.wait_for_function(f"type => ({PICTURES})(type) > 0", arg=node_type)


@pytest.mark.long
def test_each_panel_shows_something_in_every_stage(page, server, tmp_path):
    values = {**VALUES, ROLLOUT: {**VALUES[ROLLOUT], "run_name": "stages"}}
    open_workflow(page, "teach_it_to_write", values)
    for node_type in (ROLLOUT, SCORE, TRAIN, EVALUATE):
        assert "here" in status(page, node_type)
    page.evaluate(WATCH_SCORES, SCORE)
    page.evaluate(WATCH_STATUS, TRAIN)
    run(page)
    wait_for_pictures(page, ROLLOUT)
    wait_for_status(page, SCORE, "10 groups in stages")
    wait_for_step(page, 2)
    assert page.evaluate("window.scoresWhileScoring") > 0, "scores appear only at the end"
    assert page.evaluate("window.unfinished") == []
    reload(page)
    wait_for_step(page, 3)
    page.evaluate(WATCH_STATUS, TRAIN)
    assert "unfinished" not in status(page, TRAIN)
    wait_for_pictures(page, TRAIN)
    wait_for_pictures(page, EVALUATE)
    assert page.evaluate("window.unfinished") == []
    wait_for_status(page, EVALUATE, "Drawing the pictures to compare.")
    page.screenshot(path=tmp_path / "middle.png")
    server.post("/interrupt", {})
    wait_for_status(page, EVALUATE, "Not finished: Run goes on")
    assert page.evaluate(PICTURES, EVALUATE) == 1
    reload(page)
    wait_for_pictures(page, EVALUATE)
    wait_for_status(page, EVALUATE, "Not finished: Run goes on")
    for node_type in (ROLLOUT, SCORE, TRAIN):
        wait_for_pictures(page, node_type)
    page.screenshot(path=tmp_path / "cancelled.png")
