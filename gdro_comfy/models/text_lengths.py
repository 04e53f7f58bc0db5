"""How many tokens of text a network reads.

T5's padding is not masked, so the network reads it with the text, and a LoRA that was trained at one length
sees other text at another. Prompts are encoded as ComfyUI encodes them, since that is where the LoRA will be
used: padded to a length that depends on the family, and longer only for a longer prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ..data.conditioning import Conditioning, StructuredConditioning, stacked

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TextLengths:
    """The lengths of T5's text.

    Args:
        at_least: shorter text is padded to this many tokens.
        at_most: longer text is refused.
        before: the one length that was used while runs did not record any.
    """

    at_least: int
    at_most: int
    before: int

    def of_version_before(self) -> TextLengths:
        """Return the lengths for a run that does not record any."""
        return TextLengths(self.before, self.before, self.before)

    def by_length(self, texts: Sequence[str], tokenizer: Any | None) -> dict[int, list[int]]:
        """Return the indices of the texts by the length that each is encoded at.

        Args:
            tokenizer: T5's; None if it is missing, and there is nothing but padding.
        """
        found: dict[int, list[int]] = {}
        for index, text in enumerate(texts):
            tokens = 0
            if tokenizer is not None:
                tokens = len(tokenizer(text, truncation=False)["input_ids"])
            found.setdefault(min(max(tokens, self.at_least), self.at_most), []).append(index)
        return found


def encode(
    texts: Sequence[str], by_length: dict[int, list[int]], encode_at: Callable[..., Conditioning]
) -> Conditioning:
    """Encode the texts of each length together, and return all in their order.

    Args:
        encode_at: called with texts and their length.
    """
    if len(by_length) == 1:
        return encode_at(list(texts), *by_length)
    parts = [
        encode_at([texts[index] for index in indices], length)
        for length, indices in by_length.items()
    ]
    places = torch.tensor([index for indices in by_length.values() for index in indices])
    return Conditioning.cat(parts).select(torch.argsort(places))


def velocity(
    x: Tensor, sigma: Tensor, cond: Conditioning, of_one_length: Callable[..., Tensor]
) -> Tensor:
    """Predict the velocities of images whose prompts may have several lengths, those of each in one pass.

    Args:
        x: latents ``[n, c, h, w]``.
        sigma: noise levels ``[n]``.
        of_one_length: called with the latents, noise levels and conditioning of a part.
    """
    if not isinstance(cond, StructuredConditioning):
        return of_one_length(x, sigma, cond)
    velocities, places = [], []
    for indices, part in stacked(cond):
        rows = torch.tensor(indices, device=x.device)
        velocities.append(of_one_length(x[rows], sigma[rows.to(sigma.device)], part))
        places += indices
    return torch.cat(velocities)[torch.argsort(torch.tensor(places)).to(x.device)]
