"""With ComfyUI set to Chinese or Japanese: names, tooltips, help pages and panels in that language."""

import json

import pytest
from comfyui_page import READY, open_workflow, status, use_vue_nodes
from comfyui_server import PACK

NODE = "GDRO_TrainLoRA"
SHOW = """
(type) => {
  const node = app.graph.nodes.find(node => node.type === type);
  node.showAdvanced = true;
  node.expandToFitContent();
  app.canvas.ds.scale = 0.8;
  app.canvas.centerOnNode(node);
  app.canvas.selectNode(node);
}
"""
# Where a widget of the classic canvas is on the page.
WIDGET_POSITION = """
([type, name]) => {
  const node = app.graph.nodes.find(node => node.type === type);
  const widget = node.widgets.find(widget => widget.name === name);
  const { left, top } = app.canvas.canvas.getBoundingClientRect();
  const [x, y] = app.canvas.ds.convertOffsetToCanvas(
    [node.pos[0] + 60, node.pos[1] + widget.last_y + 10]);
  return [left + x, top + y];
}
"""
TITLE_AND_LABELS = """
(type) => {
  const node = app.graph.nodes.find(node => node.type === type);
  return [node.title, Object.fromEntries(node.widgets.map(w => [w.name, w.label]))];
}
"""
# Help pages as the canvas renders them: how many table rows, and the text.
RENDERED = """
async ([urls]) => {
  const pages = await Promise.all(urls.map(async url => (await fetch(url)).text()));
  return pages.map(text => {
    const page = document.createElement('div');
    page.innerHTML = app.extensionManager.renderMarkdownToHtml(text, '/docs/');
    return [page.querySelectorAll('table tr').length, page.textContent];
  });
}
"""
# A text on an empty panel, the title of the tab, and a button in it.
PANEL_TEXTS = {
    "zh": ("开始训练后，曲线将显示在这里。", "GDRO 运行记录", "刷新"),
    "ja": ("学習が始まると、曲線がここに表示されます。", "GDRO の記録", "更新"),
}
# The title of a group, and of a node, of the quickstart.
TITLES = {"zh": ("3  训练", "用于学习的提示词"), "ja": ("3  学習", "学習に使うプロンプト")}


@pytest.fixture(params=["zh", "ja"])
def locale(page, server, request):
    """Set the page to a language; return that language and its ``nodeDefs.json``."""

    def choose(language):
        page.request.post(f"{server.url}/settings/Comfy.Locale", data=json.dumps(language))
        page.reload()
        page.wait_for_function(READY)

    choose(request.param)
    path = PACK / "locales" / request.param / "nodeDefs.json"
    yield {"language": request.param, **json.loads(path.read_text(encoding="utf-8"))}
    use_vue_nodes(page, False)
    choose("en")


def test_a_node_its_tooltips_and_its_help_are_in_the_language(page, locale, tmp_path):
    node = locale[NODE]
    open_workflow(page, "quickstart")
    title, labels = page.evaluate(TITLE_AND_LABELS, NODE)
    assert title == node["display_name"]
    for name in ("steps", "learning_rate", "algorithm.temperature"):
        assert labels[name] == node["inputs"][name.replace(".", "_")]["name"] != name
    page.evaluate(SHOW, NODE)
    page.wait_for_timeout(500)  # where the widgets are is known once they are drawn
    for name in ("learning_rate", "algorithm.temperature"):
        page.mouse.move(*page.evaluate(WIDGET_POSITION, [NODE, name]), steps=3)
        tooltip = node["inputs"][name.replace(".", "_")]["tooltip"]
        page.locator(".node-tooltip", has_text=tooltip).wait_for()
    page.get_by_test_id("info-button").click()
    help_page = page.locator(".node-help-content")
    help_page.get_by_role("heading", name=node["display_name"], exact=True).wait_for()
    help_page.get_by_text(node["inputs"]["learning_rate"]["tooltip"], exact=True).wait_for()
    image = help_page.get_by_role("img", name=node["display_name"])
    page.wait_for_function(
        "image => image.complete && image.naturalWidth > 200", arg=image.element_handle()
    )
    page.screenshot(path=tmp_path / "help.png")


def test_tooltips_inside_of_choices_are_in_the_language_with_nodes_2(page, locale):
    use_vue_nodes(page, True)
    open_workflow(page, "quickstart")
    page.evaluate(SHOW, NODE)
    inner = locale[NODE]["inputs"]["algorithm_temperature"]
    page.locator(".lg-node", has_text=locale[NODE]["display_name"]).get_by_text(
        inner["name"], exact=True
    ).hover()
    page.locator(".p-tooltip", has_text=inner["tooltip"]).wait_for()


def test_the_panels_are_in_the_language(page, locale):
    empty, tab, refresh = PANEL_TEXTS[locale["language"]]
    open_workflow(page, "quickstart")
    assert status(page, NODE) == empty
    group, node = TITLES[locale["language"]]
    assert group in page.evaluate("() => app.graph.groups.map(one => one.title)")
    assert node in page.evaluate("() => app.graph.nodes.map(one => one.title)")
    page.get_by_role("button", name=tab).click()
    page.get_by_role("heading", name=tab).wait_for()
    page.get_by_role("button", name=refresh, exact=True).wait_for()
    page.get_by_role("button", name=tab).click()


def test_all_pages_are_served_and_have_no_broken_markup(page, locale):
    nodes = [name for name in locale if name.startswith("GDRO_")]
    docs = "/extensions/ComfyUI-GDRO/docs"
    english = page.evaluate(RENDERED, [[f"{docs}/{name}.md" for name in nodes]])
    pages = page.evaluate(RENDERED, [[f"{docs}/{name}/{locale['language']}.md" for name in nodes]])
    for name, (rows, plain), (same_rows, text) in zip(nodes, english, pages, strict=True):
        assert text.startswith(locale[name]["display_name"])
        assert same_rows == rows > 4, name
        assert "**" not in text, name
        assert text.count("|") == plain.count("|"), name
