"""What the browser tests do on ComfyUI's page: open a shipped workflow, set widgets, press Run."""

OPEN = """
async (name) => {
  const answer = await fetch(`/api/workflow_templates/ComfyUI-GDRO/${name}.json`);
  await app.loadGraphData(await answer.json(), true, true, name);
}
"""
SET = """
(values) => {
  for (const node of app.graph.nodes)
    for (const [name, value] of Object.entries(values[node.type] ?? {})) {
      const widget = node.widgets.find(w => w.name === name);
      if (!widget) throw new Error(`${node.type} has no widget ${name}`);
      widget.value = value;
      widget.callback?.(value);
    }
}
"""
# Leaves out what comes after the training.
TRAINING_ONLY = """
() => {
  for (const node of [...app.graph.nodes])
    if (['LossGraphNode', 'GDRO_EvaluateAlignment'].includes(node.type)) app.graph.remove(node);
}
"""


def run(page):
    page.get_by_test_id("queue-button").click()
