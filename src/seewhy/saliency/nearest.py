"""The mean distance of every patch to the K nearest of many others: exact, in blocks that stay in the cache."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from seewhy.network.precision import autocast, chunked, exact_type, free_memory
from seewhy.saliency.patches import Patches, PatchGrid

_SPARE = 16  # candidates beyond K: they show that nothing nearer was left out
_TOLERANCE = 1e-7  # of a mean distance, beyond which it is computed again in double precision
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
    mean to be exact to 1e-7, as happens in flat parts, are computed again in double precision.

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
        (position * (place[:, None] - other)).square()
        for place, other in ((queries.y, others.y), (queries.x, others.x))
    )
    columns = len(queries.x)
    per_row = batch * columns * count
    # What was set to lower precision for networks must not reach these products.
    full = torch.get_float32_matmul_precision() == "highest"
    search = _Search(database, nearest, torch.float32 if full else exact_type(values.device))
    again = _Search(database, nearest, exact_type(values.device))

    def run(start: int, stop: int) -> Tensor:
        part = values[:, start * columns : stop * columns]
        apart = (up[start:stop, None] + across).flatten(0, 1)
        found, proven = search(part, apart)
        for picture, doubtful in enumerate(~proven):
            chosen = doubtful.nonzero()[:, 0]
            for few in chosen.split(max(1, at_once(values.device) // (2 * count))):
                apart = up[start + few // columns] + across[few % columns]
                found[picture, few] = again(part[picture, few][None], apart, picture)[0][0]
        return found

    with torch.no_grad(), autocast("float32", values.device):
        parts = list(chunked(run, len(queries.y), chunk or max(1, at_once(values.device) // per_row)))
    return torch.cat(parts, 1).view(batch, len(queries.y), columns)


class _Search:
    """Finds nearest patches in a number format."""

    def __init__(self, database: Float[Tensor, "B n d"], nearest: int, dtype: torch.dtype) -> None:
        self.nearest = min(nearest, database.shape[1])
        self.candidates = min(self.nearest + _SPARE, database.shape[1])
        self.database = database.to(dtype)
        squares = self.database.square().sum(2, keepdim=True)
        ones = torch.ones_like(squares)
        product = torch.cat([-2 * self.database, ones, squares], 2)
        # Patches infinitely far away make the number one that groups divide.
        product = F.pad(product, (0, 0, 0, -product.shape[1] % _GROUP))
        product[:, squares.shape[1] :, -1] = torch.inf
        self.product = product.transpose(1, 2)
        self.longest = squares.amax(1).sqrt()

    def __call__(
        self, queries: Float[Tensor, "B q d"], apart: Float[Tensor, "q n"], picture: int | None = None
    ) -> tuple[Float[Tensor, "B q"], Bool[Tensor, "B q"]]:
        """Mean distances, and which of them are proven; `apart` holds (c * p)²."""
        rows = slice(None) if picture is None else slice(picture, picture + 1)
        queries = queries.to(self.database.dtype)
        squares = queries.square().sum(2, keepdim=True)
        factor = F.pad(apart.to(queries.dtype), (0, self.product.shape[2] - apart.shape[1]))
        factor = factor.sqrt_().add_(1).square_()
        # Squared distances in one product: |q|² + |p|² - 2 q·p.
        product = torch.cat([queries, squares, torch.ones_like(squares)], 2)
        distances = torch.bmm(product, self.product[rows]).div_(factor)
        chosen, reach = _smallest(distances, self.candidates)
        exact = _apart(queries, self.database[rows], chosen)
        exact /= factor.expand_as(distances).gather(2, chosen).sqrt_()
        kept = exact.topk(self.nearest, 2, largest=False, sorted=False).values
        mean = kept.mean(2)
        if self.candidates == self.database.shape[1]:
            return mean.float(), torch.ones_like(mean, dtype=torch.bool)
        least = (reach - self._error(squares[..., 0], rows)).clamp_min_(0).sqrt_()
        doubt = (kept - least[..., None]).clamp_min_(0).mean(2)
        return mean.float(), doubt <= _TOLERANCE

    def _error(self, squares: Float[Tensor, "B q"], rows: slice) -> Float[Tensor, "B q"]:
        """A bound on the error of a squared distance by the product.

        A sum of m products is off by at most m u times the sum of their magnitudes, u being half of epsilon; here
        that is (|q| + |p|)², and as much again for the norms and what follows.
        """
        terms = self.product.shape[1] + 4
        return terms * torch.finfo(squares.dtype).eps * (squares.sqrt() + self.longest[rows]).square()


def _smallest(
    values: Float[Tensor, "B q n"], count: int
) -> tuple[Int[Tensor, "B q k"], Float[Tensor, "B q"]]:
    """Where the `count` smallest of every row are, in no order, and the largest of them.

    All of them are in the `count` groups whose minima are smallest; a group takes every (n / 8)th value.
    """
    groups = values.unflatten(2, (_GROUP, -1))
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
    first = torch.arange(batch, device=chosen.device)[:, None, None] * count
    near = database.reshape(-1, length).index_select(0, (chosen + first).flatten())
    near = near.view(*chosen.shape, length).sub_(queries[:, :, None])
    return torch.linalg.vector_norm(near, dim=3)
