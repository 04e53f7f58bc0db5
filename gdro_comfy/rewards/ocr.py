"""The OCR reward: is the text in the picture the one that was asked for?

The formula of the text-rendering tasks of Flow-GRPO (arXiv 2505.05470), DGPO and GDRO. RapidOCR
reads (PP-OCR networks on onnxruntime), an optional dependency that works offline.
"""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.prompts import Prompt, quoted_text
from ..errors import InputError
from .base import RewardError, RewardResult

if TYPE_CHECKING:
    from PIL import Image

MODES = ("auto", "line", "detect")
_INSTALL = 'Install it with: pip install "comfyui-gdro[ocr]"'
_LINE_MAX_SIDE = 128  # in "auto", a larger picture is searched for text first
# The recogniser sees 48 pixels of height. A sign in a square picture is read far better when the
# picture is stretched to twice its width (99 instead of 92 of 100 drawn words), and padding to the
# engine's usual 320 pixels would only cost time.
_LINE_HEIGHT, _LINE_ASPECT = 96, 2
_LINE_MAX_ASPECT = 40  # a longer line would take seconds, and memory without end
_THINNEST = 4  # a picture to be searched gets margins if it is longer than this times its width


def levenshtein(a: str, b: str) -> int:
    """The least number of characters to insert, delete or replace that turns ``a`` into ``b``."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        corner, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (x != y))
    return row[-1]


def text_score(read: str, target: str) -> float:
    """1 if the target is part of what was read, else ``1 - min(levenshtein, length) / length``.

    The length is the target's; spaces and capitals are taken out first.

    >>> text_score("O PEM", "Open")
    0.75
    """
    read, target = _plain(read), _plain(target)
    if target in read:
        return 1.0
    return 1 - min(levenshtein(read, target), len(target)) / len(target)


def _plain(text: str) -> str:
    # Marks that no picture shows: joiners, directions, the variants of emoji.
    shown = (c for c in text if not c.isspace() and unicodedata.category(c) != "Cf")
    return "".join(c for c in shown if c not in "\ufe0e\ufe0f").lower()


def targets(prompt: Prompt) -> list[str]:
    """The texts that must be legible: the prompt's ``target``, else its parts in double quotes."""
    return [prompt.target] if prompt.target is not None else quoted_text(prompt)


class OCRReward:
    """The mean of ``text_score`` over the texts a prompt asks for.

    Args:
        mode: "line": the whole picture is one line of text (about 15 ms); "detect": find the lines
            first (about 0.5 s); "auto": "line" for pictures of up to 128 pixels, else "detect".
    """

    name = "ocr"
    range = (0.0, 1.0)

    def __init__(self, mode: str = "auto") -> None:
        if mode not in MODES:
            raise InputError(
                "mode", f"there is no mode {mode!r}", f"Use one of {', '.join(MODES)}."
            )
        self.mode = mode
        self.settings: dict[str, Any] = {"mode": mode, "engine": _engine_version()}
        self._engines: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._known: set[str] | None = None

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Raise ``InputError`` at the first prompt without a text to read, or without RapidOCR."""
        for prompt in prompts:
            if not targets(prompt) or not all(map(_plain, targets(prompt))):
                raise InputError(
                    "prompts",
                    f"{prompt.text!r} does not say what must be legible",
                    'Put it in double quotes, as in: a sign that says "OPEN".',
                )
        _import_engine()
        known = self._letters()
        for prompt in prompts:
            strange = sorted(set("".join(map(_plain, targets(prompt)))) - known) if known else []
            if strange:
                raise InputError(
                    "prompts",
                    f"{prompt.text!r} has letters that cannot be read here: {' '.join(strange)}",
                    "The engine reads Latin letters, Chinese and Japanese, and common signs. Use other "
                    "words, or GDRO VLM Reward.",
                )

    def _letters(self) -> set[str]:
        """The letters that the recogniser knows, in small; empty if it does not say."""
        if self._known is None:
            with self._lock:
                if "line" not in self._engines:
                    self._engines["line"] = _load_engine("line")
                engine = self._engines["line"]
                # Its parts are made at the first picture.
                engine(np.zeros((48, 96, 3), np.uint8), use_det=False, use_cls=False)
                recogniser = getattr(engine, "text_rec", None)
            found = getattr(getattr(recogniser, "postprocess_op", None), "character", None) or ()
            self._known = {letter for word in found for letter in _plain(str(word))}
        return self._known

    def score(
        self,
        images: Sequence[Image.Image],
        prompts: Sequence[Prompt],
        check_cancelled: Callable[[], None] = lambda: None,
    ) -> RewardResult:
        """Details: "read", the text that was read; "target", the list of texts asked for.

        Raises:
            RewardError: the engine fails on an image.
        """
        self.check_prompts(prompts)
        values, details = [], []
        for i, (image, prompt) in enumerate(zip(images, prompts, strict=True)):
            check_cancelled()
            try:
                read = self.read(image)
            except Exception as error:  # an engine's own errors share no other base class
                raise RewardError(
                    f"ocr: image {i} of {prompt.text!r} cannot be read: {error}"
                ) from error
            wanted = targets(prompt)
            values.append(sum(text_score(read, target) for target in wanted) / len(wanted))
            details.append({"read": read, "target": wanted})
        return RewardResult(np.array(values, dtype=np.float32), details)

    def read(self, image: Image.Image) -> str:
        """The text in a picture, its lines from top to bottom with spaces between; "" if none."""
        mode = self.mode
        if mode == "auto":
            mode = "line" if max(image.size) <= _LINE_MAX_SIDE else "detect"
        image = image.convert("RGB")
        if mode == "line":
            aspect = max(image.width / image.height, _LINE_ASPECT)
            aspect = min(aspect, _LINE_MAX_ASPECT)
            image = image.resize((round(_LINE_HEIGHT * aspect), _LINE_HEIGHT))
        else:
            image = _with_margins(image)
        bgr = np.ascontiguousarray(np.asarray(image)[:, :, ::-1])
        with self._lock:
            if mode not in self._engines:
                self._engines[mode] = _load_engine(mode)
            result = self._engines[mode](bgr, use_det=mode == "detect", use_cls=False)
        return " ".join(line for line in result.txts or () if line)


def _with_margins(image: Image.Image) -> Image.Image:
    """The picture, filled up in the colour of its first pixel where it is too thin to be searched."""
    from PIL import Image as images

    least = max(32, max(image.size) // _THINNEST)
    size = max(image.width, least), max(image.height, least)
    if size == image.size:
        return image
    sheet = images.new("RGB", size, image.getpixel((0, 0)))  # type: ignore[arg-type]
    sheet.paste(image, ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
    return sheet


def _engine_version() -> str:
    try:
        return f"rapidocr {metadata.version('rapidocr')}"
    except metadata.PackageNotFoundError:
        return "rapidocr, not installed"


def _import_engine() -> Any:
    """The module rapidocr, or an ``InputError`` that says how to have it."""
    try:
        import onnxruntime  # noqa: F401  rapidocr itself looks for it only when it reads
        import rapidocr
    except ImportError as error:
        raise InputError("reward", f"RapidOCR cannot be used ({error})", _INSTALL) from error
    models = Path(rapidocr.__file__).parent / "models"
    if not any(models.glob("*rec*.onnx")):
        raise InputError(
            "reward", "this RapidOCR comes without its models and would download them", _INSTALL
        )
    return rapidocr


def _load_engine(mode: str) -> Any:
    import torch

    # As many threads as torch may use, which minds OMP_NUM_THREADS, but few: images are small.
    threads = min(4, torch.get_num_threads())
    params = {
        "Global.log_level": "error",
        "Global.text_score": 0.0,
        "EngineConfig.onnxruntime.intra_op_num_threads": threads,
        "EngineConfig.onnxruntime.inter_op_num_threads": 1,
    }
    if mode == "line":
        params["Rec.rec_img_shape"] = [3, 48, 48 * _LINE_ASPECT]
    return _import_engine().RapidOCR(params=params)
