"""A model from ComfyUI's single files: transformer, text encoders and VAE, or an all-in-one checkpoint.

All files are checked by their headers before any weight is read. Configurations come from shapes and from
``families.py``, tokenizers from the host: nothing is downloaded.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..errors import InputError
from . import fingerprints, single_parts
from .families import CLIP_G, CLIP_L, T5, TRANSFORMER, VAE, Family
from .files import ModelFile, read
from .loading import flow_model
from .recognition import LORA
from .weights import INPUTS, Source, check_quantization, checked

if TYPE_CHECKING:
    from ..host import Host
    from .base import FlowModel

log = logging.getLogger(__name__)


def choose(chosen: Mapping[str, Path]) -> tuple[Family, dict[str, Source]]:
    """Recognise the files, and choose the file that each part comes from.

    Args:
        chosen: files by input ("transformer", "clip_l", "clip_g", "t5", "vae"). A checkpoint at
            "transformer" also provides the parts for which no other file is chosen.

    Returns:
        The family, and the source of each kind of part.

    Raises:
        InputError: a file is not what its input is for, or a part is missing.
    """
    files = {name: read(path, name) for name, path in chosen.items()}
    for kind, name in INPUTS.items():
        if name in files and files[name].part(kind) is None:
            raise _wrong_input(files[name], kind)
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
    missing = [kind for kind in family.required if kind not in sources]
    if missing:
        raise InputError(
            ", ".join(INPUTS[kind] for kind in missing),
            f"{family.title} needs {'one' if len(missing) == 1 else 'them'}, and {main.path.name} has none",
            f"Choose {'; '.join(_EXPECTED[kind] for kind in missing)}.",
        )
    for source in sources.values():
        check_quantization(source)
    if T5 in sources:
        with checked(sources[T5]):
            width = single_parts.t5_words(sources[T5])[1]
        with checked(sources[TRANSFORMER]):
            expected = _text_width(family, sources[TRANSFORMER])
        if width != expected:
            raise InputError(
                "t5",
                f"its embeddings have width {width}, the transformer reads {expected}",
                "Choose T5-XXL.",
            )
    return family, sources


def networks(files: Mapping[str, Path]) -> list[str]:
    """Return the names of those files that contain a transformer of a known family."""
    names = []
    for name, path in files.items():
        try:
            if read(path, "transformer").part(TRANSFORMER) is not None:
                names.append(name)
        except InputError:
            continue
    return names


_EXPECTED = {
    TRANSFORMER: "a transformer or checkpoint of SD3, SD3.5 or FLUX.1",
    CLIP_L: "clip_l.safetensors",
    CLIP_G: "clip_g.safetensors",
    T5: "t5xxl_fp16.safetensors or t5xxl_fp8_e4m3fn.safetensors",
    VAE: "the family's VAE (ae.safetensors for FLUX.1)",
}
"""What to choose for each kind of part."""


def _wrong_input(file: ModelFile, kind: str) -> InputError:
    """Return the error for a file that was chosen at the input for another kind of part."""
    advice = ""
    if file.kind in INPUTS:
        advice = f" Choose this file at {INPUTS[file.kind]}."
    elif file.kind == LORA:
        advice = " A LoRA goes on top of a model."
    elif "quantized" in file.title:
        advice = " Choose the file in fp16, bf16 or fp8, and quantization on this node."
    elif file.sharded:
        advice = " Put the whole folder into models/diffusers, and choose it as a diffusers folder."
    return InputError(
        INPUTS[kind],
        f"{file.path.name} is {file.describe()}",
        f"This input wants {_EXPECTED[kind]}.{advice}",
    )


def load(
    host: Host,
    chosen: Mapping[str, Path],
    device: torch.device,
    dtype: torch.dtype,
    changes: bool = False,
) -> FlowModel:
    """Load the chosen files as a ``FlowModel``.

    Args:
        chosen: as for ``choose``.
        device: where to compute; the weights stay on the CPU until the model is active.
        dtype: that the model computes in, whatever the dtype of the files.
        changes: whether ``FlowModel.prepare`` will merge LoRAs or quantize: see ``single_parts.transformer``.

    Raises:
        InputError: as ``choose``, or a file's weights are not those of the release.
    """
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
        FlowMatchEulerDiscreteScheduler,
    )

    family, sources = choose(chosen)
    readable = single_parts.readable_on(device)
    with torch.inference_mode(False), torch.no_grad():
        host.check_cancelled()
        with checked(sources[TRANSFORMER]):
            network = single_parts.transformer(
                family, sources[TRANSFORMER], dtype, readable, changes
            )
        parts: dict[str, Any] = {"transformer": network}
        host.progress(1, 3, "loading")
        host.check_cancelled()
        parts |= _encoders(host, family, sources, dtype, readable)
        host.progress(2, 3, "loading")
        host.check_cancelled()
        # The range of float16 is too narrow for these VAEs.
        vae_dtype = torch.float32 if dtype == torch.float16 else dtype
        with checked(sources[VAE]):
            parts["vae"] = single_parts.vae(sources[VAE], *family.latent_scale, vae_dtype)
        guided = parts["transformer"].config.get("guidance_embeds")
        if family.guided_schedule and not guided:
            log.warning(
                "%s does not read a guidance scale: it is taken for FLUX.1-schnell, with its noise "
                "levels. For a de-distilled FLUX.1-dev these would be wrong",
                sources[TRANSFORMER].file.path.name,
            )
        schedule = (guided and family.guided_schedule) or family.schedule
        parts["scheduler"] = FlowMatchEulerDiscreteScheduler(**schedule)
        pipeline = family.pipeline_class()(**parts)
        host.progress(3, 3, "loading")
        identity = {
            "pipeline": family.pipeline,
            "transformer": fingerprints.of_file(sources[TRANSFORMER].file.path),
            "dtype": str(dtype).removeprefix("torch."),
            "quantization": "none",
            "text_encoders": {
                kind: fingerprints.of_file(source.file.path)
                for kind, source in sources.items()
                if kind not in (TRANSFORMER, VAE)
            },
            "vae": fingerprints.of_file(sources[VAE].file.path),
        }
        return flow_model(family, pipeline, identity, device)


def _encoders(
    host: Host,
    family: Family,
    sources: Mapping[str, Source],
    dtype: torch.dtype,
    readable: single_parts.Keep,
) -> dict[str, Any]:
    """Load text encoders and tokenizers; return them under the names of the family's pipeline."""
    components: dict[str, Any] = {}
    for suffix, kind in zip(family.encoder_suffixes, family.encoders, strict=True):
        host.check_cancelled()
        encoder = tokenizer = None
        if kind in sources:
            with checked(sources[kind]):
                encoder, tokenizer = _encoder(host, family, kind, sources[kind], dtype, readable)
        components |= {f"text_encoder{suffix}": encoder, f"tokenizer{suffix}": tokenizer}
    return components


def _encoder(
    host: Host,
    family: Family,
    kind: str,
    source: Source,
    dtype: torch.dtype,
    readable: single_parts.Keep,
) -> tuple[Any, Any]:
    """Load a text encoder and its tokenizer."""
    from transformers import CLIPTokenizer, PreTrainedTokenizerFast

    if kind == T5:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(host.tokenizer_dir("t5"))
        return single_parts.t5(source, dtype, readable), tokenizer
    large = kind == CLIP_G
    projected = large or family.clip_projected
    clip = single_parts.clip(source, dtype, readable, projected, own_projection=large)
    length = clip.config.max_position_embeddings
    tokenizer = CLIPTokenizer.from_pretrained(host.tokenizer_dir("clip"), model_max_length=length)
    if large and "!" in tokenizer.get_vocab():
        tokenizer.pad_token = "!"  # as CLIP-G was trained
    return clip, tokenizer


def _text_width(family: Family, source: Source) -> int:
    """Return the width of the text embeddings that a transformer reads."""
    return (source.shape(family.text_input) or source.shape("context_embedder.weight"))[1]
