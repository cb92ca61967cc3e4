"""Names by a network of pictures and words; a tiny one of random weights, made here."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from seewhy.errors import InputError, LoadError, MissingExtraError
from seewhy.summaries.clip import ClipTagger, _transformers
from seewhy.summaries.names import Tagger
from seewhy.summaries.result import Member, Subject

pytest.importorskip("transformers")

WORDS = ("wheel", "wing", "sky")


def tokens(texts, padding, return_tensors):
    """Numbers of the words known, between one that begins and one that ends."""
    known = {word: number for number, word in enumerate(("a", "photo", "of", *WORDS), 3)}
    ids = torch.tensor([[1, *(known[word] for word in text.split()), 49] for text in texts])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.fixture(scope="module")
def model():
    transformers = _transformers()
    torch.manual_seed(0)
    common = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config={**common, "vocab_size": 50, "eos_token_id": 49, "bos_token_id": 1, "pad_token_id": 0},
        vision_config={**common, "image_size": 32, "patch_size": 16},
        projection_dim=8,
    )
    return transformers.CLIPModel(config)


def region(box=(40, 10, 60, 30), picture=None):
    mask = np.zeros((64, 96), bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    picture = (
        np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8) if picture is None else picture
    )
    return Subject("1.png", picture, mask.astype(np.float32), 1.0, 0.0), Member(0, box, mask)


def test_shares_of_all_words_the_best_first(model):
    tagger = ClipTagger(model, tokens, WORDS)
    assert isinstance(tagger, Tagger)
    found = tagger(*region())
    assert {word for word, _ in found} == set(WORDS)
    assert sum(share for _, share in found) == pytest.approx(1)
    assert [share for _, share in found] == sorted((share for _, share in found), reverse=True)


def test_it_gives_what_the_model_gives_for_the_square_round_the_region(model):
    subject, member = region((40, 10, 60, 22))  # 20 wide: a square of 24
    crop = subject.picture[4:28, 38:62]
    processor = _transformers().CLIPImageProcessor(size={"height": 32, "width": 32}, do_center_crop=False)
    pixels = processor(crop, return_tensors="pt")["pixel_values"]
    text = tokens([f"a photo of {word}" for word in WORDS], True, "pt")
    with torch.inference_mode():
        expected = model(**text, pixel_values=pixels).logits_per_image[0].softmax(0).tolist()
    found = dict(ClipTagger(model, tokens, WORDS)(subject, member))
    # Its processor rounds no levels after the resize on all back ends.
    assert [found[word] for word in WORDS] == pytest.approx(expected, abs=0.02)


def test_a_region_at_the_edge_stays_in_the_picture(model):
    subject, member = region((90, 0, 96, 64))
    found = ClipTagger(model, tokens, WORDS)(subject, member)
    changed = subject.picture.copy()
    changed[:, :32] = 0  # outside the square
    assert ClipTagger(model, tokens, WORDS)(*region((90, 0, 96, 64), changed)) == found


def test_what_is_missing_is_named(model, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="two words"):
        ClipTagger(model, tokens, ["wheel", "wheel"])
    with pytest.raises(InputError, match="a prompt with"):
        ClipTagger(model, tokens, WORDS, prompt="a photo")
    with pytest.raises(LoadError, match="not a CLIP model"):
        ClipTagger.load(str(tmp_path), WORDS, offline=True)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match="seewhy\\[hf\\]"):
        ClipTagger.load("openai/clip-vit-base-patch32", WORDS)
