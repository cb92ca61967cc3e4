from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toy_networks import PictureAndText, Siamese, pictures, seeded

import seewhy
from seewhy.errors import InputError
from seewhy.network.inputs import Arguments
from seewhy.network.network import Network

CPU = torch.device("cpu")
WORDS = torch.tensor([[1, 2, 3], [4, 5, 6]])


def of(inputs) -> Arguments:
    return Arguments.of(inputs, CPU, torch.float32)


def test_a_tensor_is_the_only_positional_argument():
    arguments = of(pictures())
    assert (len(arguments.positional), arguments.named, arguments.batch) == (1, {}, 2)
    assert arguments.pictures == (0,)
    assert arguments.size == (16, 16)


def test_a_tuple_is_positional_and_a_mapping_named():
    assert of((pictures(), WORDS)).pictures == (0,)
    named = of({"pixel_values": pictures(), "text": WORDS})
    assert named.positional == ()
    assert named.pictures == ("pixel_values",)
    assert torch.equal(named["text"], WORDS)


def test_numbers_among_the_keys_are_positions():
    mixed = of({1: WORDS, 0: pictures(), "scale": 2.0})
    assert [tuple(each.shape) for each in mixed.positional] == [(2, 3, 16, 16), (2, 3)]
    assert mixed.named == {"scale": 2.0}


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            torch.rand(3, 16, 16),
            r"got float32 \(3, 16, 16\)\. One picture needs a batch axis: `image\[None\]`",
        ),
        (
            torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
            r"no input is a float tensor .* got uint8 \(1, 3, 8, 8\)",
        ),
        (np.zeros((1, 3, 8, 8)), "got ndarray"),
        (["a.jpg", "b.jpg"], r"got str, str\. .*paths are read by `Network\.read`"),
        ((torch.rand(2, 3, 8, 8), torch.rand(3, 3, 8, 8)), r"same batch size of at least 1; got \[2, 3\]"),
        (torch.rand(0, 3, 8, 8), r"at least 1; got \[0\]"),
    ],
)
def test_inputs_that_are_no_pictures_are_answered_with_what_they_are(inputs, message):
    with pytest.raises(InputError, match=message):
        of(inputs)


def test_pictures_are_converted_and_words_are_not():
    arguments = Arguments.of((pictures().double(), WORDS), CPU, torch.bfloat16)
    assert arguments[0].dtype == torch.bfloat16
    assert arguments[1].dtype == torch.int64


def test_pictures_that_ask_for_gradients_are_detached():
    assert not of(pictures().requires_grad_())[0].requires_grad


def test_rows_are_taken_from_everything_that_has_one_per_picture():
    arguments = of((pictures(2), WORDS, torch.rand(5), 3)).select(torch.tensor([1, 1, 0]))
    assert arguments.batch == 3
    assert arguments[1].tolist() == [[4, 5, 6], [4, 5, 6], [1, 2, 3]]
    assert arguments[2].shape == (5,)
    assert arguments[3] == 3


def test_the_signature_ignores_the_batch_and_the_values():
    assert of((pictures(2), WORDS)).signature == of((pictures(5), torch.zeros(5, 3).long())).signature


@pytest.mark.parametrize(
    "other",
    [
        (pictures(2, 24), WORDS),
        (pictures(2), WORDS[:, :2]),
        (pictures(2), WORDS.int()),
        {0: pictures(2), 1: WORDS, "scale": 2.0},
        {0: pictures(2), "text": WORDS},
    ],
)
def test_the_signature_tells_other_kinds_of_input_apart(other):
    assert of(other).signature != of((pictures(2), WORDS)).signature


def test_the_signature_tells_settings_apart():
    assert of({"x": pictures(), "deep": True}).signature != of({"x": pictures(), "deep": False}).signature


def test_the_module_gets_copies():
    class Writes(nn.Module):
        def forward(self, x: Tensor, words: Tensor) -> Tensor:
            words.zero_()
            return x.zero_()

    image, words = pictures(), WORDS.clone()
    of((image, words)).call(Writes())
    assert torch.equal(image, pictures())
    assert torch.equal(words, WORDS)


def test_strides_of_pictures_reach_the_module():
    class Notes(nn.Module):
        def forward(self, x: Tensor) -> bool:
            return x.is_contiguous(memory_format=torch.channels_last)

    assert of(pictures().to(memory_format=torch.channels_last)).call(Notes())


def test_positional_and_named_inputs_are_called_together():
    network = seeded(PictureAndText)
    with torch.no_grad():
        expected = network(pictures(), text=WORDS, scale=2.0)
    assert torch.equal(Network(network)(pictures(), text=WORDS, scale=2.0), expected)


def test_two_pictures_are_explained_with_a_map_each():
    network, left, right = seeded(Siamese), pictures(), pictures(seed=1)
    found = seewhy.GradCAM()(network, (left, right), 1)
    assert [str(site) for site in found.maps] == ["backbone", "backbone[1] of input 1"]
    swapped = seewhy.GradCAM(layer="backbone")(network, (left, right), 1)
    assert all(torch.equal(found.at(site), swapped.at(site)) for site in found.maps)


def test_two_pictures_of_a_symmetric_network_swap_their_maps():
    class Symmetric(Siamese):
        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return super().forward(left, right) + super().forward(right, left)  # calls 0 and 1, 2 and 3

    network = seeded(Symmetric)
    one = seewhy.GradCAM(layer="backbone[0]")(network, (pictures(), pictures(seed=1)), 1)
    other = seewhy.GradCAM(layer="backbone[2]")(network, (pictures(seed=1), pictures()), 1)
    assert torch.allclose(one.values, other.values, atol=1e-6)


def test_words_beside_a_picture_stay_with_it():
    network, image = seeded(PictureAndText), pictures()
    together = seewhy.GradCAM()(network, (image, WORDS), 1)
    alone = [seewhy.GradCAM()(network, (image[row : row + 1], WORDS[row : row + 1]), 1) for row in (0, 1)]
    chunked = seewhy.GradCAM()(network, (image, WORDS), 1, chunk=1)
    assert torch.allclose(together.values, torch.cat([each.values for each in alone]), atol=1e-6)
    assert torch.allclose(together.values, chunked.values, atol=1e-6)
