"""A model from ComfyUI's single files: transformer, text encoders and VAE, or an all-in-one checkpoint.

Every choice is looked at by its header before any weight is read. Configurations come from the shapes
and from the facts below, tokenizers from the surroundings: nothing is downloaded.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..errors import InputError
from . import fingerprints, single_parts
from .families import FLUX, SD3, Family
from .files import CLIP_G, CLIP_L, LORA, T5, TRANSFORMER, VAE, ModelFile, read
from .weights import INPUTS, Source

if TYPE_CHECKING:
    from ..host import Host
    from .base import FlowModel

log = logging.getLogger(__name__)

_NEEDS = {SD3.key: (TRANSFORMER, CLIP_L, CLIP_G, VAE), FLUX.key: (TRANSFORMER, CLIP_L, T5, VAE)}
# The latent scale, which no file holds.
_LATENTS = {SD3.key: (1.5305, 0.0609), FLUX.key: (0.3611, 0.1159)}


def choose(chosen: Mapping[str, Path]) -> tuple[Family, dict[str, Source]]:
    """What each file is, and which part comes from where.

    Args:
        chosen: files by input ("transformer", "clip_l", "clip_g", "t5", "vae"); a checkpoint at
            "transformer" gives what is not chosen beside it.

    Raises:
        InputError: a file is not what its input wants, or a part is missing.
    """
    files = {name: read(path, name) for name, path in chosen.items()}
    for kind, name in INPUTS.items():
        if name in files and files[name].part(kind) is None:
            raise _wrong(files[name], kind)
    main = files["transformer"]
    transformer = main.part(TRANSFORMER)
    assert transformer is not None
    family = transformer.family
    assert family is not None
    sources: dict[str, Source] = {}
    for kind, name in INPUTS.items():
        file = files.get(name, main)
        part = file.part(kind)
        if part is not None:
            sources[kind] = Source(file, part)
    missing = [kind for kind in _NEEDS[family.key] if kind not in sources]
    if missing:
        raise InputError(
            ", ".join(INPUTS[kind] for kind in missing),
            f"{family.title} needs {'one' if len(missing) == 1 else 'them'}, and {main.path.name} has none",
            f"Choose {'; '.join(_WANTED[kind] for kind in missing)}.",
        )
    wanted = _joint_width(family, sources[TRANSFORMER])
    if T5 in sources and (found := sources[T5].shape("shared.weight")[1]) != wanted:
        raise InputError(
            "t5", f"it is {found} wide, the transformer reads {wanted}", "Choose T5-XXL."
        )
    return family, sources


def networks(files: Mapping[str, Path]) -> list[str]:
    """Names of the files that hold a transformer of a known family, told by their headers."""
    found = []
    for name, path in files.items():
        try:
            if read(path, "transformer").part(TRANSFORMER) is not None:
                found.append(name)
        except InputError:
            continue
    return found


_WANTED = {
    TRANSFORMER: "a transformer or checkpoint of SD3, SD3.5 or FLUX.1",
    CLIP_L: "clip_l.safetensors",
    CLIP_G: "clip_g.safetensors",
    T5: "t5xxl_fp16.safetensors or t5xxl_fp8_e4m3fn.safetensors",
    VAE: "the family's VAE (ae.safetensors for FLUX.1)",
}


def _wrong(file: ModelFile, kind: str) -> InputError:
    belongs = ""
    if file.kind in INPUTS:
        belongs = f" Choose this file at {INPUTS[file.kind]}."
    elif file.kind == LORA:
        belongs = " A LoRA goes on top of a model."
    return InputError(
        INPUTS[kind],
        f"{file.path.name} is {file.describe()}",
        f"This input wants {_WANTED[kind]}.{belongs}",
    )


def load(
    host: Host, chosen: Mapping[str, Path], device: torch.device, dtype: torch.dtype
) -> FlowModel:
    """Load the chosen files as a FlowModel on the CPU, in ``dtype`` whatever the files' own is."""
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
        FlowMatchEulerDiscreteScheduler,
    )

    family, sources = choose(chosen)
    with torch.inference_mode(False), torch.no_grad():
        host.check_cancelled()
        parts: dict[str, Any] = {
            "transformer": single_parts.transformer(family, sources[TRANSFORMER], dtype)
        }
        host.progress(1, 3, "loading")
        host.check_cancelled()
        parts |= _encoders(host, family, sources, dtype)
        host.progress(2, 3, "loading")
        host.check_cancelled()
        # float16 is too narrow for these VAEs.
        vae_dtype = torch.float32 if dtype == torch.float16 else dtype
        parts["vae"] = single_parts.vae(sources[VAE], *_LATENTS[family.key], vae_dtype)
        facts = _schedule(family, parts["transformer"].config)
        parts["scheduler"] = FlowMatchEulerDiscreteScheduler(**facts)
        pipeline = family.pipeline_class()(**parts)
        host.progress(3, 3, "loading")
        where = {
            "pipeline": family.pipeline,
            "transformer": fingerprints.of_file(sources[TRANSFORMER].file.path),
        }
        return family.model_class()(pipeline, where, device)


def _schedule(family: Family, config: Any) -> dict[str, Any]:
    if family is FLUX and config.guidance_embeds:
        return {"shift": 3.0, "use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15}
    return {"shift": 1.0 if family is FLUX else 3.0}


def _encoders(
    host: Host, family: Family, sources: Mapping[str, Source], dtype: torch.dtype
) -> dict[str, Any]:
    """Text encoders and tokenizers under the names of the family's pipeline."""
    from transformers import CLIPTokenizer, PreTrainedTokenizerFast

    folder = host.tokenizer_dir("clip")
    projected = family is SD3
    clip = single_parts.clip(sources[CLIP_L], dtype, projected, own_projection=False)
    length = clip.config.max_position_embeddings
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=length)
    found: dict[str, Any] = {"text_encoder": clip, "tokenizer": tokenizer}
    t5 = tokens = None
    if T5 in sources:
        host.check_cancelled()
        t5 = single_parts.t5(sources[T5], dtype)
        tokens = PreTrainedTokenizerFast.from_pretrained(host.tokenizer_dir("t5"))
    if family is FLUX:
        return {**found, "text_encoder_2": t5, "tokenizer_2": tokens}
    other = CLIPTokenizer.from_pretrained(folder, model_max_length=length)
    if "!" in other.get_vocab():
        other.pad_token = "!"  # as CLIP-G was trained
    return {
        **found,
        "text_encoder_2": single_parts.clip(sources[CLIP_G], dtype, True, own_projection=True),
        "tokenizer_2": other,
        "text_encoder_3": t5,
        "tokenizer_3": tokens,
    }


def _joint_width(family: Family, source: Source) -> int:
    original = "txt_in.weight" if family is FLUX else "context_embedder.weight"
    return (source.shape(original) or source.shape("context_embedder.weight"))[1]
