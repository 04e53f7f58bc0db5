"""The layers of a LoRA file of any common tool, at their scale; all else in it is refused or named.

A layer adds ``scale * up @ down`` to a weight: ``up`` is ``[out, rank]``, ``down`` is ``[rank, in]``, and
``scale`` is ``alpha / rank``. Where a file says no alpha, and nothing beside it does, the scale is 1, as in
ComfyUI and diffusers.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from . import lora_scale
from .quotes import excerpt
from .safetensors_files import UnreadableFile, read

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

_FACTOR = re.compile(
    r"(?P<layer>.+?)(?:"
    r"\.lora_(?P<peft>[AB])(?:\.(?P<adapter>[^.]+))?\.weight"
    r"|\.lora_(?P<bare>[AB])"
    r"|(?:\.lora_|[._]lora\.|\.lora_linear_layer\.)(?P<plain>down|up)\.weight"
    r")"
)
"""The name of a factor: of peft, with its adapter's name or without, of Mochi, of kohya's and diffusers."""
_UP = ("B", "up")
_TEXT = re.compile(
    r"lora_(prior_)?te\d?_|text_encoders?(_\d)?\.|te\d?\.|clip_[lgh]\.|t5(xxl)?\.|cond_stage_model\."
    r"|conditioner\.|bundle_emb\.|(base_model\.model\.|transformer\.)?text_model\."
)
"""What the tensors for text encoders start with, trained words included."""
PREFIXES = (
    "model.diffusion_model.", "diffusion_model.", "base_model.model.", "transformer.", "unet.", "model.",
)  # fmt: skip
"""What comes before the name of a module, alone or several in a row."""
_EMBEDDING = r"clip_[lgh]|t5xxl|emb_params|string_to_param"
_OTHER_KINDS = (
    (r"\.hada_w", "a LoHa"),
    (r"\.lokr_w", "a LoKr"),
    (r"\.dora_scale|\.lora_magnitude_vector", "a DoRA"),
    (r"\.oft_|^oft_|\.oft_blocks|\.oft_R", "an OFT"),
    (r"\.boft_", "a BOFT"),
    (r"\.(a1|a2|b1|b2)\.weight$", "a GLoRA"),
    (r"\.ia3_|\.on_input$", "an IA3"),
    (r"\.lora_mid", "a LoCon with a middle layer"),
    (r"\.vera_lambda|\.lora_S\b", "a VeRA"),
    (r"\.processor\.\w+_lora\d|ip_adapter_", "a LoRA in the layout of XLabs, or an IP-Adapter"),
    (r"\.reshape_weight$|(query|key)_norm\.scale$|norm_(added_)?[qk]\.weight$",
     "a Control LoRA (Depth, Canny), which also changes shapes or norms"),
    (r"\.lora_[AB](\.\w+)?\.bias$|\.diff_b$|\.diff$|\.set_weight$|\.bias$",
     "a LoRA with changes of biases or of whole weights"),
    (rf"^({_EMBEDDING})$", "an embedding (textual inversion)"),
)  # fmt: skip
"""Names that only other kinds of adapters have, as patterns; the first that is found counts."""
_ADAPTER = re.compile(
    r"lora|hada_w|lokr_w|dora_|oft_|glora|ia3_|vera_|\.diff(_b)?$|\.alpha$|\.[ab][12]\.weight$|ip_adapter"
)
"""What at least one name in a file of adapters contains."""
_BASE_FIELDS = ("modelspec.architecture", "ss_base_model_version")


@dataclass(frozen=True, eq=False)
class LoRALayer:
    """One layer of a LoRA.

    Args:
        down, up: its factors; as convolutions they are ``[rank, in, h, w]`` and ``[out, rank, 1, 1]``.
        scale: the factor of its update.
    """

    down: Tensor
    up: Tensor
    scale: float

    @property
    def rank(self) -> int:
        """Its inner size."""
        return len(self.down)

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of its update."""
        return len(self.up), self.down.flatten(1).shape[1]

    def update(self) -> Tensor:
        """Return its update, float32 ``[out, in]``."""
        return self.scale * (self.up.float().flatten(1) @ self.down.float().flatten(1))


@dataclass(frozen=True)
class LoRA:
    """What a LoRA file holds.

    Args:
        layers: by their names in the file, without those of text encoders.
        scale_from: where the scale stands if not in the file's tensors; empty otherwise.
        base: the model it was made for, as its header or a configuration names it; empty if neither does.
    """

    layers: Mapping[str, LoRALayer]
    scale_from: str = ""
    base: str = ""


def load(path: Path, input_name: str) -> LoRA:
    """Read a LoRA file.

    Args:
        input_name: the node's input at which it was chosen, for messages.

    Raises:
        InputError: it cannot be read, is no LoRA or of another kind, or its scale cannot be told.
    """
    try:
        tensors, header = read(path)
    except UnreadableFile as error:
        raise InputError(
            input_name, f"{path.name} cannot be read ({error.found})", error.remedy
        ) from error
    return from_tensors(tensors, header.texts, path.name, input_name, path)


def from_tensors(
    tensors: Mapping[str, Tensor],
    texts: Mapping[str, str],
    name: str,
    input_name: str,
    path: Path | None = None,
) -> LoRA:
    """Return the LoRA that the tensors and the header of a file hold.

    Args:
        texts: the header.
        name: the file's, for messages.
        path: the file, for what stands beside it.

    Raises:
        InputError: as ``load``.
    """
    own = {key: tensor for key, tensor in tensors.items() if not _TEXT.match(key)}
    _check_kind(own, name, input_name)
    factors, alphas = _factors(own, name, input_name)
    if not factors:
        raise InputError(
            input_name, f"{name} is not a LoRA for an image model", "Choose a LoRA file."
        )
    for layer, pair in factors.items():
        _check_pair(layer, pair, name, input_name)
    strangers = [layer for layer in alphas if layer not in factors]
    if strangers:
        raise InputError(
            input_name,
            f"{name} has an alpha for {strangers[0]}, and its layers are incomplete: this one has no weights",
            "Download or export the LoRA again.",
        )
    if len(own) < len(tensors):
        log.warning(
            "%s: its %d tensors for text encoders are left out", name, len(tensors) - len(own)
        )
    ranks = {layer: len(pair["down"]) for layer, pair in factors.items()}
    stated, problem = _statements(texts, path)
    _refuse_kinds(stated, name, input_name)
    if problem and alphas.keys() >= ranks.keys():
        log.warning("%s: %s; the alphas of its tensors count", name, problem)
    elif problem:
        raise _unclear(name, input_name, problem)
    scales, source = _scales(ranks, alphas, stated, name, input_name)
    layers = {layer: LoRALayer(p["down"], p["up"], scales[layer]) for layer, p in factors.items()}
    if not any(layer.scale and layer.up.any() and layer.down.any() for layer in layers.values()):
        log.warning("%s changes nothing: all its updates are zero", name)
    named = texts.get("base_model_name_or_path", ""), *(statement.base for statement in stated)
    bases = [texts.get(key, "").removesuffix("/lora") for key in _BASE_FIELDS]
    bases += [base.rstrip("/").rpartition("/")[2] for base in named]
    return LoRA(layers, source, " ".join(filter(None, bases)))


def module_name(layer: str) -> str:
    """Return the name of a layer's module, without what tools put before it."""
    while prefix := next((prefix for prefix in PREFIXES if layer.startswith(prefix)), ""):
        layer = layer.removeprefix(prefix)
    return layer


def _check_kind(keys: Collection[str], name: str, input_name: str) -> None:
    """Refuse adapters of other kinds, and files of no adapter."""
    embedding = any(re.fullmatch(_EMBEDDING, key) for key in keys)
    if keys and not embedding and not any(_ADAPTER.search(key) for key in keys):
        raise InputError(
            input_name,
            f"{name} is not a LoRA: it contains {excerpt(next(iter(keys)))}, which does not belong to "
            "a plain LoRA",
            "Choose a LoRA file. A whole model is chosen as the base itself.",
        )
    for pattern, kind in _OTHER_KINDS:
        if any(re.search(pattern, key) for key in keys):
            raise InputError(
                input_name, f"{name} is {kind}, which cannot be merged here",
                "Choose a plain LoRA, or convert it to one.",
            )  # fmt: skip


def _factors(
    tensors: Mapping[str, Tensor], name: str, input_name: str
) -> tuple[dict[str, dict[str, Tensor]], dict[str, float]]:
    """Return the factors "down" and "up" of every layer, and the alphas of those that have one."""
    factors: dict[str, dict[str, Tensor]] = {}
    alphas: dict[str, float] = {}
    adapters: set[str] = set()
    for key, tensor in tensors.items():
        if key.endswith(".alpha"):
            if tensor.numel() != 1 or not tensor.float().isfinite().all():
                raise InputError(
                    input_name,
                    f"{key} in {name} is not one finite number",
                    "Export the LoRA again.",
                )
            alphas[key.removesuffix(".alpha")] = float(tensor)
            continue
        match = _FACTOR.fullmatch(key)
        if match is None:
            raise InputError(
                input_name, f"{name} contains {excerpt(key)}, which does not belong to a plain LoRA",
                "Choose a plain LoRA of this model.",
            )  # fmt: skip
        adapters.add(match["adapter"] or "")
        factor = "up" if (match["peft"] or match["bare"] or match["plain"]) in _UP else "down"
        pair = factors.setdefault(match["layer"], {})
        if factor in pair or len(adapters) > 1:
            found = " and ".join(repr(a) if a else "one without a name" for a in sorted(adapters))
            raise InputError(
                input_name,
                f"{name} holds {match['layer']} twice, or several adapters ({found})",
                "Choose a file with one LoRA.",
            )
        pair[factor] = tensor
    return factors, alphas


def _check_pair(layer: str, pair: Mapping[str, Tensor], name: str, input_name: str) -> None:
    """Refuse a layer whose factors are missing, do not fit each other or are not finite."""
    found, down, up = "", pair.get("down"), pair.get("up")
    if down is None or up is None:
        missing = "down (A)" if down is None else "up (B)"
        found = f"its layers are incomplete: {layer} has no {missing}"
    elif not (down.is_floating_point() and up.is_floating_point()):
        found = f"{layer} is stored as {down.dtype}, not as floating-point numbers"
    elif down.ndim < 2 or up.ndim < 2:
        found = f"{layer} is not a pair of matrices"
    elif not len(down) or not up.shape[1]:
        found = f"{layer} has rank 0"
    elif up.flatten(1).shape[1] != len(down):
        found = f"the factors of {layer} have the ranks {len(down)} and {up.flatten(1).shape[1]}"
    elif not (down.float().isfinite().all() and up.float().isfinite().all()):
        found = f"{layer} has values that are not finite numbers (NaN), as a training that failed leaves them"
    if found:
        raise InputError(
            input_name,
            f"{name} cannot be used: {found}",
            "Choose another file, or export it again.",
        )


def _statements(
    texts: Mapping[str, str], path: Path | None
) -> tuple[list[lora_scale.Statement], str]:
    """Return what is said of the scale beside the tensors, and why it cannot be understood, if so."""
    try:
        return lora_scale.statements(texts, path), ""
    except ValueError as error:
        return [], str(error)


def _scales(
    ranks: Mapping[str, int],
    alphas: Mapping[str, float],
    stated: Sequence[lora_scale.Statement],
    name: str,
    input_name: str,
) -> tuple[dict[str, float], str]:
    """Return the scale of every layer, and where it stands if not in the file's tensors."""
    scales = {layer: alphas[layer] / rank for layer, rank in ranks.items() if layer in alphas}
    sources: dict[str, str] = {}
    for layer, rank in ranks.items():
        for statement in stated:
            try:
                scale = statement.scale(module_name(layer), rank)
            except ValueError as error:
                if layer in alphas:
                    continue
                raise _unclear(name, input_name, str(error)) from error
            if scale is None:
                continue
            known = scales.setdefault(layer, scale)
            if layer not in alphas and known == scale:
                sources.setdefault(layer, statement.source)
            elif not math.isclose(known, scale, rel_tol=1e-3):
                found = (
                    f"{statement.source} gives {layer} the scale {scale:g}, "
                    f"{sources.get(layer, 'its own alpha')} gives {known:g}"
                )
                if layer not in alphas:
                    raise _unclear(name, input_name, found)
                if not sources.get(""):
                    sources[""] = "warned"
                    log.warning("%s: %s, which counts", name, found)
    sources.pop("", None)
    assumed = [layer for layer in ranks if layer not in scales]
    if assumed:
        log.warning(
            "%s: no alpha in the file, in its header or in an %s beside it; scale 1 is assumed for "
            "%d of its %d layers",
            name, lora_scale.CONFIG, len(assumed), len(ranks),
        )  # fmt: skip
    source = ""
    if sources:
        values = ", ".join(f"{scale:g}" for scale in sorted({scales[layer] for layer in sources}))
        source = f"scale {values} from {' and '.join(sorted(set(sources.values())))}"
        log.info("%s: %s", name, source)
    return {layer: scales.get(layer, 1.0) for layer in ranks}, source


def _unclear(name: str, input_name: str, reason: str) -> InputError:
    return InputError(
        input_name, f"the scale of {name} is unclear: {reason}",
        "Export the LoRA again with an alpha for every layer, or correct the configuration.",
    )  # fmt: skip


def _refuse_kinds(stated: Iterable[lora_scale.Statement], name: str, input_name: str) -> None:
    for statement in stated:
        if statement.kind:
            raise InputError(
                input_name,
                f"{name} is {statement.kind}, as {statement.source} says, and cannot be merged here",
                "Choose a plain LoRA, or convert it to one.",
            )
