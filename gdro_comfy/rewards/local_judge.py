"""A vision-language model of transformers on this machine, as a judge."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from . import pretrained
from .pair_rubric import PairRubric
from .rubric import Answer, Refusal, Rubric, Token, UnreadableAnswer

if TYPE_CHECKING:
    import torch
    from PIL import Image

_TOP_TOKENS = 20  # whose probabilities are read, as with endpoints
_PATCH = 28  # side of the pixels that one token stands for in common vision encoders


class LocalJudge:
    """A judge (see ``vlm.Judge``): an image-text-to-text model with a chat template.

    Answers are greedy, so the same image always gets the same score. Images are judged one at a time:
    they differ in size, and these models leave little memory for batches.

    Args:
        folder: in transformers' layout; nothing is downloaded.
        device: where to compute.
        longest_side: in pixels; larger images are reduced to it.
        max_tokens: of an answer.
    """

    def __init__(
        self,
        folder: Path,
        device: torch.device | str = "cpu",
        longest_side: int = 1024,
        max_tokens: int = 256,
    ) -> None:
        if not (folder / "config.json").is_file():
            raise InputError(
                "folder",
                f"{folder} has no config.json",
                "Choose a folder in transformers' layout: config.json beside *.safetensors.",
            )
        self.folder, self.device = folder, device
        self.longest_side, self.max_tokens = longest_side, max_tokens
        self.identity: dict[str, Any] = {
            "weights": pretrained.fingerprint(folder),
            "longest_side": longest_side,
            "max_tokens": max_tokens,
        }
        self._network = pretrained.Network(self._load, device)
        self._processor: Any = None

    def _load(self) -> Any:
        from transformers import AutoModelForImageTextToText

        dtype = pretrained.fast_dtype(self.device)
        return pretrained.load_model(
            AutoModelForImageTextToText, self.folder, input_name="folder", dtype=dtype
        )

    def active(self) -> AbstractContextManager[Any]:
        """Keep the model on its device within this context."""
        return self._network.resident()

    def check(self) -> None:
        """Raise ``InputError`` if the folder has no processor with a chat template."""
        if self._processor is not None:
            return
        from transformers import AutoProcessor

        processor = pretrained.load(AutoProcessor, self.folder, input_name="folder")
        if not getattr(processor, "chat_template", None) or not hasattr(processor, "tokenizer"):
            raise InputError(
                "folder",
                f"{self.folder} is not a chat model: it has no chat template for pictures",
                "Choose an instruction-tuned image-text model, such as Qwen2.5-VL or UnifiedReward.",
            )
        self._processor = processor

    def estimate(self, images: int, size: tuple[int, int], rubric: Rubric | PairRubric) -> str:
        """Describe how much the model has to read."""
        scale = min(1.0, self.longest_side / max(size))
        tokens = math.prod(max(1, math.ceil(side * scale / _PATCH)) for side in size)
        tokens *= rubric.pictures
        return (
            f"{images:,} answers of {self.folder.name}, about {tokens:,} image tokens each; no cost"
        )

    def ask(
        self,
        questions: Sequence[tuple[Image.Image | tuple[Image.Image, ...], str]],
        rubric: Rubric | PairRubric,
        check_cancelled: Callable[[], None],
    ) -> Generator[tuple[int, Answer | Refusal], None, None]:
        """Yield one answer after the other; cancelling takes effect between two tokens."""
        if not questions:
            return
        self.check()
        with self._network.active() as model:
            for index, (asked, question) in enumerate(questions):
                check_cancelled()
                images = asked if isinstance(asked, tuple) else (asked,)
                answer = self._answer(model, images, question, check_cancelled)
                try:
                    rubric.read(answer)
                except UnreadableAnswer as error:
                    yield index, Refusal(str(error))
                else:
                    yield index, answer

    def _answer(
        self,
        model: Any,
        images: Sequence[Image.Image],
        question: str,
        check_cancelled: Callable[[], None],
    ) -> Answer:
        import torch
        from transformers import LogitsProcessorList

        pictures = [image.convert("RGB") for image in images]
        for picture in pictures:
            picture.thumbnail((self.longest_side, self.longest_side))
        content = [*({"type": "image"} for _ in pictures), {"type": "text", "text": question}]
        chat = self._processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        inputs = self._processor(images=pictures, text=[chat], return_tensors="pt")
        inputs = inputs.to(model.device)
        for name, value in inputs.items():
            if torch.is_floating_point(value):
                inputs[name] = value.to(model.dtype)

        def stop_if_cancelled(ids: Any, scores: Any) -> Any:
            check_cancelled()
            return scores

        output = model.generate(
            **inputs,
            max_new_tokens=self.max_tokens,
            do_sample=False,
            num_beams=1,
            output_logits=True,
            return_dict_in_generate=True,
            logits_processor=LogitsProcessorList([stop_if_cancelled]),
        )
        start = inputs["input_ids"].shape[1]
        ids = output.sequences[0, start:].tolist()
        tokens = self._tokens(ids, output.logits)
        text = "".join(token.text for token in tokens)
        truncated = (
            len(ids) >= self.max_tokens and ids[-1] not in self._processor.tokenizer.all_special_ids
        )
        return Answer(text, tokens, truncated, (start, len(ids)))

    def _tokens(self, ids: Sequence[int], logits: Sequence[torch.Tensor]) -> tuple[Token, ...]:
        """Return an answer in tokens, each with the text that it adds.

        Some tokenizers put the space between two tokens only when they decode both.
        """
        import torch

        tokenizer = self._processor.tokenizer
        tokens, before = [], ""
        for index, row in enumerate(logits[: len(ids)]):
            text = tokenizer.decode(ids[: index + 1], skip_special_tokens=True)
            top = torch.softmax(row[0].float(), -1).topk(min(_TOP_TOKENS, row.shape[-1]))
            probabilities: dict[str, float] = {}
            for token_id, probability in zip(
                top.indices.tolist(), top.values.tolist(), strict=True
            ):
                word = tokenizer.decode([token_id])
                probabilities[word] = probabilities.get(word, 0.0) + probability
            tokens.append(Token(text[len(before) :], probabilities))
            before = text
        return tuple(tokens)
