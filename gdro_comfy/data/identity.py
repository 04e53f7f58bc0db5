"""Compare what runs and LoRAs record of their model.

An identity is a JSON object: the pipeline, digests of the weights, and what else images depend on. Runs
of earlier versions say nothing of the dtype, quantization, text encoders and VAE of a diffusers pipeline: for
them, these count as the same. Nor do they say how long text is; that is known, and ``FlowModel.as_recorded``
goes on with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

TEXT_TOKENS = "text_tokens"
"""The shortest length of T5's text, of a pipeline that reads any."""
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


def versions_before(identity: Identity) -> Iterator[dict[str, Any]]:
    """Yield an identity as versions that recorded less would have written it, the newest of them first."""
    shorter = {key: value for key, value in identity.items() if key != TEXT_TOKENS}
    for less in (shorter, of_version_before(shorter)):
        if less != identity:
            yield less


def same_base(recorded: Identity, model: Identity) -> bool:
    """Return whether a record is that of a model, as far as the record goes."""
    return recorded == model or recorded == of_version_before(model)


def same_network(recorded: Identity, model: Identity) -> bool:
    """Return whether two identities have the same network, so that a LoRA of one fits the other."""
    one, other = (
        {k: v for k, v in identity.items() if k not in (*_BESIDE_NETWORK, TEXT_TOKENS)}
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
