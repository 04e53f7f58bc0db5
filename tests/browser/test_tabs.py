"""Two tabs of one browser on the same server: each shows its own runs; ratings are in both."""

from comfyui_page import (
    AFTER_TRAINING,
    open_workflow,
    panel,
    reload,
    run,
    set_values,
    status,
    wait_for_status,
)
from comfyui_server import SMALL

LISTEN = """
() => {
  window.messages = [];
  for (const event of ['rollout', 'training', 'train_step', 'preview'])
    window.comfyAPI.api.api.addEventListener(
      `gdro.${event}`, ({ detail }) => window.messages.push(detail));
}
"""
EMPTY = "The curves appear here once training starts."
PROMPTS, ROLLOUT, SCORE = "GDRO_PromptSet", "GDRO_GroupRollout", "GDRO_ScoreRollout"
RATE, TRAIN = "GDRO_RatingReward", "GDRO_TrainLoRA"


def prepare(page, template, name, **training):
    """Open a workflow that takes seconds, up to the training."""
    values = {
        PROMPTS: SMALL[PROMPTS],
        ROLLOUT: {**SMALL[ROLLOUT], "run_name": name},
        TRAIN: {**SMALL[TRAIN], **training},
    }
    open_workflow(page, template, values, without=AFTER_TRAINING)


def test_each_tab_shows_the_run_that_was_queued_in_it(page, other_tab, tmp_path):
    tabs = {"left": page, "right": other_tab}
    for seed, (name, tab) in enumerate(tabs.items()):
        prepare(tab, "quickstart", name, steps=6 + seed, seed=seed)
        tab.evaluate(LISTEN)
    run(page)
    wait_for_status(page, TRAIN, "Step ")
    assert status(other_tab, TRAIN) == EMPTY
    assert other_tab.evaluate("window.messages.length") == 0, (
        "it gets messages of another tab's run"
    )
    run(other_tab)  # it waits for the first run in the queue, or follows it
    for steps, (name, tab) in enumerate(tabs.items(), 6):
        wait_for_status(tab, TRAIN, f"Step {steps} of {steps}")
        wait_for_status(tab, TRAIN, f"finished · {name}_")
        assert f"6 groups in {name}" in status(tab, SCORE)
        runs = {message.get("run") for message in tab.evaluate("window.messages")} - {None}
        assert [run.split("-")[0] for run in runs] == [name]
    other_tab.screenshot(path=tmp_path / "right.png")
    assert "Step 6 of 6" in status(page, TRAIN)


def test_a_rating_of_one_tab_is_in_the_other_after_a_reload(page, other_tab):
    for tab in (page, other_tab):
        prepare(tab, "rate_by_hand", "shared")
        set_values(tab, {PROMPTS: {"limit": 3}, RATE: {"least_groups": 3}})
        run(tab)
        wait_for_status(tab, RATE, "0 of 3 groups rated")
    panel(page, RATE).locator(".gdro-rating").focus()
    for key in "5142":
        page.keyboard.press(key)
    wait_for_status(page, RATE, "1 of 3 groups rated")
    reload(other_tab)
    wait_for_status(other_tab, RATE, "1 of 3 groups rated · group 2")
