"""Wires of our types: a colour for each, and the reason where one is refused; and the list of runs."""

from comfyui_page import centre, open_workflow, use_vue_nodes

COLORS = """
() => {
  const types = ['GDRO_MODEL', 'GDRO_PROMPTS', 'GDRO_ROLLOUT', 'GDRO_REWARD', 'GDRO_ALIGNED'];
  const styles = getComputedStyle(document.documentElement);
  return types.map(type => [
    app.canvas.default_connection_color_byType[type],
    LGraphCanvas.link_type_colors[type],
    styles.getPropertyValue(`--color-datatype-${type}`).trim(),
  ]);
}
"""
# Puts two nodes side by side; returns where the first output of one and the first input of the other are.
PAIR = """
([from, to]) => {
  app.graph.clear();
  const [a, b] = [from, to].map((type, index) => {
    const node = LiteGraph.createNode(type);
    app.graph.add(node);
    node.pos = [500 * index, 0];
    return node;
  });
  app.canvas.ds.scale = 1;
  app.canvas.ds.offset = [300, 300];
  app.canvas.draw(true, true);
  const box = app.canvas.canvas.getBoundingClientRect();
  return [a.getConnectionPos(false, 0), b.getConnectionPos(true, 0)].map(([x, y]) => {
    const [left, top] = app.canvas.ds.convertOffsetToCanvas([x, y]);
    return [box.left + left, box.top + top];
  });
}
"""
# Shows a text on a node as the server does.
SAY = """
([type, text]) => {
  const node = app.graph.nodes.find(node => node.type === type);
  window.comfyAPI.api.api.dispatchCustomEvent('progress_text', { nodeId: String(node.id), text });
}
"""


def test_each_type_has_a_colour_that_a_theme_leaves(page):
    before = page.evaluate(COLORS)
    assert len({one for colors in before for one in colors}) == 5
    for theme in ("light", "dark"):
        page.evaluate(
            "theme => app.extensionManager.setting.set('Comfy.ColorPalette', theme)", theme
        )
        page.wait_for_timeout(300)
        assert page.evaluate(COLORS) == before


def test_a_refused_wire_says_what_belongs_between(page, tmp_path):
    use_vue_nodes(page, False)
    (x, y), (to_x, to_y) = page.evaluate(PAIR, ["CheckpointLoaderSimple", "GDRO_GroupRollout"])
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(to_x + 40, to_y, steps=8)
    page.mouse.up()
    toast = page.locator(".p-toast-message", has_text="GDRO Model from ComfyUI")
    toast.wait_for()
    assert "MODEL does not fit here" in toast.inner_text()
    page.screenshot(path=tmp_path / "refused.png")
    assert page.evaluate("() => app.graph.links.size ?? app.graph.links.length") == 0


def test_runs_are_sorted_filtered_and_deleted_together(page, three, server, tmp_path):
    others = []
    for name in ("early", "late"):
        folder = three.with_name(f"{name}-00000000")
        folder.mkdir()
        (folder / "run.json").write_text(f'{{"name": "{name}", "model": {{}}, "size": [8, 8]}}')
        others.append(folder)
    open_workflow(page, "quickstart")
    if not page.locator(".gdro-runs").is_visible():
        page.get_by_role("button", name="GDRO runs").click()
    page.get_by_role("button", name="Refresh").click()
    titles = page.locator(".gdro-run h3")
    page.get_by_label("Filter by name").fill("early")
    assert [title.strip() for title in titles.all_inner_texts()] == ["early"]
    page.get_by_label("Filter by name").fill("00000000")
    page.get_by_label("Sort runs").select_option("name")
    assert [title.strip() for title in titles.all_inner_texts()] == ["early", "late", "three"]
    page.screenshot(path=tmp_path / "runs.png")
    for name in ("early", "late"):
        page.get_by_label(f"Choose {name}").check()
    page.get_by_role("button", name="Delete 2 runs").click()
    question = page.get_by_role("dialog").filter(has_text="Delete 2 runs?")
    question.get_by_role("button", name="Delete").click()
    page.locator(".gdro-run", has_text="early").wait_for(state="detached")
    assert not any(folder.exists() for folder in others)
    assert three.is_dir()
    page.get_by_label("Filter by name").fill("")


def test_a_text_of_the_server_breaks_between_words(page):
    use_vue_nodes(page, False)  # Nodes 2.0 breaks between words by itself
    open_workflow(page, "quickstart")
    centre(page, "GDRO_ScoreRollout")
    page.evaluate(
        SAY, ["GDRO_ScoreRollout", "16 images in 4 groups: mean 0.053, best 0.147 &amp; more"]
    )
    text = page.locator(".gdro-words", has_text="best 0.147 & more").first
    text.wait_for()
    assert text.evaluate("element => getComputedStyle(element).wordBreak") == "normal"
