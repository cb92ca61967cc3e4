"""Names of regions by a network of pictures and words (CLIP: Radford et al., ICML 2021)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from seewhy.errors import InputError, LoadError, MissingExtraError
from seewhy.network.sources import import_torchvision
from seewhy.summaries.names import Tags
from seewhy.summaries.result import Member, Subject

_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_MARGIN = 0.1  # around a region's box, as a share of its longer side


class ClipTagger:
    """Which of some words goes best with a region: softmax over words of CLIP's likeness of the region's square.

    A region is shown as it is in the picture, without its mask: CLIP has not learnt from cut-out pieces. Its words are
    all that it can say, so give it names that are wrong as well (`background`, parts of other things), and compare
    `entropies`.

    Args:
        model: transformers' `CLIPModel`, or whatever takes input_ids, attention_mask and pixel_values and gives
            logits_per_image.
        tokenizer: its tokenizer.
        words: names to choose from.
        prompt: the sentence that a word stands in.

    Raises:
        InputError: fewer than two words, or a prompt without a place for one.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Callable[..., Mapping[str, Tensor]],
        words: Sequence[str],
        prompt: str = "a photo of {}",
    ) -> None:
        if len(set(words)) < 2 or "{}" not in prompt:
            raise InputError(
                "two words at least to choose from are needed, and a prompt with {} in a word's place"
            )
        self.words = tuple(dict.fromkeys(words))
        self.model = model.eval()
        self._side = int(self.model.config.vision_config.image_size)  # type: ignore[union-attr, arg-type]
        tokens = tokenizer([prompt.format(each) for each in self.words], padding=True, return_tensors="pt")
        self._text = {name: tokens[name] for name in ("input_ids", "attention_mask")}

    @classmethod
    def load(
        cls, name: str, words: Sequence[str], prompt: str = "a photo of {}", offline: bool = False
    ) -> ClipTagger:
        """A tagger from the Hugging Face hub (openai/clip-vit-base-patch32) or a folder that `save_pretrained` wrote.

        Args:
            name: of the model, or its folder.
            words: names to choose from.
            prompt: the sentence that a word stands in.
            offline: whether only files at hand may be used.

        Raises:
            MissingExtraError: transformers is not installed.
            LoadError: there is no such model, or it is none of pictures and words.
        """
        transformers = _transformers()
        try:
            model = transformers.CLIPModel.from_pretrained(name, local_files_only=offline)
            tokenizer = transformers.AutoTokenizer.from_pretrained(name, local_files_only=offline)
        except (OSError, ValueError, KeyError) as error:
            raise LoadError(f"{name!r} is not a CLIP model that can be loaded: {error}") from error
        return cls(model, tokenizer, words, prompt)

    def __call__(self, subject: Subject, member: Member) -> Tags:
        """The words with their shares, the best first."""
        levels = np.asarray(
            _square(subject, member).resize((self._side, self._side), Image.Resampling.BICUBIC)
        )
        mean, std = (torch.tensor(each)[:, None, None] for each in (_MEAN, _STD))
        pixels = (torch.from_numpy(levels.copy()).permute(2, 0, 1).float() / 255 - mean) / std
        with torch.inference_mode():
            found = self.model(**self._text, pixel_values=pixels[None]).logits_per_image[0].softmax(0)
        return sorted(zip(self.words, found.tolist(), strict=True), key=lambda each: -each[1])


def _square(subject: Subject, member: Member) -> Image.Image:
    """The square round a region, moved into the picture where it is over its edge."""
    x0, y0, x1, y1 = member.box
    height, width = subject.picture.shape[:2]
    side = min(round(max(x1 - x0, y1 - y0) * (1 + 2 * _MARGIN)), height, width)
    left = min(max((x0 + x1 - side) // 2, 0), width - side)
    top = min(max((y0 + y1 - side) // 2, 0), height - side)
    return Image.fromarray(subject.picture).crop((left, top, left + side, top + side))


def _transformers() -> Any:
    with contextlib.suppress(MissingExtraError):
        import_torchvision()  # transformers imports it where it is installed
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError("transformers", "hf") from error
    return transformers
