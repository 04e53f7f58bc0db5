"""Two tabs of one browser on the same server: each shows its own runs; ratings are there in both."""

from comfyui_page import OPEN, SET, TRAINING_ONLY, run
from comfyui_server import SMALL

LISTEN = """
() => {
  window.heard = [];
  for (const event of ['rollout', 'training', 'train_step', 'preview'])
    window.comfyAPI.api.api.addEventListener(`gdro.${event}`, ({ detail }) => window.heard.push(detail));
}
"""
PANEL = """
(type) => app.graph.nodes.find(node => node.type === type)
  .widgets.find(widget => widget.name === 'gdro_panel').element.textContent
"""
SAYS = f"([type, text]) => ({PANEL})(type).includes(text)"
READY = "window.app?.canvas && window.app.graph?.nodes?.length > 3"
EMPTY = "The curves appear here once it trains."
TRAIN, RATE = "GDRO_TrainLoRA", "GDRO_RatingReward"


def prepare(page, template, name, **training):
    page.evaluate(OPEN, template)
    page.evaluate(TRAINING_ONLY)
    page.evaluate(SET, SMALL)
    page.evaluate(SET, {"GDRO_GroupRollout": {"run_name": name}, TRAIN: training})


def says(page, node_type, text):
    page.wait_for_function(SAYS, arg=[node_type, text])


def test_each_tab_shows_the_run_that_was_queued_in_it(page, other_tab, tmp_path):
    tabs = {"left": page, "right": other_tab}
    for seed, (name, tab) in enumerate(tabs.items()):
        prepare(tab, "quickstart", name, steps=6 + seed, seed=seed)
        tab.evaluate(LISTEN)
    run(page)
    says(page, TRAIN, "Step ")
    assert EMPTY in other_tab.evaluate(PANEL, TRAIN)
    assert other_tab.evaluate("window.heard.length") == 0, "a run of another tab is heard"
    run(other_tab)  # it waits for the other one in the queue, or follows it
    for steps, (name, tab) in enumerate(tabs.items(), 6):
        says(tab, TRAIN, f"Step {steps} of {steps}")
        says(tab, TRAIN, f"finished · {name}_")
        assert f"6 groups in {name}" in tab.evaluate(PANEL, "GDRO_ScoreRollout")
        runs = {detail.get("run") for detail in tab.evaluate("window.heard")} - {None}
        assert [run.split("-")[0] for run in runs] == [name]
    other_tab.screenshot(path=tmp_path / "right.png")
    assert "Step 6 of 6" in page.evaluate(PANEL, TRAIN)


def test_a_rating_of_one_tab_is_in_the_other_after_a_reload(page, other_tab, server):
    changes = {"GDRO_PromptSet": {"limit": 3}, RATE: {"least_groups": 3}}
    for tab in (page, other_tab):
        prepare(tab, "rate_by_hand", "shared")
        tab.evaluate(SET, changes)
        run(tab)
        says(tab, RATE, "0 of 3 groups rated")
    page.evaluate(
        """type => {
          const node = app.graph.nodes.find(node => node.type === type);
          node.widgets.find(widget => widget.name === 'gdro_panel').element
            .querySelector('.gdro-rating').focus();
        }""",
        RATE,
    )
    for key in "5142":
        page.keyboard.press(key)
    says(page, RATE, "1 of 3 groups rated")
    other_tab.wait_for_timeout(1500)  # the canvas writes its draft half a second after a change
    other_tab.reload()
    other_tab.wait_for_function(READY)
    says(other_tab, RATE, "1 of 3 groups rated · group 2")
