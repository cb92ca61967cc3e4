"""Which output is the embedding, found on a clean pass."""

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seewhy.errors import TargetError
from seewhy.network.embedding import Embedding
from seewhy.network.network import Network

PICTURES = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@dataclass
class Output:
    """As transformers return it: a record of several tensors."""

    last_hidden_state: Tensor
    pooler_output: Tensor


class Several(nn.Module):
    """Feature maps and an embedding, arranged as a test wants them."""

    def __init__(self, arrange) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.arrange = arrange

    def forward(self, x: Tensor):
        maps = self.conv(x)
        return self.arrange(maps, maps.mean((2, 3)))


CASES = [
    ("a tensor", lambda maps, rows: rows, Embedding(None, 5, False)),
    ("of unit length", lambda maps, rows: F.normalize(rows), Embedding(None, 5, True)),
    ("a tuple", lambda maps, rows: (maps, rows), Embedding(1, 5, False)),
    ("a nested one", lambda maps, rows: ([maps], {"b": (rows, maps)}), Embedding(1, 5, False)),
    ("a known name", lambda maps, rows: {"logits": rows[:, :2], "embedding": rows}, Embedding("embedding", 5, False)),
    ("another name", lambda maps, rows: {"maps": maps, "code": F.normalize(rows)}, Embedding(1, 5, True)),
    ("a record", lambda maps, rows: Output(maps, rows[:, :, None, None]), Embedding("pooler_output", 5, False)),
    ("half precision", lambda maps, rows: F.normalize(rows).bfloat16(), Embedding(None, 5, True)),
]  # fmt: skip
each_case = pytest.mark.parametrize(
    ("arrange", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)


@each_case
def test_the_embedding_is_found_with_its_width_and_whether_it_is_normalised(arrange, expected) -> None:
    assert Network(Several(arrange)).embedding(PICTURES) == expected


@each_case
def test_it_reads_the_same_rows_from_any_pass(arrange, expected) -> None:
    network = Network(Several(arrange))
    rows = network.module.conv(PICTURES).mean((2, 3)).detach()
    read = network.embedding(PICTURES).read(network(PICTURES))
    assert read.dtype == torch.float32
    assert torch.allclose(read, F.normalize(rows) if expected.normalised else rows, atol=4e-3)


def test_one_row_of_another_length_is_enough_not_to_be_normalised() -> None:
    def almost(maps, rows):
        unit = F.normalize(rows)
        return torch.cat([unit[:-1], 1.01 * unit[-1:]])

    assert not Network(Several(almost)).embedding(PICTURES).normalised


def test_the_user_names_the_output() -> None:
    network = Network(Several(lambda maps, rows: {"first": rows[:, :2], "second": F.normalize(rows)}))
    assert network.embedding(PICTURES).width == 2
    assert network.embedding(PICTURES, output="second") == Embedding("second", 5, True)
    assert network.embedding(PICTURES, output=-1) == Embedding(-1, 5, True)


def test_a_named_feature_map_is_flattened() -> None:
    network = Network(Several(lambda maps, rows: (maps, rows)))
    assert network.embedding(PICTURES, output=0).width == 5 * 6 * 6


def test_noise_of_the_usual_size_serves_where_no_pictures_are_given() -> None:
    assert Network(Several(lambda maps, rows: rows)).embedding() == Embedding(None, 5, False)


@pytest.mark.parametrize(
    ("arrange", "output", "message"),
    [
        (lambda maps, rows: maps, None, r"no output is an embedding \(B, D\); they are \(3, 5, 6, 6\)"),
        (lambda maps, rows: (maps, rows[:, 0]), None, r"\(3, 5, 6, 6\), \(3\)"),
        (lambda maps, rows: {"a": rows}, "b", "no tensor 'b'"),
        (lambda maps, rows: (rows, rows[:, 0]), 1, r"output 1 of Several is \(3\)"),
    ],
)
def test_without_an_embedding_the_outputs_are_listed(arrange, output, message) -> None:
    with pytest.raises(TargetError, match=message):
        Network(Several(arrange)).embedding(PICTURES, output)


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(TargetError, match="embeddings of 4 numbers, where 5 were found"):
        Embedding(None, 5, False).read(torch.rand(2, 4))
