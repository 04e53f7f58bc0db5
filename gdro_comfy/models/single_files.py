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
from .families import Family
from .files import CLIP_G, CLIP_L, LORA, T5, TRANSFORMER, VAE, ModelFile, read
from .weights import INPUTS, Source

if TYPE_CHECKING:
    from ..host import Host
    from .base import FlowModel

log = logging.getLogger(__name__)


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
    missing = [kind for kind in family.needs if kind not in sources]
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
        parts["vae"] = single_parts.vae(sources[VAE], *family.latent_scale, vae_dtype)
        guided = parts["transformer"].config.get("guidance_embeds")
        schedule = (guided and family.guided_schedule) or family.schedule
        parts["scheduler"] = FlowMatchEulerDiscreteScheduler(**schedule)
        pipeline = family.pipeline_class()(**parts)
        host.progress(3, 3, "loading")
        where = {
            "pipeline": family.pipeline,
            "transformer": fingerprints.of_file(sources[TRANSFORMER].file.path),
        }
        return family.model_class()(pipeline, where, device)


def _encoders(
    host: Host, family: Family, sources: Mapping[str, Source], dtype: torch.dtype
) -> dict[str, Any]:
    """Text encoders and tokenizers under the names of the family's pipeline."""
    found: dict[str, Any] = {}
    for name, kind in zip(family.encoder_names, family.encoders, strict=True):
        host.check_cancelled()
        encoder = tokenizer = None
        if kind in sources:
            encoder, tokenizer = _encoder(host, family, kind, sources[kind], dtype)
        found |= {f"text_encoder{name}": encoder, f"tokenizer{name}": tokenizer}
    return found


def _encoder(
    host: Host, family: Family, kind: str, source: Source, dtype: torch.dtype
) -> tuple[Any, Any]:
    """A text encoder and its tokenizer."""
    from transformers import CLIPTokenizer, PreTrainedTokenizerFast

    if kind == T5:
        tokens = PreTrainedTokenizerFast.from_pretrained(host.tokenizer_dir("t5"))
        return single_parts.t5(source, dtype), tokens
    large = kind == CLIP_G
    clip = single_parts.clip(source, dtype, large or family.clip_projected, own_projection=large)
    length = clip.config.max_position_embeddings
    tokenizer = CLIPTokenizer.from_pretrained(host.tokenizer_dir("clip"), model_max_length=length)
    if large and "!" in tokenizer.get_vocab():
        tokenizer.pad_token = "!"  # as CLIP-G was trained
    return clip, tokenizer


def _joint_width(family: Family, source: Source) -> int:
    return (source.shape(family.text_in) or source.shape("context_embedder.weight"))[1]
