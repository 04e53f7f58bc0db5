"""Stages that make groups of images: the prompts, and the rollout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..stage import Input, Output, Stage
from .shared import MODEL, SEED, SIZE, image_tensor, sampling

if TYPE_CHECKING:
    from ..host import Host


def _prompt_set(host: Host, source: dict[str, Any], limit: int) -> tuple[Any]:
    from .. import prompts

    kind = source["source"]
    if kind == "shipped set":
        found = prompts.shipped(source["set"])
    elif kind == "text":
        found = prompts.from_text(source["text"])
    else:
        files = host.model_files("prompts")
        if source.get("file") not in files:
            raise InputError(
                "file",
                f"{source.get('file')!r} is not there",
                "Put a .txt, .jsonl or .csv file into ComfyUI's input folder.",
            )
        found = prompts.from_file(files[source["file"]])
    return (found.limit(limit) if limit else found,)


def _rollout(
    host: Host, model: Any, prompts: Any, aligned: Any = None, **settings: Any
) -> tuple[Any, Any]:
    from .. import rollout

    made = rollout.generate(host, model, prompts, rollout.RolloutConfig(**settings), aligned)
    groups = made.groups()[:6]
    shown = [group.image(i) for group in groups for i in range(min(8, made.images_per_prompt))]
    columns = len(shown) // len(groups)
    return made, image_tensor([rollout.contact_sheet(shown, columns)])


STAGES: dict[str, Stage] = {
    "GDRO_PromptSet": Stage(
        _prompt_set,
        "GDRO Prompt Set",
        "The prompts to learn on, or to evaluate on. Keep the two apart.",
        (
            Input(
                "source",
                "DYNAMIC",
                "Where the prompts come from.",
                choices={
                    "shipped set": (
                        Input(
                            "set",
                            "COMBO",
                            "shapes and words: for the bundled model, with the composition and the OCR "
                            "reward. signs: OCR on large models. things: composition with a detector. "
                            "Evaluate on held-out ones.",
                            default="shapes_train",
                            options=(
                                "shapes_train",
                                "shapes_heldout",
                                "words_train",
                                "words_heldout",
                                "signs_train",
                                "signs_heldout",
                                "things_train",
                                "things_heldout",
                            ),
                        ),
                    ),
                    "text": (
                        Input(
                            "text",
                            "STRING",
                            "One prompt a line. Lines that start with # are left out.",
                            default="",
                            multiline=True,
                        ),
                    ),
                    "file": (
                        Input(
                            "file",
                            "COMBO",
                            "A .txt (a prompt a line), .jsonl or .csv file in ComfyUI's input folder.",
                            files="prompts",
                        ),
                    ),
                },
            ),
            Input(
                "limit",
                "INT",
                "Use this many, drawn at random but always the same; 0 uses all.",
                default=0,
                minimum=0,
                maximum=100000,
            ),
        ),
        (Output("prompts", "GDRO_PROMPTS", "The prompts."),),
    ),
    "GDRO_GroupRollout": Stage(
        _rollout,
        "GDRO Group Rollout",
        "Generates a group of images for every prompt. They stay on disk: queueing again makes only "
        "what is missing, and more images or prompts add to the run.",
        (
            MODEL,
            Input("prompts", "GDRO_PROMPTS", "From GDRO Prompt Set."),
            Input(
                "images_per_prompt",
                "INT",
                "Images in a group. Too few, and none of them is much better than the others; the "
                "paper uses 16.",
                default=16,
                minimum=2,
                maximum=256,
            ),
            *sampling(1.0, 28),
            *SIZE,
            SEED,
            Input(
                "run_name",
                "STRING",
                "Name of the run's folder, in gdro/ below ComfyUI's output folder.",
                default="run",
            ),
            Input(
                "aligned",
                "GDRO_ALIGNED",
                "Generates with this LoRA on: to look at what it has learned, to rate it, or to train "
                "on what it makes now.",
                optional=True,
            ),
        ),
        (
            Output("rollout", "GDRO_ROLLOUT", "The groups, as a handle: images stay on disk."),
            Output("preview", "IMAGE", "The first groups, one a row."),
        ),
        output_node=True,
        preview="preview",
        aliases=("sample", "groups", "generate"),
    ),
}
