"""Maps under random weights as a part of an evaluation: of which methods, what they take, where the result is kept."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seewhy.datasets import Item
from seewhy.errors import NotApplicableError, SeewhyError
from seewhy.evaluation.evaluate import environment
from seewhy.evaluation.randomisation import SEEDS, randomise, stages_of
from seewhy.evaluation.subjects import digest_of, read_pictures, reading_of
from seewhy.explainers.base import Explainer, Workload
from seewhy.explanation import Cost
from seewhy.files import written_whole
from seewhy.network.images import Images
from seewhy.network.network import Network

_AFFORDABLE = 60  # forwards per map, above which maps of random networks are not looked at


@dataclass(frozen=True, eq=False)
class SanityPlan:
    """Maps under random weights, before any is computed.

    Attributes:
        network: whose weights are randomised.
        methods: those that are looked at, by name.
        pictures: what is explained.
        stages: of the network, which are randomised one after the other.
        seeds: repetitions.
        costs: what a map takes, by each of the methods.
        left_out: the other methods, and why.
        kept: where the result is, once it is there.
    """

    network: Network
    methods: Mapping[str, Explainer]
    pictures: tuple[Item, ...]
    stages: int
    seeds: int
    costs: Mapping[str, Cost]
    left_out: Mapping[str, str]
    kept: Path

    @classmethod
    def of(
        cls,
        network: Network,
        methods: Mapping[str, Explainer],
        pictures: tuple[Item, ...],
        example: Images,
        folder: Path,
    ) -> SanityPlan:
        """The plan for some methods.

        Args:
            network: with preprocessing.
            methods: by name; those of many forwards are left out.
            pictures: what is explained.
            example: one picture, read for the network.
            folder: where the result is kept.
        """
        settings = [each.model_dump(mode="json") for each in methods.values()]
        shown = [each.sha256 for each in pictures]
        digest = digest_of(network.digest, reading_of(network), environment(network), shown, settings)
        work = Workload(1, 1, ((example.pixels.shape[-2], example.pixels.shape[-1]),))
        costs = {name: each.plan(work, network) for name, each in methods.items()}
        dear = {name: cost.forwards for name, cost in costs.items() if cost.forwards > _AFFORDABLE}
        return cls(
            network,
            {name: each for name, each in methods.items() if name not in dear},
            pictures,
            len(stages_of(network, example)),
            SEEDS,
            {name: cost for name, cost in costs.items() if name not in dear},
            {f"randomisation of {name}": f"a map may take {count} forwards" for name, count in dear.items()},
            folder / f"sanity-{digest[:16]}.json",
        )

    @property
    def networks(self) -> int:
        """How often each picture is explained: by the clean network, and by one more per stage and seed."""
        return 1 + self.stages * self.seeds

    def result(self, refused: Collection[str], batch: int, optional: bool) -> dict[str, Any]:
        """What came out, as `Randomisation.to_json` has it; computed once, then read.

        Args:
            refused: methods of which it is known that the network refuses them.
            batch: pictures per pass.
            optional: do without where nothing could be computed.

        Returns:
            Also the methods that the network refused (`left_out`) and pictures that could not be read (`failed`).

        Raises:
            SeewhyError: nothing could be computed, and it is not optional.
        """
        if not self.kept.exists():
            found = self._computed(refused, batch)
            if "methods" not in found and not optional:
                raise SeewhyError(
                    "; ".join(f"{name}: {why}" for name, why in (found["left_out"] | found["failed"]).items())
                )
            with written_whole(self.kept) as file:
                file.write(json.dumps(found).encode())
        kept: dict[str, Any] = json.loads(self.kept.read_text(encoding="utf-8"))
        return kept

    def _computed(self, refused: Collection[str], batch: int) -> dict[str, Any]:
        images, good, failed = read_pictures(self.network, self.pictures)
        names = [name for name in self.methods if name not in refused] if good else []
        left_out: dict[str, str] = {}
        found: dict[str, Any] = {}
        while names and not found:
            methods = [self.methods[name] for name in names]
            try:
                found = randomise(methods, self.network, images, seeds=self.seeds, batch=batch).to_json()
            except NotApplicableError as error:
                if error.place is None:
                    raise
                left_out[f"randomisation of {names.pop(error.place)}"] = str(error)
        return {"left_out": left_out, "failed": failed, **found}
