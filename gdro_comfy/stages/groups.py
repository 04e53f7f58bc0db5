"""Stages that make groups of images: prompts, rollout and import."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..data.runs import check_name
from ..errors import InputError
from ..imaging import contact_sheet, image_tensor
from .base import Input, Output, Stage
from .before_work import Planned, check_setting
from .shared import MODEL, SAMPLER, SAMPLING, SEED, SIZE, sampler_choice
from .sizes import check_size

if TYPE_CHECKING:
    from pathlib import Path

    from ..host import Host


def _prompt_set(host: Host, source: dict[str, Any], limit: int) -> tuple[Any]:
    from ..data import prompts

    kind = source["source"]
    if kind == "shipped set":
        selection = prompts.shipped(source["set"])
        return (selection.limit(limit) if limit else selection,)
    if kind == "text":
        selection = prompts.from_text(source["text"], limit=limit)
    else:
        files = host.model_files("prompts")
        if source.get("file") not in files:
            raise InputError(
                "file",
                f"{source.get('file')!r} is not among the prompt files",
                "Put a .txt, .jsonl or .csv file into ComfyUI's input folder, press R and choose it.",
            )
        selection = prompts.from_file(files[source["file"]], limit)
    return (selection,)


def _group_rollout(
    host: Host, model: Any, prompts: Any, aligned: Any = None, **settings: Any
) -> tuple[Any, Any]:
    from ..rollouts import sample

    sampler = sampler_choice(settings)
    config = sample.RolloutConfig(**settings, sampler=sampler)
    rollout = sample.sample_rollout(host, model, prompts, config, aligned)
    return rollout, _preview(rollout)


def _preview(rollout: Any) -> Any:
    """Lay out the first 8 images of the first 6 groups as an IMAGE, a row for each group."""
    columns = min(8, rollout.images_per_prompt)
    images = [group.image(index) for group in rollout.groups()[:6] for index in range(columns)]
    return image_tensor([contact_sheet(images, columns)])


def _import_groups(
    host: Host, model: Any, source: dict[str, Any], **settings: Any
) -> tuple[Any, ...]:
    from ..importing import import_groups, sources

    if source["source"] == "images of the graph":
        groups = sources.from_images(source["images"], source["prompt"])
    else:
        groups = _read_folder(host, source)
    config = import_groups.ImportConfig(**settings)
    imported = import_groups.import_groups(host, model, groups, config)
    return imported.rollout, imported.reward, _preview(imported.rollout), imported.summary


def _read_folder(host: Host, source: dict[str, Any]) -> Any:
    from ..importing import sources

    def on_image(count: int, total: int) -> None:
        host.check_cancelled()
        if count % 16 == 0 or count == total:
            host.progress(count, total, "reading pictures")

    kind = source["prompt_from"]
    folder = _folder(host.model_files("pictures"), source)
    return sources.from_folder(folder, kind, source.get("prompts") or "", on_image)


def _check_import(node: Planned) -> None:
    source = node.values["source"]
    if isinstance(source, dict) and isinstance(source.get("folder"), str):
        _folder(node.machine.model_files("pictures"), source)
    _check_groups(node)


def _check_groups(node: Planned) -> None:
    if isinstance(node.values["run_name"], str):
        check_name(node.values["run_name"])
    check_size(node)


def _folder(folders: dict[str, Path], source: dict[str, Any]) -> Path:
    """Return the folder of pictures that is chosen."""
    if source["folder"] not in folders:
        raise InputError(
            "folder",
            f"{source['folder']!r} is not among the folders of pictures",
            "Put a folder with a sub-folder for each prompt into ComfyUI's input folder, press R and "
            "choose it.",
        )
    return folders[source["folder"]]


_IMPORT_TOOLTIPS = {
    "steps": (
        "For what the model generates during training: previews, validation, rounds. The "
        "imported pictures need none."
    ),
    "guidance": (
        "As for the steps. FLUX.1-dev is also trained with it: use the value that made "
        "the pictures, or 0 for its own, 3.5."
    ),
}
_IMPORT_SAMPLING = tuple(replace(item, tooltip=_IMPORT_TOOLTIPS[item.name]) for item in SAMPLING)

PROMPT_SET = Stage(
    run=_prompt_set,
    check=check_setting,
    settings_only=True,
    display_name="GDRO Prompt Set",
    category="groups",
    description="The prompts to train or to evaluate on. Use different prompts for the two.",
    inputs=(
        Input(
            "source",
            "DYNAMICCOMBO",
            "Where the prompts come from.",
            choices={
                "shipped set": (
                    Input(
                        "set",
                        "COMBO",
                        "shapes and words: for the bundled model, with the composition and OCR "
                        "rewards. signs: OCR with large models. things: composition with a "
                        "detector. Evaluate on the held-out sets.",
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
                        "One prompt per line. Lines that start with # are ignored.",
                        default="",
                        multiline=True,
                    ),
                ),
                "file": (
                    Input(
                        "file",
                        "COMBO",
                        "A .txt (one prompt per line), .jsonl or .csv file in ComfyUI's input "
                        "folder.",
                        files="prompts",
                    ),
                ),
            },
        ),
        Input(
            "limit",
            "INT",
            "Use this many prompts, always the same random selection; 0 uses all.",
            default=0,
            min=0,
            max=100000,
        ),
    ),
    outputs=(Output("prompts", "GDRO_PROMPTS", "The prompts."),),
)

GROUP_ROLLOUT = Stage(
    run=_group_rollout,
    check=_check_groups,
    display_name="GDRO Group Rollout",
    category="groups",
    description=(
        "Generates a group of images for each prompt and keeps them on disk. Running again "
        "generates only what is missing; more images or prompts are added to the run."
    ),
    inputs=(
        MODEL,
        Input("prompts", "GDRO_PROMPTS", "From GDRO Prompt Set."),
        Input(
            "images_per_prompt",
            "INT",
            "Images per group. In a small group, hardly any image is much better than the rest; "
            "the paper uses 16.",
            default=16,
            min=2,
            max=256,
        ),
        *SAMPLING,
        *SIZE,
        SEED,
        Input(
            "run_name",
            "STRING",
            "Name of the run's folder, below gdro/ in ComfyUI's output folder.",
            default="run",
        ),
        Input(
            "aligned",
            "GDRO_ALIGNED",
            "Generates with this LoRA: to see what it has learned, to rate its images, or to "
            "continue training on them.",
            optional=True,
        ),
        *SAMPLER,
    ),
    outputs=(
        Output("rollout", "GDRO_ROLLOUT", "A handle on the groups; the images stay on disk."),
        Output("preview", "IMAGE", "The first groups, one per row."),
    ),
    is_output_node=True,
    preview="preview",
    search_aliases=("sample", "groups", "generate"),
)

IMPORT_GROUPS = Stage(
    run=_import_groups,
    check=_check_import,
    display_name="GDRO Import Groups",
    category="groups",
    description=(
        "Makes groups from existing pictures: from the graph, or from a folder with a sub-folder "
        "for each prompt. All problems are listed before anything is encoded."
    ),
    inputs=(
        MODEL,
        Input(
            "source",
            "DYNAMICCOMBO",
            "Where the pictures come from.",
            choices={
                "folder": (
                    Input(
                        "folder",
                        "COMBO",
                        "A folder in ComfyUI's input or output folder, with a sub-folder for each "
                        "prompt. File names that are numbers (1 is the best) or end in _w and _l "
                        "give an order.",
                        files="pictures",
                    ),
                    Input(
                        "prompt_from",
                        "COMBO",
                        "caption files: prompt.txt in the sub-folder, or a .txt next to each "
                        "picture. PNG metadata: the positive prompt that ComfyUI saved in the "
                        "files.",
                        default="caption files",
                        options=("caption files", "PNG metadata", "folder names", "typed"),
                    ),
                    Input(
                        "prompts",
                        "STRING",
                        "For typed: one prompt per line, for the sub-folders in the order of "
                        "their names.",
                        default="",
                        optional=True,
                        multiline=True,
                    ),
                ),
                "images of the graph": (
                    Input(
                        "images",
                        "IMAGE",
                        "A batch is a group; a list of batches is several groups. Batches with "
                        "the same prompt are merged.",
                        is_list=True,
                    ),
                    Input(
                        "prompt",
                        "STRING",
                        "What the images should show: one prompt for all, or a list with one per "
                        "batch.",
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
            "Size of every group; 0 uses that of the smallest. Larger groups are cut evenly "
            "through their order; smaller ones are left out.",
            default=0,
            min=0,
            max=256,
        ),
        *SIZE,
        *_IMPORT_SAMPLING,
        Input(
            "run_name",
            "STRING",
            "Name of the run's folder, below gdro/ in ComfyUI's output folder.",
            default="imported",
        ),
    ),
    outputs=(
        Output("rollout", "GDRO_ROLLOUT", "A handle on the groups; the images stay on disk."),
        Output(
            "reward",
            "GDRO_REWARD",
            "The order that the file names give: 1 for the best of a group, 0 for the last.",
        ),
        Output("preview", "IMAGE", "The first groups, one per row."),
        Output("summary", "STRING", "What was imported, and how it was made to fit."),
    ),
    is_output_node=True,
    preview="preview",
    search_aliases=("folder", "images", "dataset", "ranking", "offline"),
)
