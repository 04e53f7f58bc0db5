"""A training inside of a subgraph, and another one beside it: each panel shows its own."""

from comfyui_page import OPEN, SET, TRAINING_ONLY, run
from comfyui_server import SMALL

TRAIN = "GDRO_TrainLoRA"
# The training goes into a subgraph; a copy of it, with other numbers, stays outside on the same inputs.
PUT_INSIDE = """
async ([type, changes]) => {
  const graph = app.graph;
  const inside = graph.nodes.find(node => node.type === type);
  const outside = LiteGraph.createNode(type);
  graph.add(outside);
  outside.pos = [inside.pos[0], inside.pos[1] + inside.size[1] + 100];
  for (const [slot, input] of inside.inputs.entries()) {
    const link = graph.links.get(input.link);
    if (link) graph.getNodeById(link.origin_id).connect(
      link.origin_slot, outside, outside.inputs.findIndex(other => other.name === input.name));
  }
  const values = inside.widgets.map(widget => [widget.name, widget.value]);
  for (const [name, value] of [...values, ...Object.entries(changes)])
    if (name !== 'gdro_panel') outside.widgets.find(widget => widget.name === name).value = value;
  graph.convertToSubgraph(new Set([inside]));
  await new Promise(resolve => setTimeout(resolve, 500));
}
"""
# What the two panels say.
SAID = """
(type) => {
  const root = app.rootGraph ?? app.graph;
  const holder = root.nodes.find(node => node.subgraph);
  return [holder.subgraph, root].map(graph => graph.nodes.find(node => node.type === type)
    .widgets.find(widget => widget.name === 'gdro_panel').element.querySelector('.gdro-status').textContent);
}
"""
BOTH_SAY = f"([type, words]) => ({SAID})(type).every((text, i) => text.includes(words[i]))"
ENTER = """
() => {
  const holder = (app.rootGraph ?? app.graph).nodes.find(node => node.subgraph);
  app.canvas.openSubgraph(holder.subgraph, holder);
}
"""
READY = "window.app?.canvas && (app.rootGraph ?? app.graph)?.nodes?.some(node => node.subgraph)"


def test_a_training_in_a_subgraph_and_one_outside_keep_apart(page, tmp_path):
    page.evaluate(OPEN, "quickstart")
    page.evaluate(TRAINING_ONLY)
    page.evaluate(SET, SMALL)
    page.evaluate(SET, {"GDRO_GroupRollout": {"run_name": "nested"}})
    page.evaluate(PUT_INSIDE, [TRAIN, {"steps": 4, "seed": 3}])
    run(page)
    page.wait_for_function(BOTH_SAY, arg=[TRAIN, ["finished", "finished"]])
    said = page.evaluate(SAID, TRAIN)
    assert "Step 6 of 6" in said[0]
    assert "Step 4 of 4" in said[1]
    assert all("nested_" in text for text in said)
    page.evaluate(ENTER)
    panel = page.locator(".gdro-panel", has_text="Step 6 of 6")
    panel.locator(".gdro-line").first.wait_for()
    page.screenshot(path=tmp_path / "inside.png")
    assert not page.locator(".gdro-panel", has_text="Step 4 of 4").is_visible()
    page.wait_for_timeout(1500)  # the canvas writes its draft half a second after a change
    page.reload()
    page.wait_for_function(READY)
    page.wait_for_function(BOTH_SAY, arg=[TRAIN, ["Step 6 of 6", "Step 4 of 4"]])
    assert page.evaluate(SAID, TRAIN) == said
