"""Kill a process that builds a bank, at random moments, again and again: python bank_storm.py FOLDER KILLS."""

import sys
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parents[1] / "store"))

from storm import at_random
from toy_embedders import EXACT, network, squares

from seewhy.embedding.building import build_bank

if __name__ == "__main__":
    torch.set_num_threads(1)  # a process that is forked has no other
    root = Path(sys.argv[1])
    embedder, manifest = network(), squares(root / "pictures", 80)
    recipe = EXACT.model_copy(update={"batch_size": 12})

    def building(folder: Path) -> Callable[[], object]:
        return lambda: build_bank(embedder, manifest, folder, recipe)

    (root / "banks").mkdir()
    at_random(root / "banks", int(sys.argv[2]), building)
