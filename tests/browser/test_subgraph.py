"""A training inside a subgraph and another one beside it: each panel shows its own."""

from comfyui_page import AFTER_TRAINING, open_workflow, reload, run
from comfyui_server import SMALL
from safetensors import safe_open

TRAIN = "GDRO_TrainLoRA"
# The training moves into a subgraph; a copy of it, with other values, stays outside on the same inputs.
MOVE_INSIDE = """
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
# The status lines of the two panels, the one in the subgraph first.
STATUSES = """
(type) => {
  const root = app.rootGraph ?? app.graph;
  const holder = root.nodes.find(node => node.subgraph);
  return [holder.subgraph, root].map(graph => graph.nodes.find(node => node.type === type)
    .widgets.find(widget => widget.name === 'gdro_panel').element.querySelector('.gdro-status').textContent);
}
"""
BOTH_SAY = f"([type, texts]) => ({STATUSES})(type).every((text, i) => text.includes(texts[i]))"
ENTER = """
() => {
  const holder = (app.rootGraph ?? app.graph).nodes.find(node => node.subgraph);
  app.canvas.openSubgraph(holder.subgraph, holder);
}
"""


def test_a_training_in_a_subgraph_and_one_outside_keep_apart(page, tmp_path):
    rollout = {**SMALL["GDRO_GroupRollout"], "run_name": "nested"}
    values = {**SMALL, "GDRO_GroupRollout": rollout}
    values.pop("GDRO_EvaluateAlignment")
    open_workflow(page, "quickstart", values, without=AFTER_TRAINING)
    page.evaluate(MOVE_INSIDE, [TRAIN, {"steps": 4, "seed": 3}])
    run(page)
    page.wait_for_function(BOTH_SAY, arg=[TRAIN, ["finished", "finished"]])
    page.wait_for_function(BOTH_SAY, arg=[TRAIN, ["nested_", "nested_"]])
    statuses = page.evaluate(STATUSES, TRAIN)
    assert "Step 6 of 6" in statuses[0]
    assert "Step 4 of 4" in statuses[1]
    assert all("nested_" in text for text in statuses)
    page.evaluate(ENTER)
    inside = page.locator(".gdro-panel", has_text="Step 6 of 6")
    inside.locator(".gdro-line").first.wait_for()
    page.screenshot(path=tmp_path / "inside.png")
    assert not page.locator(".gdro-panel", has_text="Step 4 of 4").is_visible()
    reload(page)
    page.wait_for_function(BOTH_SAY, arg=[TRAIN, ["Step 6 of 6", "Step 4 of 4"]])
    assert page.evaluate(STATUSES, TRAIN) == statuses


BLUEPRINT = "Align this model"
PLACE = """
async (blueprint) => {
  await app.loadGraphData(JSON.parse(blueprint), true, true, 'blueprint');
  const graph = app.graph, holder = graph.nodes[0];
  const add = (type, values = {}) => {
    const node = LiteGraph.createNode(type);
    graph.add(node);
    for (const [name, value] of Object.entries(values)) {
      const widget = node.widgets.find(other => other.name === name);
      widget.value = value;
      widget.callback?.(value);
    }
    return node;
  };
  const link = (node, output, input) => node.connect(
    node.outputs.findIndex(slot => slot.name === output), holder,
    holder.inputs.findIndex(slot => slot.name === input));
  const base = add('GDRO_LoadBaseModel', { source: 'bundled' });
  const comfy = add('GDRO_ModelForComfyUI');
  base.connect(0, comfy, 0);
  for (const name of ['model', 'clip', 'vae']) link(comfy, name, name);
  link(add('GDRO_PromptSet', { 'source.set': 'shapes_train', limit: 6 }), 'prompts', 'prompts');
  link(add('GDRO_PromptSet', { 'source.set': 'shapes_heldout', limit: 3 }), 'prompts', 'heldout_prompts');
  link(add('GDRO_CompositionReward'), 'reward', 'reward');
  holder.connect(holder.outputs.findIndex(slot => slot.name === 'comparison'), add('PreviewImage'), 0);
  const values = { images_per_prompt: 6, steps: 2, guidance: 1, width: 64, height: 64,
                   run_name: 'blueprint', training_steps: 4 };
  for (const [name, value] of Object.entries(values))
    holder.widgets.find(widget => widget.name === name).value = value;
  return app.graphToPrompt().then(prompt => Object.values(prompt.output));
}
"""
SHOWN = "() => app.graph.nodes.find(node => node.type === 'PreviewImage').imgs?.length > 0"


def test_the_blueprint_aligns_the_model_on_its_wires(page, server, tmp_path):
    [key] = [
        k for k, entry in server.get("/global_subgraphs").items() if entry["name"] == BLUEPRINT
    ]
    entry = server.get(f"/global_subgraphs/{key}")
    assert entry["info"]["node_pack"].startswith("custom_nodes.")
    queued = page.evaluate(PLACE, entry["data"])
    values = {node["class_type"]: node["inputs"] for node in queued}
    for sampling in (values["GDRO_GroupRollout"], values["GDRO_EvaluateAlignment"]):
        assert (sampling["steps"], sampling["width"], sampling["height"]) == (2, 64, 64)
    assert (values[TRAIN]["steps"], values[TRAIN]["gradient_checkpointing"]) == (4, True)
    page.screenshot(path=tmp_path / "blueprint.png")
    run(page)
    page.wait_for_function(SHOWN, timeout=300_000)
    page.screenshot(path=tmp_path / "aligned.png")
    [path] = (server.base / "models" / "loras" / "gdro").glob("blueprint_*.safetensors")
    with safe_open(path, framework="pt") as file:
        assert all(name.startswith("diffusion_model.") for name in file.keys())  # noqa: SIM118
