"""Which of a layer's channels belong together: groups by place, by weight, by chance, by likeness, or as given."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor

from seewhy.artifact import Artifact
from seewhy.errors import InputError, MissingExtraError
from seewhy.network.precision import exact_type

Numbers = tuple[Annotated[int, Field(ge=0)], ...]
"""Per channel the number of its group."""
Grouping = Literal["contiguous", "by-weight", "random", "k-means", "agglomerative"] | Numbers | Artifact

_ROUNDS = 100  # of k-means, which settles long before


def grouped(
    maps: Float[Tensor, "N K h w"], weights: Float[Tensor, "N K"], how: Grouping, groups: int, seed: int
) -> Int[Tensor, "N K"]:
    """The group of every channel, from 0; groups of as many channels as possible, where a rule does not say otherwise.

    Args:
        maps: feature maps, which clusters are made of once they are weighted.
        weights: of the channels.
        how: by a rule, or as the user gave it.
        groups: how many (G), at most as many as there are channels; `group_count` for groups that were given.
        seed: of random groups, and of the start of k-means.

    Raises:
        InputError: groups were given, but not one number per channel.
        MissingExtraError: `agglomerative` without scikit-learn.
    """
    count, channels = maps.shape[:2]
    even = torch.arange(channels, device=maps.device) * groups // channels
    if not isinstance(how, str):
        return _given(how, channels).to(maps.device).expand(count, -1)
    if how == "contiguous" or groups == channels:
        return even.expand(count, -1)
    if how == "by-weight":
        order = weights.argsort(dim=1, descending=True, stable=True)
        return torch.empty_like(order).scatter_(1, order, even.expand(count, -1))
    if how == "random":
        order = torch.randperm(channels, generator=torch.Generator().manual_seed(seed)).to(maps.device)
        return torch.empty_like(order).scatter_(0, order, even).expand(count, -1)
    points = (weights[:, :, None] * maps.flatten(2)).to(exact_type(maps.device))
    return k_means(points, groups, seed) if how == "k-means" else _agglomerative(points, groups)


def group_count(how: Grouping, groups: int) -> int:
    """How many groups there are: those that were asked for, or that the user's numbers name.

    Raises:
        InputError: the file holds no such numbers.
    """
    return groups if isinstance(how, str) else len(set(_numbers(how)))


def _numbers(how: Numbers | Artifact) -> Numbers:
    if not isinstance(how, Artifact):
        return how
    try:
        return TypeAdapter(Numbers).validate_json(how.read(), strict=True)
    except ValidationError as error:
        raise InputError(
            f"the groups {how.path} are no JSON list of group numbers from 0, one per channel, as [0, 0, 1, 1]: "
            f"{error.errors()[0]['msg']}"
        ) from None


def _given(how: Numbers | Artifact, channels: int) -> Int[Tensor, " K"]:
    numbers = _numbers(how)
    if len(numbers) != channels:
        where = f"the groups {how.path} are" if isinstance(how, Artifact) else "the groups given are"
        raise InputError(
            f"{where} of {len(numbers)} channels, but the layer has {channels}; give one number per channel"
        )
    places = {number: place for place, number in enumerate(sorted(set(numbers)))}
    return torch.tensor([places[number] for number in numbers])


def k_means(points: Float[Tensor, "N K D"], groups: int, seed: int) -> Int[Tensor, "N K"]:
    """Lloyd's k-means of K points, for N problems at once, each the same as alone; one start (k-means++).

    A cluster that loses its last point keeps its centre, and may stay empty.
    """
    count, channels, _ = points.shape
    problems = torch.arange(count, device=points.device)
    draws = torch.rand(groups, generator=torch.Generator().manual_seed(seed)).to(points)
    chosen = (draws[:1] * channels).long().expand(count)
    centres = points[problems, chosen][:, None]
    nearest = (points - centres).square().sum(2)
    for draw in draws[1:]:
        # The next start: a point, the likelier the further it is from all so far.
        total = nearest.cumsum(1)
        chosen = (total <= draw * total[:, -1:]).sum(1).clamp_max(channels - 1)
        start = points[problems, chosen][:, None]
        nearest = torch.minimum(nearest, (points - start).square().sum(2))
        centres = torch.cat([centres, start], 1)
    labels = torch.full((count, channels), -1, device=points.device)
    for _ in range(_ROUNDS):
        before = labels
        labels = (centres.square().sum(2)[:, None] - 2 * points @ centres.mT).argmin(2)
        if torch.equal(labels, before):
            break
        members = torch.nn.functional.one_hot(labels, groups).to(points).mT
        sizes = members.sum(2, keepdim=True)
        centres = torch.where(sizes > 0, members @ points / sizes.clamp_min(1), centres)
    return labels


def _agglomerative(points: Float[Tensor, "N K D"], groups: int) -> Int[Tensor, "N K"]:
    """Ward's clusters, one problem after the other."""
    try:
        from sklearn.cluster import AgglomerativeClustering
    except ImportError:
        raise MissingExtraError("scikit-learn", "clustering") from None
    ward = AgglomerativeClustering(n_clusters=groups)
    found = [torch.from_numpy(ward.fit_predict(each)) for each in points.cpu().numpy()]
    return torch.stack(found).to(points.device)
