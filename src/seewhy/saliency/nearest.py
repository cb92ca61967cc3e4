"""The mean distance of every patch to the K nearest of many others: exact, in blocks that stay in the cache."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from seewhy.network.precision import autocast, exact_type, free_memory, in_chunks
from seewhy.saliency.patches import Patches, PatchGrid

_SPARE = 24  # candidates beyond K: they show that nothing nearer was left out
_REST = 2e-3  # of the variance, that reduced patches hold in one number
_WORTH = 0.75  # of a patch's length, beyond which reducing saves nothing
_TOLERANCE = 2e-7  # of a mean distance, beyond which it is searched for again
_GROUP = 8  # candidates of which the nearest is looked at first
_ON_CPU = 1 << 22  # distances at once, on processors: few enough for the caches, many enough for the calls
_GATHERED = 1 << 20  # numbers of candidates at once, on processors
_SHARE = 0.25  # of the free memory, elsewhere
_BYTES = 32  # per distance: itself, its factor, and what is gathered


def at_once(device: torch.device) -> int:
    """Distances that are computed together."""
    return _ON_CPU if device.type == "cpu" else max(_ON_CPU, int(_SHARE * free_memory(device) / _BYTES))


def mean_of_nearest(
    queries: PatchGrid, others: Patches, nearest: int, position: float, chunk: int | None = None
) -> Float[Tensor, "B h w"]:
    """Per patch the mean of its K smallest distances d / (1 + c * p), p being how far apart the patches lie.

    Candidates come from matrix products in single precision, of patches reduced to their principal components and the
    norm of the rest, which are never farther apart than the patches; their distances are computed again by subtraction.
    What was left out is bounded by the rounding errors of the products. Patches for which that bound does not prove the
    mean to be exact to 2e-7 are searched for again with whole patches, and then, as happens in flat parts, in double
    precision.

    Args:
        queries: the patches asked for.
        others: those that they are compared with; the mean is over all where there are no more than K.
        nearest: K.
        position: c.
        chunk: rows of queries at once; as many as fit the caches, or a quarter of a device's free memory, by default.

    Returns:
        (B, h, w), float32.
    """
    batch, count, _ = others.values.shape
    middle = others.values.mean(1, keepdim=True)
    # Around zero squares are smallest, and so are the errors of their differences.
    values, database = queries.values - middle, others.values - middle
    up, across = (
        F.pad((position * (place[:, None] - other)).square(), (0, -count % _GROUP))
        for place, other in ((queries.y, others.y), (queries.x, others.x))
    )
    columns = len(queries.x)
    per_row = batch * columns * count
    exact = exact_type(values.device)
    searches: list[tuple[torch.dtype, Tensor | None]] = [(exact, None)]
    # What was set to lower precision for networks must not reach these products.
    if torch.get_float32_matmul_precision() == "highest" or exact == torch.float32:
        searches.insert(0, (torch.float32, None))
        axes = _principal(database) if exact == torch.float64 and nearest < count else None
        if axes is not None:
            searches.insert(0, (torch.float32, axes))
    quickest = _Search(database, nearest, position, *searches[0])

    def first(start: int, stop: int) -> tuple[Tensor, Tensor]:
        apart = (up[start:stop, None] + across).flatten(0, 1)
        return quickest(values[:, start * columns : stop * columns], apart)

    def again(search: _Search, picture: int, chosen: Int[Tensor, " c"]) -> tuple[Tensor, Tensor]:
        rows = slice(picture, picture + 1)

        def part(start: int, stop: int) -> tuple[Tensor, Tensor]:
            few = chosen[start:stop]
            return search(values[rows, few], up[few // columns] + across[few % columns], rows)

        return _joined(in_chunks(part, len(chosen), max(1, at_once(values.device) // (2 * count))))

    with torch.no_grad(), autocast("float32", values.device):
        rows = chunk or max(1, at_once(values.device) // per_row)
        means, excess = _joined(in_chunks(first, len(queries.y), rows))
        for kind in searches[1:]:
            if not (excess > _TOLERANCE).any():
                break
            search = _Search(database, nearest, position, *kind)
            for picture, doubtful in enumerate(excess > _TOLERANCE):
                chosen = doubtful.nonzero()[:, 0]
                if len(chosen):
                    found = again(search, picture, chosen)
                    means[picture, chosen], excess[picture, chosen] = (each[0] for each in found)
    return means.view(batch, len(queries.y), columns)


def _joined(parts: list[tuple[Tensor, Tensor]]) -> tuple[Float[Tensor, "B q"], Float[Tensor, "B q"]]:
    means, excess = zip(*parts, strict=True)
    return torch.cat(means, 1), torch.cat(excess, 1)


def _principal(database: Float[Tensor, "B n d"]) -> Float[Tensor, "B d m"] | None:
    """The directions that hold nearly all of what lies around zero; None where these are most of them."""
    exact = database.double()
    spread, directions = torch.linalg.eigh(exact.mT @ exact)  # ascending
    rest = spread.clamp_min(0).cumsum(1)
    spare = int((rest <= _REST * rest[:, -1:]).sum(1).amin())
    length = database.shape[2]
    return None if length - spare > _WORTH * length else directions[..., spare:]


def _reduced(values: Float[Tensor, "B n d"], axes: Float[Tensor, "B d m"]) -> Float[Tensor, "B n e"]:
    """Values along the axes, and the norm of what is left of each: no two are farther apart than they were."""
    exact = values.to(axes.dtype)
    along = exact @ axes
    rest = exact.square().sum(2, keepdim=True) - along.square().sum(2, keepdim=True)
    return torch.cat([along, rest.clamp_min_(0).sqrt_()], 2).to(values.dtype)


class _Search:
    """Finds nearest patches in a number format: those that `axes` reduce, whole ones without."""

    def __init__(
        self,
        database: Float[Tensor, "B n d"],
        nearest: int,
        position: float,
        dtype: torch.dtype,
        axes: Float[Tensor, "B d m"] | None = None,
    ) -> None:
        count = database.shape[1]
        spare = 0 if dtype == torch.float64 else _SPARE
        self.nearest, self.candidates = min(nearest, count), min(nearest + spare, count)
        self.database, self.axes = database.to(dtype), axes
        seen = self.database if axes is None else _reduced(self.database, axes)
        squares = _squares(seen)
        product = torch.cat([-2 * seen, torch.ones_like(squares), squares], 2)
        # Patches infinitely far away make the number one that groups divide.
        product = F.pad(product, (0, 0, 0, -count % _GROUP))
        product[:, count:, -1] = torch.inf
        self.product = product.transpose(1, 2)
        self.longest = squares.amax(1).sqrt()
        self.farthest = 1 + position * 2**0.5  # by what distances are divided from corner to corner

    def __call__(
        self, queries: Float[Tensor, "B q d"], apart: Float[Tensor, "q n"], rows: slice = slice(None)
    ) -> tuple[Float[Tensor, "B q"], Float[Tensor, "B q"]]:
        """Mean distances, and by how much each can be too large for what was left out; overwrites `apart`, (c * p)²."""
        queries = queries.to(self.database.dtype)
        seen = queries if self.axes is None else _reduced(queries, self.axes[rows])
        squares = _squares(seen)
        factor = apart.to(queries.dtype).sqrt_().add_(1).square_()
        # Squared distances in one product: |q|² + |p|² - 2 q·p.
        product = torch.cat([seen, squares, torch.ones_like(squares)], 2)
        distances = torch.bmm(product, self.product[rows]).div_(factor)
        chosen, reach = _smallest(distances, self.candidates)
        found = _apart(queries, self.database[rows], chosen)
        found /= factor.expand_as(distances).gather(2, chosen).sqrt_()
        if self.candidates > self.nearest:
            found = found.topk(self.nearest, 2, largest=False, sorted=False).values
        mean = found.mean(2).float()
        if self.candidates == self.database.shape[1] or self.database.dtype == torch.float64:
            return mean, torch.zeros_like(mean)
        # A sum of m products is off by at most m u times the sum of their magnitudes, here (|q| + |p|)²; the norms, the
        # factor and what patches were reduced to are off by a few u more, u being half of epsilon. Patches that were
        # left out wrongly are nearer than the last that was kept, so their norms are not far from the query's.
        norms = squares[..., 0].sqrt()
        others = torch.minimum(self.longest[rows], norms + found.amax(2) * self.farthest)
        terms = (product.shape[2] + 16) * torch.finfo(queries.dtype).eps / 2
        error = terms * (norms + others).square()
        least = (reach - error).clamp_min_(0).sqrt_()
        return mean, (found - least[..., None]).clamp_min_(0).mean(2)


def _squares(values: Float[Tensor, "B n d"]) -> Float[Tensor, "B n 1"]:
    """Squared norms; their sums are rounded once."""
    return values.square().sum(2, keepdim=True, dtype=exact_type(values.device)).to(values.dtype)


def _smallest(
    values: Float[Tensor, "B q n"], count: int
) -> tuple[Int[Tensor, "B q k"], Float[Tensor, "B q"]]:
    """Where the `count` smallest of every row are, in no order, and the largest of them.

    All of them are in the `count` groups whose minima are smallest; a group takes every (n / 8)th value.
    """
    groups = values.view(*values.shape[:2], _GROUP, -1)
    if count * _GROUP >= values.shape[2]:
        found = values.topk(count, 2, largest=False, sorted=False)
        return found.indices, found.values.amax(2)
    best = groups.amin(2).topk(count, 2, largest=False, sorted=False).indices
    within = groups.gather(3, best[:, :, None].expand(-1, -1, _GROUP, -1)).flatten(2)
    found = within.topk(count, 2, largest=False, sorted=False)
    member = found.indices.div(count, rounding_mode="floor")
    group = best.gather(2, found.indices - member * count)
    return member * groups.shape[3] + group, found.values.amax(2)


def _apart(
    queries: Float[Tensor, "B q d"], database: Float[Tensor, "B n d"], chosen: Int[Tensor, "B q k"]
) -> Float[Tensor, "B q k"]:
    """Euclidean distances to the chosen patches, by subtraction."""
    batch, count, length = database.shape
    table = database.reshape(-1, length)
    places = chosen + torch.arange(batch, device=chosen.device)[:, None, None] * count

    def part(start: int, stop: int) -> Tensor:
        near = table.index_select(0, places[:, start:stop].flatten())
        near = near.view(batch, stop - start, -1, length).sub_(queries[:, start:stop, None])
        distances: Tensor = torch.linalg.vector_norm(near, dim=3)
        return distances

    most = _GATHERED if chosen.device.type == "cpu" else at_once(chosen.device)
    fitting = most // (batch * chosen.shape[2] * length)
    return torch.cat(in_chunks(part, chosen.shape[1], max(1, fitting)), 1)
