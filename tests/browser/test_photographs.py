"""Large images in the panels: scaled smoothly, rated in cards that fill the node, compared with one zoom."""

import shutil

import pytest
from comfyui_page import centre, open_workflow, panel, wait_for_status
from PIL import Image

from gdro_comfy.data.files import append_lines, digest, write_json

RATE, COMPARE = "GDRO_RatingReward", "GDRO_CompareRollouts"
SHOW = """
([type, location]) => {
  const node = app.graph.nodes.find(node => node.type === type);
  node.properties.gdro = { [node.id]: location };
  node.configure(node.serialize());
}
"""
COLUMNS = """
async (cases) => {
  const { cardColumns } = await import('/extensions/ComfyUI-GDRO/rating_cards.js');
  return cases.map(one => cardColumns(...one));
}
"""
STYLES = "images => images.map(image => [image.style.transform, image.style.transformOrigin])"


def photographs(server, name, values):
    """Create a run of three prompts with six images of 384 x 256 pixels, and one score for each."""
    folder = server.base / "output" / "gdro" / f"{name}-00000000"
    rows = []
    for number, prompt in enumerate(("a lake", "a wood", "a town")):
        group = folder / "prompts" / digest(prompt)
        group.mkdir(parents=True)
        write_json(group / "prompt.json", {"text": prompt})
        for index in range(6):
            Image.new("RGB", (384, 256), (40 * index, 90 * number, 80)).save(
                group / f"{index:03d}.png"
            )
            rows.append({"prompt": group.name, "image": index, "value": values[number]})
    (folder / "scores").mkdir()
    append_lines(folder / "scores" / "look-1.jsonl", rows)
    write_json(folder / "run.json", {"name": name, "model": {}, "size": [384, 256]})
    return folder


@pytest.fixture
def two(server):
    """Create two runs of the same prompts: of their gains, +0.1 is nearest to the mean."""
    folders = [
        photographs(server, "plain", (0.5, 0.5, 0.5)),
        photographs(server, "tuned", (0.6, 0.2, 0.9)),
    ]
    yield [folder.name for folder in folders]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def test_cards_are_as_large_as_fits_and_never_more_than_six_in_a_row(page):
    cases = [
        (4, 600, 700, 1.0),  # two rows of two
        (6, 600, 420, 1.5),  # two rows of three
        (6, 900, 200, 1.0),  # one row
        (16, 600, 300, 1.0),  # too many: scrolled
        (64, 3000, 300, 1.0),
        (1, 200, 500, 1.0),
    ]
    assert page.evaluate(COLUMNS, cases) == [2, 3, 6, 4, 6, 2]


def test_photographs_are_smooth_and_the_pixels_of_small_images_are_kept(page, two, three):
    open_workflow(page, "rate_by_hand")
    for run, enlarged in ((two[0], False), (three.name, True)):
        page.evaluate(SHOW, [RATE, {"run": run}])
        wait_for_status(page, RATE, "0 of 3 groups rated")
        image = panel(page, RATE).locator(".gdro-card img").first
        image.wait_for(state="attached")
        page.wait_for_timeout(500)
        assert image.evaluate("image => image.classList.contains('gdro-pixels')") is enlarged
        box = image.evaluate("image => [image.clientWidth, image.parentElement.clientWidth]")
        assert box[0] > 0.9 * box[1], "it does not fill its card"


def test_two_rollouts_are_compared_with_one_zoom(page, renderer, two, tmp_path):
    open_workflow(page, "custom_reward_from_graph")
    scores = "look-1.jsonl"
    location = {"run": two[0], "scores": scores, "other": two[1], "other_scores": scores}
    page.evaluate(SHOW, [COMPARE, location])
    wait_for_status(page, COMPARE, "3 pairs of pictures; rewards differ by +0.067 on average")
    view = panel(page, COMPARE)
    verdict, prompt = view.locator(".gdro-verdict"), view.locator(".gdro-prompt")
    assert (prompt.text_content(), verdict.text_content()) == (
        "a lake",
        "better: 0.5 → 0.6 · 1 of 3",
    )
    order = view.get_by_label("Which pair comes first")
    order.select_option("loss", force=True)
    assert verdict.text_content() == "worse: 0.5 → 0.2 · 1 of 3"
    order.select_option("gain", force=True)
    assert prompt.text_content() == "a town"
    view.get_by_label("View", exact=True).select_option("beside", force=True)
    view.get_by_label("Zoom in").dispatch_event("click")
    images = view.locator(".gdro-half img")
    styles = images.evaluate_all(STYLES)
    assert styles[0] == styles[1]
    assert styles[0][0] == "scale(1.5)"
    widths = images.evaluate_all("images => images.map(image => image.naturalWidth)")
    assert widths == [384, 384], "it is not shown at full resolution"
    centre(page, COMPARE)  # what is out of sight gets no focus
    view.locator(".gdro-pairs").wait_for()
    view.locator(".gdro-pairs").evaluate("element => element.focus()")
    page.keyboard.press("z")
    large = page.locator("dialog .gdro-pairs")
    large.wait_for()
    page.keyboard.press("ArrowDown")
    page.screenshot(path=tmp_path / "large.png")
    page.keyboard.press("Escape")
    large.wait_for(state="detached")
    assert prompt.text_content() == "a lake", "the panel does not go on from the window's pair"
