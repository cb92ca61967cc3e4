"""The mean distance of every patch to the K nearest of many others: exact, in blocks that stay in the cache."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from seewhy.network.precision import autocast, exact_type, free_memory, in_chunks
from seewhy.saliency.patches import Patches, PatchGrid

_SPARE = 16  # candidates beyond K: they show that nothing nearer was left out
_TOLERANCE = 2e-7  # of a mean distance, beyond which it is computed again in double precision
_GROUP = 8  # candidates of which the nearest is looked at first
_ON_CPU = 1 << 21  # distances at once that the caches hold
_SHARE = 0.25  # of the free memory, elsewhere
_BYTES = 32  # per distance: itself, its factor, and what is gathered


def at_once(device: torch.device) -> int:
    """Distances that are computed together."""
    return _ON_CPU if device.type == "cpu" else max(_ON_CPU, int(_SHARE * free_memory(device) / _BYTES))


def mean_of_nearest(
    queries: PatchGrid, others: Patches, nearest: int, position: float, chunk: int | None = None
) -> Float[Tensor, "B h w"]:
    """Per patch the mean of its K smallest distances d / (1 + c * p), p being how far apart the patches lie.

    Candidates come from matrix products in single precision; their distances are computed again by subtraction. What
    was left out is bounded by the rounding errors of the products; patches for which that bound does not prove the
    mean to be exact to 2e-7, as happens in flat parts, are computed again in double precision.

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
    # What was set to lower precision for networks must not reach these products.
    full = torch.get_float32_matmul_precision() == "highest"
    search = _Search(database, nearest, position, torch.float32 if full else exact_type(values.device))
    again = _Search(database, nearest, position, exact_type(values.device))

    def run(start: int, stop: int) -> Tensor:
        part = values[:, start * columns : stop * columns]
        apart = (up[start:stop, None] + across).flatten(0, 1)
        found, excess = search(part, apart)
        for picture, doubtful in enumerate(excess > _TOLERANCE):
            chosen = doubtful.nonzero()[:, 0]
            rows = slice(picture, picture + 1)
            for few in filter(len, chosen.split(max(1, at_once(values.device) // (2 * count)))):
                apart = up[start + few // columns] + across[few % columns]
                found[picture, few] = again(part[rows, few], apart, rows)[0][0]
        return found

    with torch.no_grad(), autocast("float32", values.device):
        parts = in_chunks(run, len(queries.y), chunk or max(1, at_once(values.device) // per_row))
    return torch.cat(parts, 1).view(batch, len(queries.y), columns)


class _Search:
    """Finds nearest patches in a number format."""

    def __init__(
        self, database: Float[Tensor, "B n d"], nearest: int, position: float, dtype: torch.dtype
    ) -> None:
        count = database.shape[1]
        spare = 0 if dtype == torch.float64 else _SPARE
        self.nearest, self.candidates = min(nearest, count), min(nearest + spare, count)
        self.database = database.to(dtype)
        squares = _squares(self.database)
        product = torch.cat([-2 * self.database, torch.ones_like(squares), squares], 2)
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
        squares = _squares(queries)
        factor = apart.to(queries.dtype).sqrt_().add_(1).square_()
        # Squared distances in one product: |q|² + |p|² - 2 q·p.
        product = torch.cat([queries, squares, torch.ones_like(squares)], 2)
        distances = torch.bmm(product, self.product[rows]).div_(factor)
        chosen, reach = _smallest(distances, self.candidates)
        found = _apart(queries, self.database[rows], chosen)
        found /= factor.expand_as(distances).gather(2, chosen).sqrt_()
        if self.candidates > self.nearest:
            found = found.topk(self.nearest, 2, largest=False, sorted=False).values
        mean = found.mean(2)
        if self.nearest == self.database.shape[1] or self.database.dtype == torch.float64:
            return mean.float(), torch.zeros_like(mean)
        # A sum of m products is off by at most m u times the sum of their magnitudes, here (|q| + |p|)²; the norms
        # and the factor are off by a few u more, u being half of epsilon. Patches that were left out wrongly are
        # nearer than the last that was kept, so their norms are not far from the query's.
        norms = squares[..., 0].sqrt()
        others = torch.minimum(self.longest[rows], norms + found.amax(2) * self.farthest)
        terms = (product.shape[2] + 8) * torch.finfo(queries.dtype).eps / 2
        error = terms * (norms + others).square()
        least = (reach - error).clamp_min_(0).sqrt_()
        return mean.float(), (found - least[..., None]).clamp_min_(0).mean(2)


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

    fitting = at_once(chosen.device) // (2 * batch * chosen.shape[2] * length)
    return torch.cat(in_chunks(part, chosen.shape[1], max(1, fitting)), 1)
