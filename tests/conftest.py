"""Shapes written in the signatures are enforced while the tests run."""

import random

import pytest

# The type checker samples containers at random; it must not draw from the generator whose state is tested.
_shared, random.getrandbits = random.getrandbits, random.Random(0).getrandbits
import beartype._check.code.codemain  # noqa: E402, F401

random.getrandbits = _shared

from jaxtyping import install_import_hook  # noqa: E402


@pytest.fixture(autouse=True)
def seeded() -> None:
    """What a test draws without a seed is the same each time."""
    import torch

    torch.manual_seed(0)


hook = install_import_hook("seewhy", "typecheck.checked")
