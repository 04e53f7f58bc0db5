"""The settings of GDRO Train LoRA: five are open, a purpose sets the others, and saved values stay."""

import pytest
from comfyui_page import open_workflow, panel, set_values

TRAIN = "GDRO_TrainLoRA"
OPEN = ["gdro_purpose", "gdro_strength", "steps", "rank", "seed"]
# The widgets that the classic canvas draws on a node, and the height that it needs.
CLASSIC = """
(type) => {
  const node = app.graph.nodes.find(node => node.type === type);
  const names = node.widgets.filter(w => node.isWidgetVisible(w)).map(w => w.name);
  return [names.filter(name => name !== 'gdro_panel' && name !== 'gdro_advanced'), node.size[1]];
}
"""
# The names of the widgets that Nodes 2.0 draws on a node.
NODES_2 = """
(type) => {
  const { id } = app.graph.nodes.find(node => node.type === type);
  const rows = document.querySelectorAll(`[data-node-id="${id}"] .lg-node-widget`);
  return [...rows].map(row => row.textContent.trim()).filter(Boolean);
}
"""
VALUES = """
(type) => {
  const node = app.graph.nodes.find(node => node.type === type);
  const saved = JSON.parse(JSON.stringify(node.serialize()));
  return [saved.widgets_values, saved.widgets_values_named];
}
"""
SHOWN = """
(type) => {
  const { widgets } = app.graph.nodes.find(node => node.type === type);
  return ['gdro_purpose', 'gdro_strength'].map(name => widgets.find(w => w.name === name).value);
}
"""
COUNT = "type => app.graph.nodes.find(n => n.type === type).widgets.filter(w => w.options.advanced).length"
REOPEN = """
async () => app.loadGraphData(JSON.parse(JSON.stringify(app.graph.serialize())), true, true)
"""
UNLINK = """
([type, name]) => {
  const node = app.graph.nodes.find(node => node.type === type);
  node.disconnectInput(node.inputs.findIndex(input => input.name === name));
}
"""
QUEUED = """
() => app.graphToPrompt().then(({ output }) =>
  Object.values(output).find(node => node.class_type === 'GDRO_TrainLoRA').inputs)
"""


def words(page):
    """Return what the node says of its purpose."""
    return panel(page, TRAIN).locator(".gdro-purpose").text_content()


@pytest.mark.parametrize(
    ("name", "purpose"),
    [
        ("quickstart", "a few minutes"),
        ("flux1_dev_signs", "an evening"),
        ("flux2_klein_composition", "an evening, composition"),
        ("sd35_medium_dgpo_composition", "online"),
        ("rate_by_hand", "my ratings"),
        ("teach_it_to_write", "custom"),
    ],
)
def test_a_shipped_workflow_shows_its_purpose(page, name, purpose):
    open_workflow(page, name)
    assert page.evaluate(SHOWN, TRAIN) == [purpose, "normal"]


def test_five_settings_are_open_and_the_others_behind_a_button(page, renderer, tmp_path):
    open_workflow(page, "quickstart")
    before = page.evaluate(VALUES, TRAIN)
    folded = page.evaluate(CLASSIC, TRAIN)
    if renderer:
        page.wait_for_timeout(500)
        rows = page.evaluate(NODES_2, TRAIN)
        assert [row[:5] for row in rows][:5] == ["purpo", "stren", "steps", "rank", "seed"], rows
    else:
        assert folded[0] == OPEN
        set_values(page, {TRAIN: {"gdro_advanced": None}})
        unfolded = page.evaluate(CLASSIC, TRAIN)
        assert len(unfolded[0]) == len(OPEN) + page.evaluate(COUNT, TRAIN)
        page.screenshot(path=tmp_path / "unfolded.png")
        page.evaluate(REOPEN)
        assert page.evaluate(CLASSIC, TRAIN)[0] == unfolded[0], "it is not saved with the workflow"
        set_values(page, {TRAIN: {"gdro_advanced": None}})
        assert page.evaluate(CLASSIC, TRAIN) == folded
    page.screenshot(path=tmp_path / "folded.png")
    assert page.evaluate(VALUES, TRAIN) == before, "a saved value changed"


def test_a_purpose_sets_values_and_a_changed_value_makes_it_custom(page, tmp_path):
    open_workflow(page, "quickstart")
    set_values(page, {TRAIN: {"gdro_purpose": "online"}})
    positional, named = page.evaluate(VALUES, TRAIN)
    assert positional == list(named.values()), "the values are saved with gaps"
    assert (named["algorithm"], named["algorithm.kl"], named["steps"]) == ("dgpo", 0.02, 96)
    assert named["learning_rate"] == 0.001, "the rate goes with the model"
    assert not any(name.startswith("gdro_") for name in named)
    assert page.evaluate(QUEUED).keys() >= {"algorithm.kl", "steps"}
    assert not any(name.startswith("gdro_") for name in page.evaluate(QUEUED))
    assert "rounds 96" in words(page)
    assert "Connect" not in words(page)
    page.evaluate(UNLINK, [TRAIN, "reward"])
    assert words(page).startswith("Connect reward.")
    set_values(page, {TRAIN: {"gdro_strength": "gentle"}})
    assert page.evaluate(SHOWN, TRAIN) == ["online", "gentle"]
    assert page.evaluate(QUEUED)["algorithm.kl"] == 0.04
    set_values(page, {TRAIN: {"steps": 77}})
    assert page.evaluate(SHOWN, TRAIN) == ["custom", "gentle"]
    assert words(page) == "Like “online”, except: steps 77"
    page.evaluate(REOPEN)
    assert page.evaluate(SHOWN, TRAIN) == ["custom", "gentle"]
    assert page.evaluate(VALUES, TRAIN)[1] == {**named, "algorithm.kl": 0.04, "steps": 77}
    page.screenshot(path=tmp_path / "custom.png")


def test_a_purpose_is_chosen_with_the_mouse_in_both_renderers(page, renderer):
    open_workflow(page, "quickstart")
    box = page.evaluate(
        """
      (type) => {
        const node = app.graph.nodes.find(node => node.type === type);
        app.canvas.ds.scale = 1;
        app.canvas.ds.offset = [300 - node.pos[0], 150 - node.pos[1]];
        app.canvas.setDirty(true, true);
        return [node.id, node.size[0]];
      }""",
        TRAIN,
    )
    page.wait_for_timeout(800)
    if renderer:
        row = page.locator(f'[data-node-id="{box[0]}"] .lg-node-widget', has_text="purpose")
        row.get_by_role("combobox").click()
        page.get_by_role("option", name="my ratings").click()
    else:
        x, y = page.evaluate(
            """
          (type) => {
            const node = app.graph.nodes.find(node => node.type === type);
            const widget = node.widgets.find(w => w.name === 'gdro_purpose');
            const [left, top] = app.canvas.ds.convertOffsetToCanvas(
              [node.pos[0] + node.size[0] / 2, node.pos[1] + widget.last_y + 10]);
            const box = app.canvas.canvas.getBoundingClientRect();
            return [box.left + left, box.top + top];
          }""",
            TRAIN,
        )
        page.mouse.click(x, y)
        page.locator(".litecontextmenu .litemenu-entry", has_text="my ratings").click()
    page.wait_for_function(f"() => ({SHOWN})('{TRAIN}')[0] === 'my ratings'")
    assert page.evaluate(QUEUED)["steps"] == 160
