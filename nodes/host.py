"""ComfyUI's services for the engine: folders, progress, messages to the canvas, device and models."""

from __future__ import annotations

import base64
import html
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import comfy.lora
import comfy.model_management
import comfy.samplers
import comfy.sd
import comfy.utils
import folder_paths
from comfy_api.latest import ComfyAPISync
from server import PromptServer

from ..gdro_comfy.errors import InputError
from ..gdro_comfy.host import TOKENIZERS, picture_folders
from ..gdro_comfy.rewards.openai_wire import KEYS_VARIABLE
from ..gdro_comfy.stages import shared
from ..gdro_comfy.viewer import runs
from . import native
from .wires.model import NativeFlowModel

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from ..gdro_comfy.models.base import FlowModel

shared.SAMPLERS[:] = comfy.samplers.KSampler.SAMPLERS
shared.SCHEDULERS[:] = comfy.samplers.KSampler.SCHEDULERS

# Kinds of files for which ComfyUI has several.
_FOLDERS = {"transformers": ("diffusion_models", "checkpoints")}
_PROMPT_FILES = (".txt", ".jsonl", ".csv")

_START_EVENTS = frozenset({"rollout", "training", "evaluation"})
_LOCATION_KEYS = ("run", "scores", "training", "evaluation", "other", "other_scores")

_nodes_with_error: set[str | None] = set()
_live_rows: dict[tuple[object, object], list[Mapping[str, Any]]] = {}
_working: list[ComfyHost] = []


def locations_at_work() -> list[dict[str, object]]:
    """Return the run, training and evaluation of each node that is at work in this process."""
    return [host.location for host in _working if host.location]


def live_rows(run: str, training: str) -> list[Mapping[str, Any]]:
    """Return the steps of a training in this process, some of which are not in its file yet."""
    return list(_live_rows.get((run, training), ()))


def model_files(kind: str) -> dict[str, Path]:
    """Return the files or folders of a kind by the name that ComfyUI shows."""
    if kind == "prompts":
        folder = Path(folder_paths.get_input_directory())
        return {p.name: p for p in folder.iterdir() if p.suffix.lower() in _PROMPT_FILES}
    if kind == "pictures":
        roots = folder_paths.get_input_directory(), folder_paths.get_output_directory()
        return picture_folders(*map(Path, roots))
    if kind == "diffusers":
        folders: dict[str, Path] = {}
        for root in folder_paths.get_folder_paths("diffusers"):
            for index_file in Path(root).glob("*/model_index.json"):
                folders.setdefault(index_file.parent.name, index_file.parent)
        return folders
    if kind == "judges":
        return _judge_folders()
    files: dict[str, Path] = {}
    for folder in _FOLDERS.get(kind, (kind,)):
        for name in folder_paths.get_filename_list(folder):
            path = folder_paths.get_full_path(folder, name)
            if path:
                files.setdefault(name, Path(path))
    return files


def _judge_folders() -> dict[str, Path]:
    """Return the folders of networks that judge images, including those that other packs use."""
    folders: dict[str, Path] = {}
    for name in ("gdro", "LLM", "VLM"):
        root = Path(folder_paths.models_dir) / name
        for folder in [*root.glob("*/"), *root.glob("*/*/")]:
            if (folder / "config.json").is_file() or any(folder.glob("*.safetensors")):
                folders.setdefault(folder.relative_to(root).as_posix(), folder)
    return folders


class ComfyHost:
    """The engine's Host inside ComfyUI, for one execution of one node.

    Args:
        node_id: the node's id in the graph.
        has_panel: whether the node has a panel of ours, which replaces the canvas's own previews.
        workflow: the queued graph, as the canvas saves it.

    ``location`` has the names of the run, scores, training and evaluation that the panel shows.
    """

    def __init__(
        self,
        node_id: str | None,
        has_panel: bool = False,
        workflow: Mapping[str, Any] | None = None,
    ) -> None:
        self._node_id, self._has_panel, self._workflow = node_id, has_panel, workflow or {}
        self._api = ComfyAPISync()
        self.location: dict[str, object] = {}

    def __enter__(self) -> ComfyHost:
        _working.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _working.remove(self)

    @property
    def output_dir(self) -> Path:
        return Path(folder_paths.get_output_directory())

    @property
    def lora_dir(self) -> Path:
        """The first of ComfyUI's lora folders, ``models/loras`` unless the user moved it."""
        return Path(folder_paths.get_folder_paths("loras")[0])

    def progress(
        self, value: int, total: int, stage: str = "", preview: Image.Image | None = None
    ) -> None:
        self.check_cancelled()
        if preview is not None and self._has_panel:
            self.emit("preview", {"picture": _data_url(preview)})
            preview = None
        elif self._has_panel:
            self.emit("progress", {"value": value, "total": total})
        self._api.execution.set_progress(
            value, max(total, 1), node_id=self._node_id, preview_image=preview,
            ignore_size_limit=True,
        )  # fmt: skip
        if stage:
            activity, _, detail = stage.partition(", ")
            self.show_text(f"{activity} {value}/{total}" + (f", {detail}" if detail else ""))

    def show_text(self, text: str) -> None:
        """Show a text on the node, replacing the last one."""
        if self._node_id is None:
            return
        server = PromptServer.instance
        if server.client_id is not None:
            # The canvas renders the text as HTML.
            server.send_progress_text(html.escape(text, False), self._node_id, server.client_id)

    def show_error(self, error: Exception) -> None:
        """Show the message on the node: the canvas's own notice says only that the node failed."""
        self.show_text(str(error))
        _nodes_with_error.add(self._node_id)

    def clear_error(self) -> None:
        """Remove the error of the last execution from the node."""
        if self._node_id in _nodes_with_error:
            _nodes_with_error.discard(self._node_id)
            self.show_text("")

    def check_cancelled(self) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()

    def emit(self, event: str, payload: Mapping[str, object]) -> None:
        """Send a message to the canvas that queued this node, and take the location from it."""
        self.location.update({key: payload[key] for key in _LOCATION_KEYS if key in payload})
        if event == "train_step":
            _record_step(payload)
        if event in _START_EVENTS and self._workflow:
            runs.save_workflow(self.output_dir, str(payload["run"]), self._workflow)
        server = PromptServer.instance
        # Two workflows may use the same node id; the id of the workflow tells them apart.
        workflow = self._workflow.get("id")
        message = {
            **payload,
            "node": self._node_id,
            "workflow": workflow if isinstance(workflow, str) else None,
        }
        server.send_sync(f"gdro.{event}", message, server.client_id)

    def model_files(self, kind: str) -> dict[str, Path]:
        return model_files(kind)

    def model_dir(self, kind: str) -> Path:
        return Path(folder_paths.get_folder_paths(kind)[0])

    def tokenizer_dir(self, kind: str) -> Path:
        return Path(comfy.__path__[0]).parent / TOKENIZERS[kind]

    def judge_keys(self) -> str:
        """The keys in ComfyUI's settings (``web/settings.js``) and in the environment."""
        path = Path(folder_paths.get_user_directory()) / "default" / "comfy.settings.json"
        try:
            setting = json.loads(path.read_text(encoding="utf-8")).get("GDRO.JudgeKeys", "")
        except (OSError, ValueError, AttributeError):
            setting = ""
        return f"{setting} {os.environ.get(KEYS_VARIABLE, '')}"

    def device(self) -> torch.device:
        return comfy.model_management.get_torch_device()

    def free_memory(self) -> None:
        comfy.model_management.unload_all_models()
        comfy.model_management.soft_empty_cache()

    def patch_model(self, model: Any, lora_file: Path, strength: float) -> Any:
        lora = comfy.utils.load_torch_file(str(lora_file), safe_load=True)
        _check_fits(model, lora, lora_file.name)
        patched, _ = comfy.sd.load_lora_for_models(model, None, lora, strength, 0)
        if strength and not patched.patches:
            raise InputError(
                "model",
                f"none of the layers in {lora_file.name} exists in this model",
                "Use the model that the LoRA was trained for.",
            )
        return patched

    def native_model(self, model: FlowModel) -> tuple[Any, Any, Any]:
        return native.parts(model)

    def wire_model(self, model: Any, clip: Any, vae: Any) -> FlowModel:
        return NativeFlowModel(model, clip, vae)


def _record_step(row: Mapping[str, object]) -> None:
    """Keep a training step for ``live_rows``; steps of the latest four trainings are kept."""
    key = (row.get("run"), row.get("training"))
    rows = _live_rows.pop(key, [])
    # A training that resumes from its checkpoint repeats some steps.
    while rows and int(str(rows[-1]["step"])) >= int(str(row["step"])):
        rows.pop()
    rows.append(row)
    _live_rows[key] = rows
    while len(_live_rows) > 4:
        del _live_rows[next(iter(_live_rows))]


def _data_url(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _check_fits(model: Any, lora: Mapping[str, torch.Tensor], name: str) -> None:
    """Refuse a LoRA if no layer has the model's shape, which ComfyUI would only log."""
    targets = comfy.lora.model_lora_keys_unet(model.model, {})
    weights = model.model_state_dict()
    mismatches: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = []
    for key in lora:
        if not key.endswith(".lora_A.weight"):
            continue
        module = key.removesuffix(".lora_A.weight")
        target = targets.get(module)
        path, offset = (target, None) if isinstance(target, str) else (target or (None, None))[:2]
        up = lora.get(f"{module}.lora_B.weight")
        if path not in weights or up is None:
            continue
        model_shape = list(weights[path].shape)
        if offset is not None:
            model_shape[offset[0]] = offset[2]
        lora_shape = (up.shape[0], lora[key].shape[1])
        if tuple(model_shape) == lora_shape:
            return
        mismatches.append((module, lora_shape, tuple(model_shape)))
    if mismatches:
        module, lora_shape, model_shape = mismatches[0]
        raise InputError(
            "model",
            f"{name} was trained for another model ({module} has the shape {lora_shape} in the LoRA, "
            f"{model_shape} in the model)",
            "Use the model that the LoRA was trained for.",
        )
