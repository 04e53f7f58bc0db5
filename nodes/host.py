"""ComfyUI's services for the engine. With native.py the only module that imports comfy,
folder_paths or server."""

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
import comfy.sd
import comfy.utils
import folder_paths
from comfy_api.latest import ComfyAPISync
from server import PromptServer

from ..gdro_comfy.errors import InputError
from ..gdro_comfy.host import TOKENIZERS, picture_folders
from ..gdro_comfy.rewards.openai_wire import KEYS_VARIABLE
from ..gdro_comfy.viewer import runs
from . import native

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from ..gdro_comfy.models.base import FlowModel

# Kinds of the engine that are several kinds of ComfyUI's.
_FOLDERS = {"transformers": ("diffusion_models", "checkpoints")}
_PROMPT_FILES = (".txt", ".jsonl", ".csv")

_BEGINNINGS = frozenset({"rollout", "training", "evaluation"})
_PLACES = ("run", "scores", "training", "evaluation")

_complaining: set[str | None] = set()  # ids of nodes that show an error
_live: dict[tuple[object, object], list[Mapping[str, object]]] = {}  # steps of the latest trainings


def live_rows(run: str, training: str) -> list[Mapping[str, object]]:
    """The steps of a training that this process has seen; the file has them a little later."""
    return list(_live.get((run, training), ()))


def model_files(kind: str) -> dict[str, Path]:
    """Files or folders of a kind, by the name that ComfyUI shows."""
    if kind == "prompts":
        folder = Path(folder_paths.get_input_directory())
        return {p.name: p for p in folder.iterdir() if p.suffix.lower() in _PROMPT_FILES}
    if kind == "pictures":
        roots = folder_paths.get_input_directory(), folder_paths.get_output_directory()
        return picture_folders(*map(Path, roots))
    if kind == "diffusers":
        found: dict[str, Path] = {}
        for root in folder_paths.get_folder_paths("diffusers"):
            for index in Path(root).glob("*/model_index.json"):
                found.setdefault(index.parent.name, index.parent)
        return found
    if kind == "judges":
        return _judge_folders()
    found = {}
    for folder in _FOLDERS.get(kind, (kind,)):
        for name in folder_paths.get_filename_list(folder):
            path = folder_paths.get_full_path(folder, name)
            if path:
                found.setdefault(name, Path(path))
    return found


def _judge_folders() -> dict[str, Path]:
    """Folders of networks that judge pictures, where other packs keep theirs too."""
    found: dict[str, Path] = {}
    for name in ("gdro", "LLM", "VLM"):
        root = Path(folder_paths.models_dir) / name
        for folder in [*root.glob("*/"), *root.glob("*/*/")]:
            if (folder / "config.json").is_file() or any(folder.glob("*.safetensors")):
                found.setdefault(folder.relative_to(root).as_posix(), folder)
    return found


class ComfyHost:
    """The engine's Host inside ComfyUI, for one execution of one node."""

    def __init__(
        self,
        node_id: str | None,
        panel: bool = False,
        workflow: Mapping[str, Any] | None = None,
    ) -> None:
        """``panel``: the node has a panel of ours, which shows previews and results in the place of
        the canvas's own pictures. ``workflow``: the graph that was queued, as the canvas saves it."""
        self._node_id, self._panel, self._workflow = node_id, panel, workflow or {}
        self._api = ComfyAPISync()
        self.shown: dict[str, object] = {}  # the run, training, ... that the node's panel shows

    @property
    def output_dir(self) -> Path:
        return Path(folder_paths.get_output_directory())

    @property
    def lora_dir(self) -> Path:
        """The first of ComfyUI's lora folders (``models/loras`` unless the user moved it)."""
        return Path(folder_paths.get_folder_paths("loras")[0])

    def progress(
        self, value: int, total: int, stage: str = "", preview: Image.Image | None = None
    ) -> None:
        self.check_cancelled()
        if preview is not None and self._panel:
            self.emit("preview", {"picture": _data_url(preview)})
            preview = None
        self._api.execution.set_progress(
            value, max(total, 1), node_id=self._node_id, preview_image=preview,
            ignore_size_limit=True,
        )  # fmt: skip
        if stage:
            doing, _, what = stage.partition(", ")
            self.show_text(f"{doing} {value}/{total}" + (f", {what}" if what else ""))

    def show_text(self, text: str) -> None:
        """Show a text on the node, in the place of the last one."""
        if self._node_id is None:
            return
        server = PromptServer.instance
        if server.client_id is not None:
            # The canvas takes it as HTML.
            server.send_progress_text(html.escape(text, False), self._node_id, server.client_id)

    def show_error(self, error: Exception) -> None:
        """Say on the node what is wrong: the canvas's own notice says only that it failed."""
        self.show_text(str(error))
        _complaining.add(self._node_id)

    def clear_error(self) -> None:
        """Take the last run's error off the node."""
        if self._node_id in _complaining:
            _complaining.discard(self._node_id)
            self.show_text("")

    def check_cancelled(self) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()

    def emit(self, event: str, payload: Mapping[str, object]) -> None:
        """Send a message to the canvas that queued this node; what the message says of where the work
        lies is what the node's panel shows from now on."""
        place = {name: payload[name] for name in _PLACES if name in payload}
        self.shown.update(place)
        if event == "train_step":
            _remember(payload)
        if event in _BEGINNINGS and self._workflow:
            runs.keep_workflow(self.output_dir, str(payload["run"]), self._workflow)
        server = PromptServer.instance
        # Its id tells nodes of the same number in two workflows apart.
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
        """Those of the environment, and those of ComfyUI's settings (``web/settings.js``)."""
        path = Path(folder_paths.get_user_directory()) / "default" / "comfy.settings.json"
        try:
            typed = json.loads(path.read_text(encoding="utf-8")).get("GDRO.JudgeKeys", "")
        except (OSError, ValueError, AttributeError):
            typed = ""
        return f"{typed} {os.environ.get(KEYS_VARIABLE, '')}"

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


def _remember(row: Mapping[str, object]) -> None:
    key = (row.get("run"), row.get("training"))
    rows = _live.pop(key, [])
    # A training that goes on from its checkpoint takes some steps again.
    while rows and int(str(rows[-1]["step"])) >= int(str(row["step"])):
        rows.pop()
    rows.append(row)
    _live[key] = rows
    while len(_live) > 4:
        del _live[next(iter(_live))]


def _data_url(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _check_fits(model: Any, lora: Mapping[str, torch.Tensor], name: str) -> None:
    """Refuse a LoRA none of whose layers has its shape in the model: ComfyUI would only log it."""
    targets = comfy.lora.model_lora_keys_unet(model.model, {})
    weights = model.model_state_dict()
    seen: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = []
    for key in lora:
        if not key.endswith(".lora_A.weight"):
            continue
        module = key.removesuffix(".lora_A.weight")
        target = targets.get(module)
        path, offset = (target, None) if isinstance(target, str) else (target or (None, None))[:2]
        up = lora.get(f"{module}.lora_B.weight")
        if path not in weights or up is None:
            continue
        here = list(weights[path].shape)
        if offset is not None:
            here[offset[0]] = offset[2]
        there = (up.shape[0], lora[key].shape[1])
        if tuple(here) == there:
            return
        seen.append((module, there, tuple(here)))
    if seen:
        module, there, here = seen[0]
        raise InputError(
            "model",
            f"{name} was trained for another model ({module} is {there} there, {here} here)",
            "Use the model that the LoRA was trained for.",
        )
