"""GDRO Import Groups on the canvas: the sockets of a choice, and a file that runs without ComfyUI too."""

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
def taste(server):
    (server.base / "input" / "taste").mkdir()
    yield
    (server.base / "input" / "taste").rmdir()


def plain(value):
    link = isinstance(value, workflow_file.Link)
    return [value.node_id, value.slot] if link else value


@pytest.mark.parametrize("source", ["folder", "images of the graph"])
def test_what_the_canvas_queues_is_what_the_console_reads(page, source):
    made = page.evaluate(BUILD, source)
    inputs = made["inputs"]
    expected = {
        "folder": {"source.folder", "source.prompt_from", "source.prompts"},
        "images of the graph": {"source.images", "source.prompt"},
    }
    assert {name for name in inputs if name.startswith("source.")} == expected[source]
    graph = workflow_file.parse(made["file"], workflow.all_stages())
    read = {name: plain(value) for name, value in graph[made["id"]].inputs.items()}
    assert read == inputs
