"""ComfyUI's page for the browser tests: open a shipped workflow, set its widgets, run it, find its panels."""

READY = "window.app?.canvas && (app.rootGraph ?? app.graph)?.nodes?.length > 0"
_OPEN = """
async (name) => {
  const answer = await fetch(`/api/workflow_templates/ComfyUI-GDRO/${name}.json`);
  await app.loadGraphData(await answer.json(), true, true, name);
}
"""
_SET = """
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
_REMOVE = """
(types) => {
  for (const node of [...app.graph.nodes]) if (types.includes(node.type)) app.graph.remove(node);
}
"""
_MARK = """
(type) => app.graph.nodes.find(node => node.type === type)
  .widgets.find(widget => widget.name === 'gdro_panel').element.dataset.test = type
"""
# The status line of the panel of the node of a type.
STATUS = """
(type) => app.graph.nodes.find(node => node.type === type)?.widgets
  .find(widget => widget.name === 'gdro_panel').element.querySelector('.gdro-status').textContent ?? ''
"""
_CENTRE = """
(type) => {
  const node = app.graph.nodes.find(node => node.type === type);
  app.canvas.ds.scale = 1;
  app.canvas.ds.offset = [300 - node.pos[0], 150 - node.pos[1]];
  app.canvas.setDirty(true, true);
}
"""
AFTER_TRAINING = ("LossGraphNode", "GDRO_EvaluateAlignment")


def open_workflow(page, name, values=None, without=()):
    """Open a shipped workflow with these values, by node type and widget, without nodes of some types."""
    page.evaluate(_OPEN, name)
    page.evaluate(_REMOVE, list(without))
    set_values(page, values or {})


def set_values(page, values):
    """Set widgets of the open workflow, ``{node type: {widget: value}}``."""
    page.evaluate(_SET, values)


def run(page):
    """Queue the open workflow."""
    page.get_by_test_id("queue-button").click()


def reload(page):
    """Reload the page once the canvas has saved its draft, half a second after a change."""
    page.wait_for_timeout(1500)
    page.reload()
    page.wait_for_function(READY)


def use_vue_nodes(page, on):
    """Switch between Vue components ("Nodes 2.0") and the classic canvas."""
    page.evaluate("on => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", on)


def centre(page, node_type):
    """Bring the node of a type into view at scale 1."""
    page.evaluate(_CENTRE, node_type)


def panel(page, node_type):
    """Return a locator of the panel of the node of a type."""
    page.evaluate(_MARK, node_type)
    return page.locator(f'[data-test="{node_type}"]')


def status(page, node_type):
    """Return the status line of the panel of the node of a type."""
    return page.evaluate(STATUS, node_type)


def wait_for_status(page, node_type, text, timeout=120_000):
    """Wait until that line contains a text."""
    script = f"([type, text]) => ({STATUS})(type).includes(text)"
    page.wait_for_function(script, arg=[node_type, text], timeout=timeout)


def wait_for_step(page, least):
    """Wait until the panel of the training shows this step or a later one."""
    script = (
        f"least => Number(({STATUS})('GDRO_TrainLoRA').match(/Step (\\d+)/)?.[1] ?? 0) >= least"
    )
    page.wait_for_function(script, arg=least)
