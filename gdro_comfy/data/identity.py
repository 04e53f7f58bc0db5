"""Compare what runs and LoRAs record of their model.

An identity is a JSON object: the pipeline, digests of the weights, and what else images depend on. Runs
of earlier versions say nothing of the dtype, quantization, text encoders and VAE of a diffusers pipeline: for
them, these count as the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_BESIDE_NETWORK = ("dtype", "quantization", "text_encoders", "vae")
"""What images depend on, but a LoRA does not."""
_SINCE = "quantization"
"""A key that every identity with all of these has."""

Identity = Mapping[str, Any]


def of_version_before(identity: Identity) -> dict[str, Any]:
    """Return an identity as a version that recorded less would have written it."""
    less = _SINCE in identity
    return {
        key: of_version_before(value) if isinstance(value, dict) else value
        for key, value in identity.items()
        if not (less and key in _BESIDE_NETWORK)
    }


def same_base(recorded: Identity, model: Identity) -> bool:
    """Return whether a record is that of a model, as far as the record goes."""
    return recorded == model or recorded == of_version_before(model)


def same_network(recorded: Identity, model: Identity) -> bool:
    """Return whether two identities have the same network, so that a LoRA of one fits the other."""
    one, other = (
        {key: value for key, value in identity.items() if key not in _BESIDE_NETWORK}
        for identity in (recorded, model)
    )
    return same_base(one, other)


def difference(recorded: Identity, model: Identity) -> str:
    """Say in which entry of a record a model differs first, for messages."""
    for key in dict.fromkeys((*recorded, *model)):
        there, here = recorded.get(key), model.get(key)
        if there != here:
            plain = all(value is None or isinstance(value, str) for value in (there, here))
            words = f": {there or 'none'} there, {here or 'none'} here" if plain else ""
            return f"another {key.replace('_', ' ')}{words}"
    return "no difference"
