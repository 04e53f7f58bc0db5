"""Stages that make groups of images: the prompts, and the rollout."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .base import Input, Output, Stage
from .shared import MODEL, SEED, SIZE, image_tensor, sampling

if TYPE_CHECKING:
    from ..host import Host


def _prompt_set(host: Host, source: dict[str, Any], limit: int) -> tuple[Any]:
    from ..data import prompts

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
    from ..rollouts import sample

    made = sample.generate(host, model, prompts, sample.RolloutConfig(**settings), aligned)
    return made, _first_groups(made)


def _first_groups(made: Any) -> Any:
    """The first groups of a rollout, one a row, as an IMAGE."""
    from .. import imaging

    groups = made.groups()[:6]
    shown = [group.image(i) for group in groups for i in range(min(8, made.images_per_prompt))]
    columns = len(shown) // len(groups)
    return image_tensor([imaging.contact_sheet(shown, columns)])


def _import_groups(
    host: Host, model: Any, source: dict[str, Any], **settings: Any
) -> tuple[Any, ...]:
    from ..importing import import_groups, sources

    if source["source"] == "images of the graph":
        found = sources.from_images(source["images"], source["prompt"])
    else:
        found = _from_folder(host, source)
    config = import_groups.ImportConfig(**settings)
    made = import_groups.import_groups(host, model, found, config)
    return made.rollout, made.reward, _first_groups(made.rollout), made.summary


def _from_folder(host: Host, source: dict[str, Any]) -> Any:
    from ..importing import sources

    folders = host.model_files("pictures")
    if source["folder"] not in folders:
        raise InputError(
            "folder",
            f"{source['folder']!r} is not among the folders of pictures",
            "Put a folder with a sub-folder for each prompt into ComfyUI's input folder, press R and "
            "choose it.",
        )

    def on_picture(count: int, total: int) -> None:
        host.check_cancelled()
        if count % 16 == 0 or count == total:
            host.progress(count, total, "reading pictures")

    folder, kind = folders[source["folder"]], source["prompt_from"]
    return sources.from_folder(folder, kind, source.get("prompts") or "", on_picture)


_LATER = {
    "steps": "Of what the model draws while it trains: previews, validation, rounds. The pictures that "
    "are imported need none.",
    "guidance": "Likewise. FLUX.1-dev also trains with it: give what made the pictures, or 3.5.",
}
_SAMPLING_LATER = tuple(replace(item, tooltip=_LATER[item.name]) for item in sampling(1.0, 28))

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
    "GDRO_ImportGroups": Stage(
        _import_groups,
        "GDRO Import Groups",
        "Makes groups of pictures that were made elsewhere: from the graph, or from a folder with a "
        "sub-folder for each prompt. What is wrong with them is listed before anything is encoded.",
        (
            MODEL,
            Input(
                "source",
                "DYNAMIC",
                "Where the pictures come from.",
                choices={
                    "folder": (
                        Input(
                            "folder",
                            "COMBO",
                            "A folder in ComfyUI's input or output folder, with a sub-folder for each "
                            "prompt. Names that are numbers (1 is the best) or end in _w and _l give an "
                            "order.",
                            files="pictures",
                        ),
                        Input(
                            "prompt_from",
                            "COMBO",
                            "caption files: prompt.txt in the sub-folder, or a .txt beside each picture. "
                            "PNG metadata: the positive prompt that ComfyUI left in the files.",
                            default="caption files",
                            options=("caption files", "PNG metadata", "folder names", "typed"),
                        ),
                        Input(
                            "prompts",
                            "STRING",
                            "With typed: a prompt on each line, for the sub-folders in the order of their "
                            "names.",
                            default="",
                            optional=True,
                            multiline=True,
                        ),
                    ),
                    "images of the graph": (
                        Input(
                            "images",
                            "IMAGE",
                            "A batch is a group; a list of batches several. Batches of the same prompt "
                            "are put together.",
                            is_list=True,
                        ),
                        Input(
                            "prompt",
                            "STRING",
                            "What the images were asked to show: one for all, or a list with one for "
                            "each batch.",
                            default="",
                            multiline=True,
                            is_list=True,
                        ),
                    ),
                },
            ),
            Input(
                "images_per_prompt",
                "INT",
                "Size of every group; 0 is that of the smallest. Larger groups are cut to it, evenly "
                "through their order; smaller ones are left out.",
                default=0,
                minimum=0,
                maximum=256,
            ),
            *SIZE,
            *_SAMPLING_LATER,
            Input(
                "run_name",
                "STRING",
                "Name of the run's folder, in gdro/ below ComfyUI's output folder.",
                default="imported",
            ),
        ),
        (
            Output("rollout", "GDRO_ROLLOUT", "The groups, as a handle: images stay on disk."),
            Output(
                "reward",
                "GDRO_REWARD",
                "The order that the names of the files give: 1 for the best of a group, 0 for the last.",
            ),
            Output("preview", "IMAGE", "The first groups, one a row."),
            Output("summary", "STRING", "What was imported, and how it was made to fit."),
        ),
        output_node=True,
        preview="preview",
        aliases=("folder", "images", "dataset", "ranking", "offline"),
    ),
}
