"""The speed of Group-CAM and Integrated Grad-CAM, tens of forwards each, on ResNet-50 at 224."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch

from benchmarks import loops
from benchmarks.cam_family import FORWARD, LAYER, Setting
from benchmarks.counts import counted
from benchmarks.rows import Row, at_least, at_most
from benchmarks.timing import interleaved
from seewhy import Explainer, GroupCAM, IntegratedGradCAM, ScoreCAM

GROUPS, STEPS = 32, 50
CHANNELS = 2048  # of the layer
LOOP, AT_ONCE = "its public loop", "its public code of one batch"
_CLASS = 3


def rows(of: Setting, remarks: list[str]) -> Iterator[Row]:
    """All measurements; how quiet the machine was goes to `remarks`."""
    yield from group_cam(of, remarks)
    yield from beside_score_cam(of, remarks)
    yield from integrated(of, remarks)


def group_cam(of: Setting, remarks: list[str]) -> Iterator[Row]:
    """Group-CAM of one picture: its forwards, and its time beside a forward and beside its public code."""
    image, name = of.images[:1], f"group-cam, {GROUPS} groups, one picture"
    exact, lower = (GroupCAM(layer=LAYER, groups=GROUPS, precision=each) for each in ("float32", "bfloat16"))
    theirs = {
        LOOP: partial(loops.group_cam, of.module, LAYER, image, _CLASS, GROUPS),
        AT_ONCE: partial(loops.group_cam_at_once, of.module, LAYER, image, _CLASS, GROUPS),
    }
    yield forwards(of, exact, name, 35)
    remarks.append(f"group-cam, map in float32 beside that of its public loop: {apart(of, exact)}")
    candidates: dict[str, Callable[[], object]] = {
        FORWARD: of.forward(image),
        "float32": lambda: exact(of.network, image, _CLASS).heatmaps(),
        "bfloat16": lambda: lower(of.network, image, _CLASS).heatmaps(),
        **theirs,
    }
    times = interleaved(candidates, rounds=5, warm_up=1, patience=120)
    of.module.zero_grad()
    remarks.append(f"group-cam: {times}")
    yield at_most(f"{name}, in float32", FORWARD, times, "float32", 35.0)
    for peer in theirs:
        yield at_least(f"{name}, in float32", peer, times, peer, "float32", 1.4)
        yield at_least(f"{name}, in bfloat16", peer, times, peer, "bfloat16", 3.0 if has_amx() else None)


def apart(of: Setting, explainer: GroupCAM) -> str:
    """How far our map and the public loop's lie apart, both stretched to [0, 1]."""
    image = of.images[:1]
    ours = explainer(of.network, image, _CLASS).heatmaps("minmax")[0, 0]
    theirs = loops.group_cam(of.module, LAYER, image, _CLASS, explainer.groups)
    of.module.zero_grad()
    return f"{float((ours - theirs).abs().max()):.1e} at most"


def beside_score_cam(of: Setting, remarks: list[str]) -> Iterator[Row]:
    """Group-CAM against a Score-CAM that is batched as well; minutes, so of few rounds."""
    image = of.images[:1]
    group, score = GroupCAM(layer=LAYER, groups=GROUPS), ScoreCAM(layer=LAYER)
    group(of.network, image, _CLASS)
    times = interleaved(
        {
            "score-cam": lambda: score(of.network, image, _CLASS),
            "group-cam": lambda: group(of.network, image, _CLASS),
        },
        rounds=2,
        warm_up=0,
        patience=0,
        least=2,
    )
    remarks.append(f"group-cam beside score-cam: {times}")
    title = f"our score-cam, {CHANNELS:,} masks"
    yield at_least(f"group-cam, {GROUPS} groups, one picture", title, times, "score-cam", "group-cam", 50.0)


def integrated(of: Setting, remarks: list[str]) -> Iterator[Row]:
    """Integrated Grad-CAM of one picture, in forwards."""
    image, name = of.images[:1], f"integrated-grad-cam, {STEPS} steps, one picture"
    explainer = IntegratedGradCAM(layer=LAYER, steps=STEPS)
    yield forwards(of, explainer, name, 55)
    times = interleaved(
        {FORWARD: of.forward(image), "ours": lambda: explainer(of.network, image, _CLASS)},
        rounds=5,
        warm_up=1,
        patience=60,
    )
    remarks.append(f"integrated-grad-cam: {times}")
    yield at_most(name, FORWARD, times, "ours", 55.0)


def forwards(of: Setting, explainer: Explainer, name: str, most: int) -> Row:
    """Pictures that the first layer sees, once the network is known."""

    def run() -> object:
        return explainer(of.network, of.images[:1], _CLASS)

    run()
    found = counted(run, of.module.get_submodule("conv1"), of.module.get_submodule("fc"))
    title = f"{name}: pictures through trunk / head, backward calls"
    return Row(title, "", "", str(found), "", f"trunk <= {most}", found.trunk <= most)


def has_amx() -> bool:
    """Whether the processor has matrix units for bfloat16."""
    features: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # since torch 2.10
    return bool(features.get("amx_bf16"))
