"""Explanation: the values, and everything needed to trust and repeat them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from seewhy.errors import InputError, SeewhyError
from seewhy.network.layers import Site

if TYPE_CHECKING:
    from seewhy.network.images import Images
    from seewhy.render import Box
    from seewhy.saliency.areas import Area

Part = TypeVar("Part")
Normalize = Literal["max", "minmax", "signed"]
Reduce = Literal["sum", "abs-sum", "abs-max"]
Rectifies = Literal["grid", "input"]


@dataclass(frozen=True)
class Cost:
    """Work in pictures: a batch of 8 run once is 8 forwards.

    Attributes:
        forwards: pictures run through the whole network.
        backwards: pictures times targets differentiated, from the target back to the earliest layer read.
        replays: pictures run from a layer on.
        setup: forwards spent once per network, on choosing the layer and checking what the method needs.
    """

    forwards: int = 0
    backwards: int = 0
    replays: int = 0
    setup: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Cost)))

    def times(self, count: int) -> Cost:
        """So often the same."""
        return Cost(*(count * getattr(self, f.name) for f in fields(Cost)))

    def within(self, bound: Cost) -> bool:
        """Whether no count exceeds the bound's; set-up is bounded by what it is, once per network."""
        return (
            self.forwards <= bound.forwards
            and self.backwards <= bound.backwards
            and self.replays <= bound.replays
        )

    def __str__(self) -> str:
        parts = [f"{getattr(self, f.name)} {f.name}" for f in fields(Cost) if getattr(self, f.name)]
        return ", ".join(parts) or "nothing"


class Predicted(NamedTuple):
    """One of the network's best classes.

    Attributes:
        index: its number.
        label: its name.
        probability: in [0, 1].
    """

    index: int  # type: ignore[assignment]
    label: str
    probability: float


@dataclass(frozen=True)
class Explanation:
    """Maps of B pictures for T targets.

    Attributes:
        maps: per site (a layer and the picture input it sees) the values (B, T, *grid), float32, on the
            network's device, as the method's equation gives them before any final ReLU or scaling.
        scores: what was explained (B, T).
        labels: per picture the T names of what was explained.
        predictions: per picture the network's best classes with their probabilities; empty for other outputs.
        method: name of the explainer.
        settings: its resolved settings.
        signed: whether negative values mean evidence against.
        class_agnostic: whether the maps ignore the target; they are then the same for all T.
        network: name of the network.
        digest: SHA-256 of the network's structure and weights.
        size: height and width (H, W) of the network's first picture input.
        cost: counted work.
        notes: per picture, what to know before trusting its maps.
        reason: why these layers.
        pixels: the network's picture input (B, C, H, W).
        images: where the pictures came from, if they were read from files.
        rectifies: where negative values are cut off for `evidence`: on the `grid`, or at the size of the `input`.
        sizes: height and width of picture inputs, by position or name, that are of another size than the first.
    """

    maps: Mapping[Site, Tensor]
    scores: Float[Tensor, "B T"]
    labels: tuple[tuple[str, ...], ...]
    predictions: tuple[tuple[Predicted, ...], ...]
    method: str
    settings: Mapping[str, Any]
    signed: bool
    class_agnostic: bool
    network: str
    digest: str
    size: tuple[int, int]
    cost: Cost
    notes: tuple[tuple[str, ...], ...]
    reason: str
    pixels: Float[Tensor, "B C H W"] | None = None
    images: Images | None = None
    rectifies: Rectifies = "grid"
    sizes: Mapping[int | str, tuple[int, int]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        sites = ", ".join(f"{site} {tuple(values.shape)}" for site, values in self.maps.items())
        return f"Explanation({self.method} of {self.network}: {sites}; {self.cost})"

    @property
    def cost_per_picture(self) -> str:
        """What one picture took, in words."""
        counts = {"forward": self.cost.forwards, "backward": self.cost.backwards, "replay": self.cost.replays}
        return ", ".join(
            f"{count / len(self):g} {word}{'' if count == len(self) else 's'}"
            for word, count in counts.items()
            if count
        )

    def at(self, site: Site | str | None = None) -> Float[Tensor, "B T *grid"]:
        """The values at one site, named by its layer; the only one by default.

        Raises:
            SeewhyError: there are several sites, or none of that name.
        """
        return self.maps[self._site(site)]

    def size_at(self, site: Site | str | None = None) -> tuple[int, int]:
        """Height and width of the picture input that a site's maps lie on."""
        return self.sizes.get(self._site(site).input, self.size)

    def _site(self, site: Site | str | None) -> Site:
        if site is None and len(self.maps) == 1:
            return next(iter(self.maps))
        for each in self.maps:
            if site in (each, str(each), each.layer):
                return each
        names = ", ".join(str(each) for each in self.maps)
        raise SeewhyError(
            f"there are maps at {names}; name one: `at(site)`, `evidence(site)`"
            if site is None
            else f"no map at {site}; there are maps at {names}"
        )

    @property
    def values(self) -> Float[Tensor, "B T *grid"]:
        """The only site's values."""
        return self.at()

    def grid(self, site: Site | str | None = None) -> Float[Tensor, "B T h w"]:
        """The values without a pixel method's channel axis, joined as its setting `reduce` says."""
        return reduced(self.at(site), self.settings.get("reduce", "sum"))

    def evidence(self, site: Site | str | None = None) -> Float[Tensor, "B T H W"]:
        """What metrics read: rectified on the layer's grid, then upsampled to the input; not normalised.

        ReLU before upsampling is the rule (cam-family contract); the other order leaks across sign changes, and is
        kept for methods that are defined by it (`rectifies`). A pixel method's channels are joined first.
        """
        return upsample(self._positive(self.grid(site)), self.size_at(site)).clamp_min(0)

    def _positive(self, values: Tensor) -> Tensor:
        """Values rectified, where that comes before they are enlarged."""
        return values.clamp_min(0) if self.rectifies == "grid" else values

    def heatmaps(
        self, normalize: Normalize = "max", site: Site | str | None = None
    ) -> Float[Tensor, "B T H W"]:
        """Maps for the eye, at input size.

        Args:
            normalize: `max`: evidence over its maximum, in [0, 1]; `minmax`: evidence stretched to [0, 1];
                `signed`: values over their largest magnitude, in [-1, 1]. Constant maps become 0
                (`max` leaves a positive constant at 1).
            site: which layer, if there are several.
        """
        if normalize == "signed":
            values = upsample(self.grid(site), self.size_at(site))
            return values / _nonzero(values.abs().amax((-2, -1), keepdim=True))
        evidence = self.evidence(site)
        if normalize == "minmax":
            evidence = evidence - evidence.amin((-2, -1), keepdim=True)
        return evidence / _nonzero(evidence.amax((-2, -1), keepdim=True))

    def combined(self, gamma: float = 2.0) -> Float[Tensor, "B T H W"]:
        """One map from several layers: each scaled by tanh(gamma * M / max M), then the largest of all.

        This is how LayerCAM (Jiang et al., 2021) joins shallow and deep layers; it is for the eye, not for
        metrics.
        """
        scaled = [torch.tanh(gamma * self.heatmaps("max", site)) for site in self.maps]
        return torch.stack(scaled).amax(0) / math.tanh(gamma)

    def in_original(self) -> list[tuple[Float[Tensor, "T H0 W0"], Tensor]]:
        """Per picture the evidence in its own frame, and which of its pixels (H0, W0) the network saw.

        Without files the frame is the network's input.
        """
        return [self.original(row) for row in range(len(self))]

    def original(
        self, row: int, site: Site | str | None = None, signed: bool = False
    ) -> tuple[Float[Tensor, "T H0 W0"], Tensor]:
        """One picture's evidence (or signed values) in its own frame, and where the network saw it."""
        values = self.grid(site)[row]
        values = values if signed else self._positive(values)
        if self.images is None:
            size = self.size_at(site)
            maps, seen = upsample(values[None], size)[0], torch.ones(size, dtype=torch.bool)
        else:
            maps = self.images.frames[row].to_original(values)
            seen = self.images.frames[row].visible(maps.device)
        return maps if signed else maps.clamp_min(0), seen

    def boxes(self, threshold: float = 0.2, site: Site | str | None = None) -> list[list[list[Box]]]:
        """Per picture and target, boxes around connected evidence above a share of the maximum.

        Coordinates are pixels of the picture's own frame (Grad-CAM, 2017: 15 % for localisation).
        """
        from seewhy.render import boxes

        return self._parts(lambda values: boxes(values, threshold), site)

    def areas(self, threshold: float = 0.5, site: Site | str | None = None) -> list[list[list[Area]]]:
        """Per picture and target the attention areas: as `boxes`, each with the mask of its pixels (H0, W0).

        Those with the most evidence come first (after Li et al., "Beyond Saliency", 2017).
        """
        from seewhy.saliency.areas import attention_areas

        return self._parts(lambda values: attention_areas(values, threshold), site)

    def _parts(
        self, find: Callable[[Float[np.ndarray, "H0 W0"]], list[Part]], site: Site | str | None
    ) -> list[list[list[Part]]]:
        """Per picture and target what is found in the evidence, in the picture's own frame."""
        return [
            [find(each.cpu().numpy()) for each in self.original(row, site)[0]] for row in range(len(self))
        ]

    def select(self, rows: Sequence[int]) -> Explanation:
        """The explanation of some of the pictures."""
        index = torch.tensor(list(rows), device=self.scores.device)
        return replace(
            self,
            maps={site: values[index] for site, values in self.maps.items()},
            scores=self.scores[index],
            labels=tuple(self.labels[row] for row in rows),
            predictions=tuple(self.predictions[row] for row in rows),
            notes=tuple(self.notes[row] for row in rows),
            pixels=None if self.pixels is None else self.pixels[index.to(self.pixels.device)],
            images=None if self.images is None else self.images.select(rows),
        )

    def save(self, folder: str | Path) -> list[Path]:
        """Write `explanation.npz` (values and facts, no pickle), and a PNG per picture, target and site.

        Returns:
            The files written.
        """
        from seewhy.render.panels import save_panels

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        return [self.to_npz(folder / "explanation.npz"), *save_panels(self, folder)]

    def to_npz(self, path: str | Path) -> Path:
        """Write the values and what they mean to one `.npz` file, without pickling; `from_npz` reads it."""
        facts = {
            **{name: getattr(self, name) for name in _FACTS},
            "sizes": list(self.sizes.items()),
            "sites": [asdict(site) for site in self.maps],
            "cost": asdict(self.cost),
            "paths": None if self.images is None else list(self.images.paths),
        }
        arrays: dict[str, Any] = {"facts": np.array(json.dumps(facts)), "scores": self.scores.cpu().numpy()}
        for place, values in enumerate(self.maps.values()):
            arrays[f"map{place}"] = values.cpu().numpy()
        path = Path(path)
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)
        return path

    @classmethod
    def from_npz(cls, path: str | Path) -> Explanation:
        """Read what `to_npz` wrote; pictures are not part of it.

        Raises:
            InputError: the file holds something else.
        """
        try:
            opened = np.load(path, allow_pickle=False)
        except (ValueError, EOFError):
            opened = None
        if not isinstance(opened, np.lib.npyio.NpzFile):
            raise InputError(f"{path} is not an explanation written by seewhy")
        with opened as file:
            if "facts" not in file:
                raise InputError(f"{path} is not an explanation written by seewhy")
            facts = json.loads(str(file["facts"]))
            facts.pop("paths")
            sites = [Site(**site) for site in facts.pop("sites")]
            maps = {site: torch.from_numpy(file[f"map{place}"]) for place, site in enumerate(sites)}
            scores = torch.from_numpy(file["scores"])
        facts["cost"] = Cost(**facts["cost"])
        facts["size"] = tuple(facts["size"])
        facts["sizes"] = {key: tuple(size) for key, size in facts.get("sizes", [])}
        facts["labels"] = tuple(map(tuple, facts["labels"]))
        facts["notes"] = tuple(map(tuple, facts["notes"]))
        facts["predictions"] = tuple(tuple(Predicted(*each) for each in row) for row in facts["predictions"])
        return cls(maps=maps, scores=scores, **facts)

    def _repr_html_(self) -> str:
        from seewhy.render.panels import notebook

        return notebook([self])


_FACTS = (
    "labels", "predictions", "method", "settings", "signed", "class_agnostic", "network", "digest", "size",
    "notes", "reason", "rectifies",
)  # fmt: skip


class Explanations(Mapping[str, Explanation]):
    """Explanations of the same pictures by several methods, in the order asked for.

    Attributes:
        cost: what all of them took together; passes that they share are counted once.
    """

    def __init__(self, found: Mapping[str, Explanation], cost: Cost) -> None:
        self._found = dict(found)
        self.cost = cost

    def __getitem__(self, name: str) -> Explanation:
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def _repr_html_(self) -> str:
        from seewhy.render.panels import notebook

        return notebook(list(self.values()))


def joined(parts: Sequence[Explanation]) -> Explanation:
    """One explanation from those of consecutive parts of a batch; of several, `images` is the caller's to say."""
    first = parts[0]
    if len(parts) == 1:
        return first
    return replace(
        first,
        maps={site: torch.cat([part.maps[site] for part in parts]) for site in first.maps},
        scores=torch.cat([part.scores for part in parts]),
        labels=tuple(row for part in parts for row in part.labels),
        predictions=tuple(row for part in parts for row in part.predictions),
        notes=tuple(row for part in parts for row in part.notes),
        cost=sum((part.cost for part in parts), Cost()),
        pixels=None if first.pixels is None else torch.cat([p.pixels for p in parts if p.pixels is not None]),
        images=None,
    )


def reduced(values: Float[Tensor, "B T *grid"], how: Reduce = "sum") -> Float[Tensor, "B T h w"]:
    """One number per position; of values with channels (B, T, C, h, w) their sum, or what is asked for."""
    if values.ndim == 4:
        return values
    if how == "sum":
        return values.sum(2)
    return values.abs().sum(2) if how == "abs-sum" else values.abs().amax(2)


def upsample(maps: Float[Tensor, "B T h w"], size: tuple[int, int]) -> Float[Tensor, "B T H W"]:
    """Bilinear, `align_corners=False`: the rule for every map that is brought to input size."""
    if maps.shape[-2:] == size:
        return maps
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)


def _nonzero(values: Tensor) -> Tensor:
    """Divisors: 1 where there is nothing to divide."""
    return torch.where(values > 0, values, 1.0)
