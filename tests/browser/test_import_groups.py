"""GDRO Import Groups on the canvas: the sockets of a choice, and a file that also runs without ComfyUI."""

import pytest

from gdro_comfy.headless import workflow, workflow_file

BUILD = """
async (source) => {
  await app.loadGraphData({ nodes: [], links: [], version: 0.4 }, true, true, 'import');
  const add = (type) => {
    const node = LiteGraph.createNode(type);
    app.graph.add(node);
    return node;
  };
  const node = add('GDRO_ImportGroups');
  const model = add('GDRO_LoadBaseModel');
  const images = add('GDRO_RolloutImages');
  const score = add('GDRO_ScoreRollout');
  const widget = node.widgets.find(w => w.name === 'source');
  widget.value = source;
  widget.callback?.(source);
  await new Promise(done => setTimeout(done, 300));
  const slot = (name) => node.inputs.findIndex(input => input.name === name);
  model.connect(0, node, slot('model'));
  if (slot('source.images') >= 0) {
    images.connect(0, node, slot('source.images'));
    images.connect(1, node, slot('source.prompt'));
  }
  node.connect(0, score, 0);
  node.connect(1, score, 1);
  const { output, workflow } = await app.graphToPrompt();
  return { inputs: output[node.id].inputs, file: workflow, id: String(node.id) };
}
"""


@pytest.fixture(scope="module", autouse=True)
def image_folder(server):
    """Add a folder that the node offers."""
    folder = server.base / "input" / "taste"
    folder.mkdir()
    yield
    folder.rmdir()


def as_queued(value):
    """Return an input as ``POST /prompt`` takes it."""
    is_link = isinstance(value, workflow_file.Link)
    return [value.node_id, value.slot] if is_link else value


@pytest.mark.parametrize("source", ["folder", "images of the graph"])
def test_what_the_canvas_queues_is_what_the_console_reads(page, source):
    built = page.evaluate(BUILD, source)
    inputs = built["inputs"]
    expected = {
        "folder": {"source.folder", "source.prompt_from", "source.prompts"},
        "images of the graph": {"source.images", "source.prompt"},
    }
    assert {name for name in inputs if name.startswith("source.")} == expected[source]
    graph = workflow_file.parse(built["file"], workflow.all_stages())
    read = {name: as_queued(value) for name, value in graph[built["id"]].inputs.items()}
    assert read == inputs
