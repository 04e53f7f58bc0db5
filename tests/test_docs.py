"""Every node, input and output has its words, and the pages are those of the present declarations."""

import make_docs
import pytest

from gdro_comfy.stages import STAGES


@pytest.mark.parametrize("node_id", list(STAGES))
def test_every_input_and_output_is_explained(node_id):
    stage = STAGES[node_id]
    assert len(stage.description) > 20
    for name, item, _ in make_docs.flat(stage.inputs):
        assert len(item.tooltip) > 5, name
    assert all(len(output.tooltip) > 5 for output in stage.outputs)
    assert stage.preview is None or stage.preview in {output.name for output in stage.outputs}


def test_pages_and_locale_are_up_to_date():
    for path, text in make_docs.files().items():
        assert path.read_text(encoding="utf-8") == text, f"run tools/make_docs.py: {path.name}"


def test_there_is_a_page_for_each_node_and_no_other():
    pages = {path.stem for path in (make_docs.ROOT / "web" / "docs").glob("*.md")}
    assert pages == set(STAGES) == set(make_docs.ADVICE)
