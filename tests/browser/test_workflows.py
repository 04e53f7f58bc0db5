"""The shipped workflows on the canvas: they open intact, run from the Run button, and show text as text."""

import json

import pytest
from comfyui_page import open_workflow, run, set_values
from comfyui_server import SMALL, WORKFLOWS, to_api

from gdro_comfy.headless import workflow_file
from gdro_comfy.stages import STAGES

STATE = """
() => app.graph.nodes.map(node => ({
  type: node.type,
  known: node.type in LiteGraph.registered_node_types,
  red: !!node.has_errors || (node.inputs ?? []).some(input => input.hasErrors),
  unlinked: (node.inputs ?? [])
    .filter(input => !input.widget && input.link == null && input.shape !== 7)  // 7: optional
    .map(input => input.name),
  files: (node.properties.models ?? []).map(model => model.name),
  impossible: (node.widgets ?? [])
    .filter(w => Array.isArray(w.options?.values) && !w.options.values.includes(w.value))
    .filter(w => !(node.properties.models ?? []).some(model => model.name === w.value))
    .map(w => `${w.name}: ${w.value}`),
  text: (node.widgets ?? []).filter(w => w.name.includes('text-preview')).map(w => w.value).join(),
  picture: node.imgs?.length ? [node.imgs[0].naturalWidth, node.imgs[0].naturalHeight] : null,
}))
"""
# A node's values from a file, and from the same file as saved before one of the node's inputs existed.
OLDER = """
async ([name, type, missing]) => {
  const answer = await fetch(`/api/workflow_templates/ComfyUI-GDRO/${name}.json`);
  const file = await answer.json();
  const values = async () => {
    await app.loadGraphData(file, true, true, name);
    const { widgets } = app.graph.nodes.find(node => node.type === type);
    return Object.fromEntries(
      widgets.filter(w => w.serialize !== false).map(w => [w.name, w.value]));
  };
  const before = await values();
  const saved = file.nodes.find(node => node.type === type);
  saved.widgets_values.splice(Object.keys(saved.widgets_values_named).indexOf(missing), 1);
  delete saved.widgets_values_named[missing];
  saved.inputs = saved.inputs.filter(input => input.name !== missing);
  return { before, after: await values() };
}
"""


def state(page):
    """Return what the canvas knows of each node, by type (of several of one type, the last)."""
    return {node["type"]: node for node in page.evaluate(STATE)}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_shipped_workflow_opens_intact(page, server, path):
    assert path.stem in server.get("/workflow_templates")["ComfyUI-GDRO"]
    thumbnail = server.fetch(f"/api/workflow_templates/ComfyUI-GDRO/{path.stem}.jpg")
    assert thumbnail.startswith(b"\xff\xd8")
    open_workflow(page, path.stem)
    for node in page.evaluate(STATE):
        assert node["known"], node
        assert not node["red"] or node["files"], node  # red: the server lacks the file
        assert not node["unlinked"], node
        assert not node["impossible"], node


def test_files_of_real_models_can_be_downloaded_and_stand_in_the_note():
    """The front end offers what a node's properties name, with an address and a folder."""
    named = 0
    for path in WORKFLOWS:
        nodes = json.loads(path.read_text(encoding="utf-8"))["nodes"]
        [note] = [node["widgets_values"][0] for node in nodes if node["type"] == "MarkdownNote"]
        loaders = [node for node in nodes if "Loader" in node["type"]]
        assert bool(loaders) == ("GDRO_ModelFromWires" in {node["type"] for node in nodes})
        for loader in loaders:
            models = loader["properties"]["models"]
            values = loader["widgets_values"]
            chosen = [v for v in values if isinstance(v, str) and v.endswith(".safetensors")]
            assert chosen == [model["name"] for model in models]
            for model in models:
                assert model["url"].startswith("https://huggingface.co/")
                assert model["url"].endswith("/" + model["name"])
                assert f"| `{model['name']}` | `models/{model['directory']}` |" in note
                named += 1
    assert named > 15


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_the_canvas_queues_what_the_console_reads(page, server, path):
    saved = server.get(f"/api/workflow_templates/ComfyUI-GDRO/{path.stem}.json")
    open_workflow(page, path.stem)
    queued = page.evaluate("() => app.graphToPrompt().then(prompt => prompt.output)")
    assert {key: node["inputs"] for key, node in queued.items()} == {
        key: node["inputs"] for key, node in to_api(saved).items()
    }
    for key, node in workflow_file.read(path, STAGES).items():
        if node.class_type in STAGES:
            inputs = {
                name: [value.node_id, value.slot]
                if isinstance(value, workflow_file.Link)
                else value
                for name, value in node.inputs.items()
            }
            assert inputs == queued[key]["inputs"]


def test_a_file_that_lacks_a_newer_input_keeps_its_values(page):
    values = page.evaluate(OLDER, ["quickstart", "GDRO_TrainLoRA", "algorithm.draw"])
    assert values["after"].pop("algorithm.draw") == "random"
    assert values["before"].pop("algorithm.draw") == "best and worst"
    assert values["after"] == values["before"]


def test_the_quickstart_runs_from_the_run_button(page, server, tmp_path):
    open_workflow(page, "quickstart")
    set_values(page, SMALL)
    set_values(page, {"GDRO_GroupRollout": {"run_name": "canvas"}})
    run(page)
    try:
        page.wait_for_function(
            """() => app.graph.nodes.find(n => n.type === 'GDRO_EvaluateAlignment')
                .widgets.some(w => String(w.value).includes('95 % interval'))""",
            timeout=400_000,
        )
        page.wait_for_timeout(1000)
    finally:
        page.screenshot(path=tmp_path / "quickstart.png")
    nodes = state(page)
    assert not any(node["red"] for node in nodes.values())
    assert nodes["LossGraphNode"]["picture"]
    assert "24 images in 6 groups" in nodes["GDRO_ScoreRollout"]["text"]
    [lora] = (server.base / "models" / "loras" / "gdro").glob("canvas_*.safetensors")
    assert lora.name in nodes["GDRO_TrainLoRA"]["text"]


def test_an_error_stands_on_the_node_and_a_prompt_stays_text(page, tmp_path):
    prompt = "<img src=x onerror=alert(1)>"
    open_workflow(page, "quickstart")
    set_values(page, SMALL)
    set_values(page, {"GDRO_PromptSet": {"source": "text"}})
    set_values(page, {"GDRO_PromptSet": {"source.text": prompt}})
    set_values(page, {"GDRO_GroupRollout": {"run_name": "markup"}})
    run(page)
    # More tokens than the bundled model reads: the message has the prompt in it.
    page.get_by_text(f"('{prompt}') has").first.wait_for(state="attached")
    page.wait_for_timeout(500)
    page.screenshot(path=tmp_path / "markup.png")
    assert page.evaluate("document.querySelectorAll('img[src=\"x\"], img[onerror]').length") == 0
    set_values(page, {"GDRO_PromptSet": {"source.text": "one red circle\none green star"}})
    run(page)
    page.wait_for_function(
        """() => app.graph.nodes.find(n => n.type === 'GDRO_GroupRollout')
            .widgets.some(w => String(w.value).includes('sampling groups 8/8'))"""
    )
