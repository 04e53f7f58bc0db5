"""With ComfyUI set to Chinese or Japanese: names, tooltips, help pages and panels in that language."""

import json

import pytest
from comfyui_page import OPEN
from comfyui_server import PACK

NODE = "GDRO_TrainLoRA"
READY = "window.app?.canvas && window.app.graph?.nodes?.length > 0"
SHOW = """
(type) => {
  const node = app.graph.nodes.find(node => node.type === type);
  app.canvas.ds.scale = 1;
  app.canvas.centerOnNode(node);
  app.canvas.selectNode(node);
}
"""
# Where a widget is on the page, with the old canvas.
PLACE = """
([type, name]) => {
  const node = app.graph.nodes.find(node => node.type === type);
  const widget = node.widgets.find(widget => widget.name === name);
  const { left, top } = app.canvas.canvas.getBoundingClientRect();
  const [x, y] = app.canvas.ds.convertOffsetToCanvas(
    [node.pos[0] + 60, node.pos[1] + widget.last_y + 10]);
  return [left + x, top + y];
}
"""
RENDERED = """
async ([urls]) => {
  const pages = await Promise.all(urls.map(async url => (await fetch(url)).text()));
  return pages.map(text => {
    const shown = document.createElement('div');
    shown.innerHTML = app.extensionManager.renderMarkdownToHtml(text, '/docs/');
    return [shown.querySelectorAll('table tr').length, shown.textContent];
  });
}
"""


@pytest.fixture(params=["zh", "ja"])
def words(page, server, request):
    """The page in a language; the words of the nodes in it."""

    def choose(language):
        page.request.post(f"{server.url}/settings/Comfy.Locale", data=json.dumps(language))
        page.reload()
        page.wait_for_function(READY)

    choose(request.param)
    path = PACK / "locales" / request.param / "nodeDefs.json"
    yield {"language": request.param, **json.loads(path.read_text(encoding="utf-8"))}
    page.evaluate("app.extensionManager.setting.set('Comfy.VueNodes.Enabled', false)")
    choose("en")


def test_a_node_its_tooltips_and_its_help_are_in_the_language(page, words, tmp_path):
    own = words[NODE]
    page.evaluate(OPEN, "quickstart")
    title, labels = page.evaluate(
        """(type) => {
          const node = app.graph.nodes.find(node => node.type === type);
          return [node.title, Object.fromEntries(node.widgets.map(w => [w.name, w.label]))];
        }""",
        NODE,
    )
    assert title == own["display_name"]
    for name in ("steps", "learning_rate", "algorithm.temperature"):
        assert labels[name] == own["inputs"][name.replace(".", "_")]["name"] != name
    page.evaluate(SHOW, NODE)
    for name in ("learning_rate", "algorithm.temperature"):
        page.mouse.move(*page.evaluate(PLACE, [NODE, name]), steps=3)
        said = own["inputs"][name.replace(".", "_")]["tooltip"]
        page.locator(".node-tooltip", has_text=said).wait_for()
    page.get_by_test_id("info-button").click()
    shown = page.locator(".node-help-content")
    shown.get_by_role("heading", name=own["display_name"], exact=True).wait_for()
    shown.get_by_text(own["inputs"]["learning_rate"]["tooltip"], exact=True).wait_for()
    picture = shown.get_by_role("img", name=own["display_name"])
    page.wait_for_function(
        "image => image.complete && image.naturalWidth > 200", arg=picture.element_handle()
    )
    page.screenshot(path=tmp_path / "help.png")


def test_tooltips_inside_of_choices_are_in_the_language_with_nodes_2(page, words):
    page.evaluate("app.extensionManager.setting.set('Comfy.VueNodes.Enabled', true)")
    page.evaluate(OPEN, "quickstart")
    page.evaluate(SHOW, NODE)
    inner = words[NODE]["inputs"]["algorithm_temperature"]
    page.locator(".lg-node", has_text=words[NODE]["display_name"]).get_by_text(
        inner["name"], exact=True
    ).hover()
    page.locator(".p-tooltip", has_text=inner["tooltip"]).wait_for()


def test_the_panels_are_in_the_language(page, words, tmp_path):
    said = {
        "zh": ("开始训练后，曲线将显示在这里。", "GDRO 运行记录", "刷新"),
        "ja": ("学習が始まると、曲線がここに表示されます。", "GDRO の記録", "更新"),
    }
    empty, tab, refresh = said[words["language"]]
    page.evaluate(OPEN, "quickstart")
    text = page.evaluate(
        """(type) => app.graph.nodes.find(node => node.type === type)
          .widgets.find(widget => widget.name === 'gdro_panel').element.textContent""",
        NODE,
    )
    assert empty in text
    page.get_by_role("button", name=tab).click()
    page.get_by_role("heading", name=tab).wait_for()
    page.get_by_role("button", name=refresh, exact=True).wait_for()
    page.get_by_role("button", name=tab).click()


def test_all_pages_are_served_and_hold_no_broken_markup(page, words):
    nodes = [name for name in words if name.startswith("GDRO_")]
    docs = "/extensions/ComfyUI-GDRO/docs"
    english = page.evaluate(RENDERED, [[f"{docs}/{name}.md" for name in nodes]])
    pages = page.evaluate(RENDERED, [[f"{docs}/{name}/{words['language']}.md" for name in nodes]])
    for name, (rows, plain), (same_rows, text) in zip(nodes, english, pages, strict=True):
        assert text.startswith(words[name]["display_name"])
        assert same_rows == rows > 4, name
        assert "**" not in text, name
        assert text.count("|") == plain.count("|"), name
