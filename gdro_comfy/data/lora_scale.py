"""The scale of a LoRA's layers where no ``.alpha`` tensor gives it: from the header or a file beside it.

A layer's update is ``alpha / rank * up @ down``. Tools say alpha in different places:

- ``lora_adapter_metadata`` in the header (diffusers): JSON, each field after ``transformer.``;
- single fields of the header: ``transformer.lora_alpha`` (SimpleTuner), ``ss_network_alpha`` (kohya);
- ``adapter_config.json`` beside the file (peft).

With ``use_rslora``, peft scales by ``alpha / sqrt(rank)``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .numbers import finite_number
from .quotes import excerpt

CONFIG = "adapter_config.json"
"""What peft writes beside its file."""

_OTHER_BASES = ("pissa", "olora", "loftq", "corda", "lora_ga")
"""Starts of peft's ``init_lora_weights`` that change the base, so that the file alone is no update of it."""
_PARTS = ("transformer.", "unet.", "diffusion_model.", "")
"""What precedes the fields of the image model's LoRA in a header."""
_ALPHA = ("lora_alpha", "network_alpha", "alpha")
_RANK = ("r", "lora_rank", "network_dim", "rank")
_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Statement:
    """What a header or a configuration says of a LoRA.

    Args:
        source: where it says so, for messages.
        alpha, rank: of all layers without a pattern; None if it does not say.
        alphas, ranks: of the modules whose names end with a key.
        stabilised: whether alpha is divided by the root of the rank.
        kind: what it is instead of a plain LoRA, such as "a DoRA"; empty for a plain one.
        base: the model it was made for.
    """

    source: str
    alpha: float | None = None
    rank: int | None = None
    alphas: Mapping[str, float] = field(default_factory=dict)
    ranks: Mapping[str, float] = field(default_factory=dict)
    stabilised: bool = False
    kind: str = ""
    base: str = ""

    def scale(self, module: str, rank: int) -> float | None:
        """Return the factor of a module's update; None if nothing is said of it.

        Args:
            rank: the real one, of the file's tensors.

        Raises:
            ValueError: another rank is stated; the message says which.
        """
        alpha, stated = (
            _match(self.alphas, module, self.alpha),
            _match(self.ranks, module, self.rank),
        )
        if alpha is None:
            return None
        if stated is not None and stated != rank:
            raise ValueError(f"{self.source} says rank {stated:g}, {module} has rank {rank}")
        return alpha / (math.sqrt(rank) if self.stabilised else rank)


def statements(texts: Mapping[str, str], path: Path | None) -> list[Statement]:
    """Return what a file's header, and the configuration beside the file, say.

    Args:
        texts: the header.
        path: the file; None if there is only a header.

    Raises:
        ValueError: one of them cannot be understood; the message says which.
    """
    found = [_from_fields(f"{name} in its header", _object(name, texts[name]))
             for name in ("lora_adapter_metadata", "adapter_config", "peft_config")
             if name in texts]  # fmt: skip
    found += _single_fields(texts)
    if path is not None and belongs(path):
        config = path.with_name(CONFIG)
        try:
            raw = config.read_bytes() if config.stat().st_size <= _MOST_BYTES else b""
            fields = _object(CONFIG, raw.decode("utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{CONFIG} cannot be read") from error
        found.append(_from_fields(CONFIG, fields))
    return found


def belongs(path: Path) -> bool:
    """Return whether the ``adapter_config.json`` in a file's folder, if there is one, is about this file.

    It is if peft named the file, or if the folder has no other file of weights.
    """
    if not path.with_name(CONFIG).is_file():
        return False
    others = [other for other in path.parent.glob("*.safetensors") if other.name != path.name]
    return path.name.startswith("adapter_model") or not others


def _single_fields(texts: Mapping[str, str]) -> Iterator[Statement]:
    """Yield what fields of the header say that hold one number each."""
    for part in _PARTS:
        names = {name.removeprefix(part) for name in texts if name.startswith(part)}
        if not names & {"lora_alpha", "network_alpha"}:
            continue
        fields = {name: _number(texts[part + name]) for name in (*_ALPHA, *_RANK) if name in names}
        flag = {"use_rslora": texts.get(f"{part}use_rslora", "").lower() == "true"}
        yield _from_fields("its header", {**fields, **flag})
        return
    alpha, rank = (_number(texts.get(f"ss_network_{name}", "")) for name in ("alpha", "dim"))
    if alpha is not None:
        yield Statement("ss_network_alpha in its header", alpha, int(rank) if rank else None)


def _object(name: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is not JSON") from error
    if not isinstance(value, dict):
        raise ValueError(f"{name} is not an object of JSON")
    return value


def _from_fields(source: str, fields: Mapping[str, Any]) -> Statement:
    """Return what a configuration of peft says, whose fields may stand after the part they are about."""
    part = next((p for p in _PARTS if any(name.startswith(p) for name in fields)), "")
    own = {
        name.removeprefix(part): value for name, value in fields.items() if name.startswith(part)
    }
    peft_type = str(own.get("peft_type") or "LORA").upper()
    start = str(own.get("init_lora_weights") or "").lower()
    kind = ""
    if peft_type != "LORA":
        kind = f"an adapter of the type {peft_type}"
    elif own.get("use_dora") is True:
        kind = "a DoRA"
    elif start.startswith(_OTHER_BASES):
        kind = f"a LoRA for a base that its start ({start}) changed"
    rank = next((own[name] for name in _RANK if own.get(name) is not None), None)
    return Statement(
        source,
        _checked(source, "alpha", next((own[n] for n in _ALPHA if own.get(n) is not None), None)),
        None if rank is None else int(_checked(source, "rank", rank) or 0),
        _pattern(source, own.get("alpha_pattern")),
        _pattern(source, own.get("rank_pattern")),
        own.get("use_rslora") is True,
        kind,
        str(own.get("base_model_name_or_path") or ""),
    )


def _pattern(source: str, value: object) -> dict[str, float]:
    """Return a pattern of peft as ends of names.

    peft takes the keys for regular expressions; in use are plain names, some between ``^`` and ``$``.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{source} has a pattern that is not an object")
    result = {}
    for key, number in value.items():
        plain = str(key).replace(r"\.", ".")
        if not re.fullmatch(r"\^?[\w.-]+\$?", plain):
            raise ValueError(f"{source} has a pattern that is not a name ({key})")
        checked = _checked(source, "a pattern", number)
        assert checked is not None
        result[plain.removesuffix("$")] = checked
    return result


def _match(pattern: Mapping[str, float], module: str, default: float | None) -> float | None:
    """Return the value of the first key that a module's name ends with."""
    for key, value in pattern.items():
        name = key.removeprefix("^")
        if module == name or (name == key and module.endswith(f".{name}")):
            return value
    return default


def _checked(source: str, name: str, value: object) -> float | None:
    if value is None:
        return None
    number = _number(value)
    if number is None:
        raise ValueError(f"{source} says {name} {excerpt(value)}, which is not a finite number")
    return number


def _number(value: object) -> float | None:
    """Return a finite number, also from its text; None for anything else, such as "Dynamic"."""
    try:
        return finite_number(float(value) if isinstance(value, str) else value)
    except ValueError:
        return None
