"""The OCR reward: does the image show the text that was asked for?

The formula is that of the text-rendering tasks of Flow-GRPO (arXiv 2505.05470), DGPO and GDRO. RapidOCR reads
(PP-OCR networks on onnxruntime), an optional dependency that works offline.
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
from ..errors import InputError, install_command
from .base import RewardResult, naming_image

if TYPE_CHECKING:
    from PIL import Image

MODES = ("auto", "line", "detect")
_LINE_MAX_SIDE = 128  # pixels up to which "auto" takes an image for one line
# The recogniser sees 48 pixels of height. A sign in a square image is read far better when the image is
# stretched to twice its width (99 instead of 92 of 100 drawn words), and padding to the engine's usual
# 320 pixels would only cost time.
_LINE_HEIGHT, _LINE_ASPECT = 96, 2
_LINE_MAX_ASPECT = 40  # a longer line would take seconds and unlimited memory
_DETECT_MAX_ASPECT = 4  # a thinner image gets margins before it is searched for text
_DETECT_MIN_SIDE = 32


_PLAIN_SIGNS = str.maketrans(
    dict.fromkeys("’‘‛‚´`＇", "'")
    | dict.fromkeys("“”„‟«»＂″", '"')
    | dict.fromkeys("–—―−‐‑‒", "-")
    | {"⁄": "/", "…": "...", "·": "."}
)
"""Signs and the plain ones that stand for them on both sides of a comparison."""


def levenshtein(a: str, b: str) -> int:
    """Return the fewest insertions, deletions and replacements of a character that turn a into b."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        corner, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (x != y))
    return row[-1]


def text_score(read: str, target: str) -> float:
    """Return 1 if the target is part of what was read, else ``1 - min(levenshtein, length) / length``.

    The length is the target's; spaces and capitals do not count.

    >>> text_score("O PEM", "Open")
    0.75
    """
    read, target = _plain(read), _plain(target)
    if target in read:
        return 1.0
    return 1 - min(levenshtein(read, target), len(target)) / len(target)


def _plain(text: str) -> str:
    """Return a text as it is compared: without capitals and spaces, in plain forms of its signs.

    Full-width letters, ligatures and typographic quotes, dashes and ellipses are their plain forms: an image
    does not tell them apart. Marks that no image shows are left out.
    """
    plain = unicodedata.normalize("NFKC", text.translate(_PLAIN_SIGNS))
    plain = plain.translate(_PLAIN_SIGNS).casefold()  # the first may have brought new signs
    # Cf: joiners and directions; the other two choose between variants of an emoji.
    visible = (c for c in plain if not c.isspace() and unicodedata.category(c) != "Cf")
    return "".join(c for c in visible if c not in "\ufe0e\ufe0f")


def targets(prompt: Prompt) -> list[str]:
    """Return the texts that must be legible: the prompt's ``target``, else what it has in double quotes."""
    return [prompt.target] if prompt.target is not None else quoted_text(prompt)


class OCRReward:
    """The mean of ``text_score`` over the texts that a prompt asks for.

    Args:
        mode: "line" takes the whole image for one line of text (about 15 ms); "detect" finds the lines
            first (about 0.5 s); "auto" is "line" for images of up to 128 pixels, else "detect".

    >>> prompt = Prompt('a sign that says "OPEN"')
    >>> OCRReward().score([image_that_reads_OPEM], [prompt]).values  # doctest: +SKIP
    array([0.75], dtype=float32)
    """

    name = "ocr"
    range = (0.0, 1.0)

    def __init__(self, mode: str = "auto") -> None:
        if mode not in MODES:
            raise InputError(
                "mode", f"there is no mode {mode!r}", f"Use one of {', '.join(MODES)}."
            )
        self.mode = mode
        self.settings: dict[str, Any] = {
            "mode": mode, "engine": _engine_version(), "comparison": 2,
        }  # fmt: skip
        self._engines: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._letters: set[str] | None = None

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Raise ``InputError`` if a prompt has no text that can be read, or if RapidOCR is missing."""
        for prompt in prompts:
            self._check_target(prompt)
        _import_engine()
        for prompt in prompts:
            self._check_letters(prompt)

    def check_prompt(self, prompt: Prompt) -> None:
        """Raise ``InputError`` if this prompt has no text that can be read; see ``judged_prompts``."""
        self._check_target(prompt)
        self._check_letters(prompt)

    def _check_target(self, prompt: Prompt) -> None:
        if not targets(prompt) or not all(map(_plain, targets(prompt))):
            raise InputError(
                "prompts",
                f"{prompt.text!r} does not say what must be legible",
                'Put it in double quotes, as in: a sign that says "OPEN".',
            )

    def _check_letters(self, prompt: Prompt) -> None:
        readable = self._readable_letters()
        letters = set("".join(map(_plain, targets(prompt))))
        unreadable = sorted(letters - readable) if readable else []
        if unreadable:
            raise InputError(
                "prompts",
                f"{prompt.text!r} has letters that cannot be read here: {' '.join(unreadable)}",
                "The engine reads Latin letters, Chinese and Japanese, and common signs. Use other "
                "words, or GDRO VLM Reward.",
            )

    def _readable_letters(self) -> set[str]:
        """Return the recogniser's letters in lower case; empty if it does not tell them."""
        if self._letters is None:
            with self._lock:
                engine = self._engine("line")
                # The engine creates its parts at the first image.
                engine(np.zeros((48, 96, 3), np.uint8), use_det=False, use_cls=False)
                recogniser = getattr(engine, "text_rec", None)
            words = getattr(getattr(recogniser, "postprocess_op", None), "character", None) or ()
            self._letters = {letter for word in words for letter in _plain(str(word))}
        return self._letters

    def score(
        self,
        images: Sequence[Image.Image],
        prompts: Sequence[Prompt],
        check_cancelled: Callable[[], None] = lambda: None,
    ) -> RewardResult:
        """Score images; details are "read", the text in the image, and "target", the texts asked for.

        Raises:
            RewardError: the engine fails on an image.
        """
        self.check_prompts(prompts)
        values, details = [], []
        for i, (image, prompt) in enumerate(zip(images, prompts, strict=True)):
            check_cancelled()
            with naming_image(
                self, i, prompt, Exception
            ):  # the engine's errors share no other base
                read = self.read(image)
            scores = [text_score(read, target) for target in targets(prompt)]
            values.append(sum(scores) / len(scores))
            details.append({"read": read, "target": targets(prompt)})
        return RewardResult(np.array(values, dtype=np.float32), details)

    def read(self, image: Image.Image) -> str:
        """Return the text in an image, its lines joined by spaces from top to bottom; "" if there is none."""
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
            result = self._engine(mode)(bgr, use_det=mode == "detect", use_cls=False)
        return " ".join(line for line in result.txts or () if line)

    def _engine(self, mode: str) -> Any:
        """Return the engine of a mode, which is loaded once; call it with the lock held."""
        if mode not in self._engines:
            self._engines[mode] = _load_engine(mode)
        return self._engines[mode]


def _with_margins(image: Image.Image) -> Image.Image:
    """Return an image that is not too thin to be searched, with margins in the colour of its first pixel."""
    from PIL import Image

    shortest = max(_DETECT_MIN_SIDE, max(image.size) // _DETECT_MAX_ASPECT)
    size = max(image.width, shortest), max(image.height, shortest)
    if size == image.size:
        return image
    canvas = Image.new("RGB", size, image.getpixel((0, 0)))  # type: ignore[arg-type]
    canvas.paste(image, ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
    return canvas


def _engine_version() -> str:
    try:
        return f"rapidocr {metadata.version('rapidocr')}"
    except metadata.PackageNotFoundError:
        return "rapidocr, not installed"


def check_engine() -> None:
    """Raise ``InputError`` if RapidOCR cannot be used, with the command that installs it."""
    _import_engine()


def _install() -> str:
    return f"Install it and restart: {install_command('rapidocr', 'onnxruntime')}"


def _import_engine() -> Any:
    """Return the module rapidocr, or raise an ``InputError`` that says how to install it."""
    try:
        import onnxruntime  # noqa: F401  rapidocr itself imports it only when it reads
        import rapidocr
    except ImportError as error:
        raise InputError("reward", f"RapidOCR cannot be used ({error})", _install()) from error
    models = Path(rapidocr.__file__).parent / "models"
    if not any(models.glob("*rec*.onnx")):
        raise InputError(
            "reward", "this RapidOCR comes without its models and would download them", _install()
        )
    return rapidocr


def _load_engine(mode: str) -> Any:
    import torch

    # torch's number of threads respects OMP_NUM_THREADS; images are too small for more than 4.
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
