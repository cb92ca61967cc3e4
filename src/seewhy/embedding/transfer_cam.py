"""TransferCAM: the channel weights of the nearest pictures of a bank, so that nothing is differentiated."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from seewhy.artifact import Artifact
from seewhy.embedding.bank import HEAD, Neighbours, WeightBank, bank_folder, opened
from seewhy.embedding.embedding_grad_cam import weighted
from seewhy.errors import NotApplicableError
from seewhy.explainers.activation import check_finite
from seewhy.explainers.base import Computed, Explainer, Workload
from seewhy.explainers.pixels import remarks
from seewhy.explainers.study import Study
from seewhy.explanation import Cost
from seewhy.network.layers import Choice
from seewhy.network.network import Network, main_output
from seewhy.network.precision import Precision


class TransferCAM(Explainer):
    """Weight transfer of Grad-CAM for embedding networks (Chen et al., WACV 2020): sum_k a_k A_k, a_k from a bank.

    The picture's embedding is looked up in a `WeightBank` of this very network, and its feature maps get the weights of
    what is nearest there. It takes a forward pass. Whatever the target, the map shows what made the nearest training
    pictures match their class.
    """

    title: ClassVar[str] = "Transferred Grad-CAM"
    paper: ClassVar[str] = "Chen et al., WACV 2020"
    needs: ClassVar[str] = "a bank of weights of this very network"
    class_agnostic: ClassVar[bool] = True

    name: Literal["transfer-cam"] = "transfer-cam"
    bank: Artifact | None = Field(
        default=None,
        description="The bank's folder, as `seewhy bank build` makes it; known by its bank.json.",
    )
    neighbours: int = Field(default=1, ge=1, description="Entries whose weights are blended.")
    temperature: float = Field(
        default=1.0,
        gt=0,
        description="Of the softmax over minus their distances, in units of the median distance in the bank.",
    )
    index: str = Field(
        default="exact",
        min_length=1,
        description="`exact`, or the factory text of a faiss index, such as HNSW32.",
    )
    shuffled: bool = Field(
        default=False, description="A control: weights of entries drawn at random, whatever is nearest."
    )
    precision: Precision = Field(
        default="float32", description="Number format up to the layer. `auto`: bfloat16 where it is faster."
    )

    @field_validator("bank", mode="before")
    @classmethod
    def _of_folder(cls, value: Any) -> Any:
        if isinstance(value, WeightBank):
            value = value.folder
        return bank_folder(value) / HEAD if isinstance(value, str | Path) else value

    def plan(self, work: Workload, network: Network) -> Cost:
        return Cost(forwards=work.pictures)

    def request(self, study: Study) -> None:
        study.request(self._choice(study, self._bank(study)[0]), False, self.precision)

    def compute(self, study: Study) -> Computed:
        bank, unknown = self._bank(study)
        choice = self._choice(study, bank)
        (site,) = choice.calls
        feature = study.feature(site, False, self.precision)
        check_finite(feature, study)
        embeddings = main_output(study.outputs, bank.recipe.output).detach().flatten(1)
        found = bank.nearest(embeddings.float(), min(self.neighbours, len(bank.entries)), self.index)
        weights = bank.weights(found, feature.activation.shape[1], self.temperature, self.shuffled)
        maps = weighted(weights[:, None], feature.activation).expand(-1, study.scores.shape[1], -1, -1)
        notes = tuple(
            (*remarks([maps], row), *_origin(bank, found, row), *filter(None, [unknown]))
            for row in range(study.arguments.batch)
        )
        return Computed({site: maps}, notes, "the layer of the bank", study.used(self.precision, False))

    def _bank(self, study: Study) -> tuple[WeightBank, str]:
        """The bank, and what is not known of how it fits; empty where all is."""
        if self.bank is None:
            raise NotApplicableError(
                "there is no bank to look weights up in: make one with `seewhy bank build DATA --model M --out "
                "bank/`, and pass bank=bank/"
            )
        bank = opened(self.bank, study.network.device)
        return bank, bank.check(study.network, study.digest)

    @staticmethod
    def _choice(study: Study, bank: WeightBank) -> Choice:
        choice = study.layers(bank.recipe.layer)
        if len(choice.calls) != 1:
            raise NotApplicableError(
                f"{study.network.name} takes several pictures; a bank holds weights of one"
            )
        return choice


def _origin(bank: WeightBank, found: Neighbours, row: int) -> list[str]:
    """Whose weights a picture got, and how near that is."""
    place, distance = int(found.places[row, 0]), float(found.distances[row, 0])
    entries = bank.entries
    said = f"weights of {entries.ids[place]!r} ({entries.labels[place]}), at distance {distance:.4g}"
    if found.places.shape[1] > 1:
        said += f", blended with {found.places.shape[1] - 1} more"
    notes = [said + (f"; there: {entries.remarks[place]}" if entries.remarks[place] else "")]
    if bool(found.far[row]):
        notes.append(
            f"the bank knows nothing like it: {distance:.4g} is farther than 99 % of its entries are from their "
            f"nearest ({bank.far_from:.4g})"
        )
    return notes
