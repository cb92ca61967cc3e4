"""Which frames decide: `python -m benchmarks.clips --write` writes docs/clip-maps.md.

Joint budgets on an analytic recurrence, on drawn clips whose deciding frames are known, beside baselines; then a real
sequence, shown.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor, nn

from benchmarks import page
from benchmarks.subjects import data, trained_network
from seewhy import Network, Preprocess, load
from seewhy.clips import ClipAttention, ClipExplanation, Footage, FrameAverage, read_clips, strip
from seewhy.evaluation.retrieval import ranking
from seewhy.network.network import main_output
from seewhy.render.markdown import markdown_table
from seewhy.scenes import Clip, Clips

INDIVIDUALS, SEED = 200, 9  # of no training and of no card
BATCH = 25
DRAWS = 4000  # of the bootstrap
HEADS = 50  # analytic ones
OURS, UNIFORM, GRADIENT = "L2-CAF, joint budget", "uniform", "gradient norm"


class OneFrame(nn.Module):
    """Convolutions on frames, and a recurrence whose gate is open at one frame: h <- h + g (W x - h)."""

    def __init__(self, frame: int) -> None:
        super().__init__()
        self.frame = frame
        self.layer, self.cell = nn.Conv2d(3, 16, 3, 2), nn.Linear(16, 32)

    def forward(self, clips: Float[Tensor, "B F C H W"]) -> Float[Tensor, "B D"]:
        maps = self.layer(clips.flatten(0, 1)).relu().mean((2, 3))
        features = maps.reshape(*clips.shape[:2], -1)
        state: Tensor = features.new_zeros(len(features), 32)
        for frame in range(features.shape[1]):
            state = state + float(frame == self.frame) * (self.cell(features[:, frame]) - state)
        return state


class Fading(nn.Module):
    """What a network says of the frames, remembered with a fading share: h <- keep h + (1 - keep) x."""

    def __init__(self, network: nn.Module, keep: float = 0.6) -> None:
        super().__init__()
        self.network, self.keep = network, keep

    def forward(self, clips: Float[Tensor, "B F C H W"]) -> Float[Tensor, "B D"]:
        answers = main_output(self.network(clips.flatten(0, 1)))
        answers = answers.reshape(*clips.shape[:2], -1)
        state = answers[:, 0]
        for frame in range(1, answers.shape[1]):
            state = self.keep * state + (1 - self.keep) * answers[:, frame]
        return state


def on_one_frame() -> float:
    """The least share of the joint budget on the frame that is read, over random heads."""
    least = 1.0
    for seed in range(HEADS):
        torch.manual_seed(seed)
        found = ClipAttention()(OneFrame(seed % 8), torch.rand(2, 8, 3, 33, 33))
        least = min(least, float(found.weights[:, seed % 8].min()))
    return least


@dataclass(frozen=True)
class Planted:
    """What was measured on drawn clips.

    Attributes:
        shares: per way of weighting, of every clip the share of the weight on deciding frames.
        hits: per way, whether the frame of the largest weight decides.
        on_individual: of every clip, the share of the joint filter's energy on the individual in deciding frames, and
            the individual's share of their area.
        recall: at 1, of these clips with their second views.
        right: which clips are nearest to their own second view.
    """

    shares: Mapping[str, Float[np.ndarray, " N"]]
    hits: Mapping[str, Bool[np.ndarray, " N"]]
    on_individual: Float[np.ndarray, "N 2"]
    recall: float
    right: Bool[np.ndarray, " N"]


@dataclass(frozen=True)
class Batch:
    """What was measured on some individuals; as in `Planted`, and the embeddings of both clips of each."""

    shares: Mapping[str, Float[Tensor, " N"]]
    hits: Mapping[str, Bool[Tensor, " N"]]
    on_individual: Float[np.ndarray, "N 2"]
    vectors: Float[Tensor, "M D"]


def on_batch(start: int) -> Batch:
    """Weights of the frames of the first clips of some individuals, by the bundled network."""
    network = load("demo-clip-retriever")
    torch.manual_seed(0)
    random = load("demo-clip-retriever", weights="random")
    both = Clips(INDIVIDUALS, 2, SEED)[2 * start : 2 * (start + BATCH)]
    drawn = both[::2]
    pixels = torch.stack([footage(each, network).pixels for each in both])
    mine = pixels[::2]
    found = ClipAttention()(network, mine)
    ways = {
        OURS: found.weights,
        UNIFORM: torch.full(mine.shape[:2], 1 / mine.shape[1]),
        GRADIENT: by_gradient(network.module, mine, lambda maps, slope: slope),
        "Grad-CAM of the similarity to itself": by_gradient(network.module, mine, self_similarity),
        "activation norm": by_gradient(network.module, mine, lambda maps, slope: maps),
        "sensitivity": found.sensitivity.square(),
        f"{OURS}, even start only": ClipAttention(restarts=False)(network, mine).weights,
        f"{OURS}, random weights": ClipAttention()(random, mine).weights,
    }
    deciding = torch.tensor([each.deciding for each in drawn])
    on_individual = [inside(each, maps) for each, maps in zip(drawn, found.heatmaps(), strict=True)]
    return Batch(
        {name: (each / each.sum(1, keepdim=True) * deciding).sum(1) for name, each in ways.items()},
        {name: deciding[torch.arange(len(deciding)), each.argmax(1)] for name, each in ways.items()},
        np.array(on_individual),
        embedded(network, pixels),
    )


def on_clips(parts: list[Batch] | None = None) -> Planted:
    """All of them."""
    parts = parts or [on_batch(start) for start in range(0, INDIVIDUALS, BATCH)]
    names = list(parts[0].shares)
    ranked = ranking(torch.cat([each.vectors for each in parts]), torch.arange(2 * INDIVIDUALS) // 2)
    return Planted(
        {name: torch.cat([each.shares[name] for each in parts]).numpy() for name in names},
        {name: torch.cat([each.hits[name] for each in parts]).numpy() for name in names},
        np.concatenate([each.on_individual for each in parts]),
        ranked.recall(1),
        (ranked.first[::2] == 1).numpy(),
    )


def footage(clip: Clip, network: Network) -> Footage:
    """A drawn clip as a network takes it."""
    assert network.preprocess is not None
    frames = [(f"frame {number}", each.image) for number, each in enumerate(clip.frames)]
    return Footage.of(clip.individual, list(frames), network.preprocess)


def embedded(network: Network, clips: Float[Tensor, "B F C H W"]) -> Float[Tensor, "B D"]:
    with torch.inference_mode():
        answer: Tensor = network.module.eval()(clips)
    return answer.clone()


def by_gradient(
    module: nn.Module, clips: Float[Tensor, "B F C H W"], read: Callable[[Tensor, Tensor], Tensor]
) -> Float[Tensor, "B F"]:
    """Squares per frame of what is read off the maps and the gradient of half the embedding's squared length."""
    maps = module.get_submodule("frames")(clips.flatten(0, 1)).detach().requires_grad_()
    pooled = module.get_submodule("pool")(maps).reshape(*clips.shape[:2], -1)
    states, _ = module.get_submodule("memory")(pooled)
    embeddings = module.get_submodule("embedding")(states[:, -1])
    (slope,) = torch.autograd.grad(embeddings.square().sum() / 2, maps)
    return read(maps.detach(), slope).flatten(1).square().sum(1).reshape(clips.shape[:2])


def self_similarity(
    maps: Float[Tensor, "N K h w"], slope: Float[Tensor, "N K h w"]
) -> Float[Tensor, "N h w"]:
    """Grad-CAM, one map per frame."""
    return (slope.mean((2, 3), keepdim=True) * maps).sum(1).clamp_min(0)


def inside(clip: Clip, maps: Float[Tensor, "F H W"]) -> tuple[float, float]:
    """The share of squares on the individual in deciding frames, and of their area."""
    own = [
        frame.truth.objects[0].mask for frame, shows in zip(clip.frames, clip.deciding, strict=True) if shows
    ]
    masks = np.stack([each for each in own if each is not None])
    energy = maps[torch.tensor(clip.deciding)].square().numpy()
    return float(energy[masks].sum() / max(energy.sum(), 1e-12)), float(masks.mean())


def interval(values: Float[np.ndarray, " N"]) -> tuple[float, float, float]:
    """The median, and its 95 % interval by the percentiles of resampled clips."""
    draws = np.random.default_rng(0).integers(0, len(values), (DRAWS, len(values)))
    low, high = np.percentile(np.median(values[draws], axis=1), (2.5, 97.5))
    return float(np.median(values)), float(low), float(high)


def shown(network: Network, found: Planted) -> Image.Image:
    """The clips whose shares lie at the ends and the quarters, one below the other."""
    clips, order = Clips(INDIVIDUALS, 2, SEED), np.argsort(found.shares[OURS], kind="stable")
    rows = [order[round(place * (len(order) - 1))] for place in (1.0, 0.5, 0.25, 0.0)]
    strips = []
    for row in rows:
        clip = clips[2 * int(row)]
        cut = footage(clip, network)
        strips.append(strip(cut, ClipAttention()(network, cut.pixels[None]), side=96, deciding=clip.deciding))
    return stacked(strips)


def stacked(strips: list[Image.Image]) -> Image.Image:
    """Strips of one width, one below the other."""
    whole = Image.new("RGB", (strips[0].width, sum(each.height for each in strips)), "white")
    top = 0
    for each in strips:
        whole.paste(each, (0, top))
        top += each.height
    return whole


@dataclass(frozen=True)
class Crossing:
    """What was seen of the real sequence.

    Attributes:
        average, fading: of all clips, by the two readings.
        footages: the clips.
        on_box: per frame of the averaged reading, how many times its area the pedestrian's box has of the energy.
    """

    average: ClipExplanation
    fading: ClipExplanation
    footages: list[Footage]
    on_box: Float[np.ndarray, " N"]


def on_crossing() -> Crossing:
    """MobileNetV2's pooled features of a street crossing, whole frames, every fifth, averaged and fading."""
    encoder = trained_network()
    encoder.module.classifier = nn.Identity()
    assert encoder.preprocess is not None
    whole = Preprocess(resize=(240, 360), mean=encoder.preprocess.mean, std=encoder.preprocess.std)
    folder = data() / "tracking" / "Crossing"
    footages = read_clips(folder / "img", whole, length=8, every=5)
    pixels = torch.stack([each.pixels for each in footages])
    average, fading = (
        ClipAttention()(Network(each, name="MobileNetV2"), pixels)
        for each in (FrameAverage(encoder.module), Fading(encoder.module))
    )
    text = (folder / "groundtruth_rect.txt").read_text().replace(",", " ").split()
    boxes = np.array(text, float).reshape(-1, 4).round().astype(int)
    times = []
    for maps, each in zip(average.heatmaps(), footages, strict=True):
        for values, name in zip(maps.square().numpy(), each.names, strict=True):
            x, y, wide, high = boxes[int(name.split(".")[0]) - 1]
            part = values[y : y + high, x : x + wide]
            times.append(part.sum() / values.sum() / (part.size / values.size))
    return Crossing(average, fading, footages, np.array(times))


def text(least: float, found: Planted, real: Crossing) -> Iterator[str]:
    """The page, by paragraphs."""
    yield "# Which frames decide"
    yield (
        "How well [maps of clips](clips.md) find the frames that decide, where these are known: the share of a "
        "frame's weight, which is the sum of squares of its part of the filter, on deciding frames."
    )
    yield page.provenance("python -m benchmarks.clips --write", ["torch", "seewhy"])
    yield "## A recurrence that reads one frame"
    yield (
        f"{HEADS} random heads whose gate is open at one of eight frames, two random clips each: the joint budget "
        f"puts at least {least:.4%} on that frame (required: 99 %)."
    )
    yield "## Drawn clips"
    ours = found.shares[OURS]
    median, low, high = interval(ours)
    yield (
        f"The first clips of {INDIVIDUALS} individuals of `Clips(seed={SEED})`, which nothing was trained or tuned "
        "on, and `demo-clip-retriever`. The individual is in one to three of eight frames. Recall@1 among both "
        f"clips of each is {found.recall:.3f}. The joint budget's median share on the deciding frames is "
        f"**{median:.3f}** [{low:.3f}, {high:.3f}]; on the clips that are nearest to their own other clip "
        f"{np.median(ours[found.right]):.3f}, on the others {_median(ours[~found.right])}."
    )
    rows = []
    for name, own in found.shares.items():
        middle, less, more = interval(own)
        gap = "" if name == OURS else "{:+.3f} [{:+.3f}, {:+.3f}]".format(*interval(ours - own))
        above = "" if name == OURS else f"{(ours > own).mean():.0%}"
        rows.append(
            [name, f"{middle:.3f} [{less:.3f}, {more:.3f}]", f"{found.hits[name].mean():.1%}", gap, above]
        )
    yield markdown_table(
        [
            "weights",
            "on deciding frames",
            "the largest decides",
            "joint budget is above it by",
            "above it on",
        ],
        rows,
    )
    yield (
        "Medians over clips with 95 % intervals (percentiles of resampled clips). *Gradient norm*: the squared "
        "norm of the gradient of half the embedding's squared length at the same layer, frame by frame; "
        "*Grad-CAM*: of the same number, rectified, squared; *activation norm* knows nothing of what follows; "
        "*sensitivity*: the squared norm of the embedding's derivatives by the filter, as `sensitivity` gives them."
    )
    grad_cam = found.shares["Grad-CAM of the similarity to itself"]
    yield (
        "So the joint budget finds the deciding frames better than uniform weights and than the gradient's norm. "
        "It does **not** find them better than Grad-CAM of the similarity to itself, whose median is "
        f"{np.median(grad_cam):.3f} at the cost of one backward pass; as on [pictures](retrieval-maps.md), the two "
        "are nearly one answer. A search from an even filter alone ends in a frame that does not matter on "
        f"{1 - found.hits[f'{OURS}, even start only'].mean():.1%} of the clips, which is why single frames are "
        "tried too. Of an untrained GRU the last frame has most of the weight, whatever it shows."
    )
    on, area = np.median(found.on_individual, axis=0)
    yield (
        f"Within the deciding frames the individual covers {area:.1%} of the area, and has {on:.1%} of the filter's "
        "energy (medians)."
    )
    yield (
        "The clips with the largest, the median, the lower quartile's and the smallest share. Above, the frames; "
        "below, the filter on them, one scale per clip; a green line under frames that show the individual; the "
        "bars are the weights."
    )
    yield "![four drawn clips with maps and weights](images/clips-planted.webp)"
    yield "## A real sequence"
    spread = real.average.weights
    yield (
        "*Crossing* (OTB-2013), every fifth of its 120 frames, as three clips of eight, and MobileNetV2's layers "
        "as trained on ImageNet on whole frames, pooled to 1,280 numbers. Averaged over the frames, all count "
        f"nearly alike: weights from {float(spread.min()):.1%} to {float(spread.max()):.1%}, where one in eight is "
        "12.5 %. Remembered by a fading memory, h <- 0.6 h + 0.4 x, the later a frame, the more: the last two "
        f"frames have {float(real.fading.weights[:, -2:].sum(1).median()):.0%} of the weight. The pedestrian that "
        f"trackers follow is small, and no class of ImageNet: its box has {np.median(real.on_box):.2f} times the "
        "energy that its area would have by chance (median over frames). Such a filter tells what the embedding is "
        "made of, not who matters to us."
    )
    yield "The first clip, averaged:"
    yield "![the crossing, averaged](images/clips-crossing-average.webp)"
    yield "The same clip, remembered with a fading share:"
    yield "![the crossing, with a fading memory](images/clips-crossing-fading.webp)"


def _median(values: Float[np.ndarray, " N"]) -> str:
    return f"{np.median(values):.3f}" if len(values) else "(there are none)"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clips", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/clip-maps.md and its pictures")
    chosen = parser.parse_args()
    found, real = on_clips(), on_crossing()
    made = "\n\n".join(text(on_one_frame(), found, real)) + "\n"
    if chosen.write:
        images = page.DOCS / "images"
        shown(load("demo-clip-retriever"), found).save(images / "clips-planted.webp", quality=80)
        for name, each in (("average", real.average), ("fading", real.fading)):
            strip(real.footages[0], each, 0, 150).save(images / f"clips-crossing-{name}.webp", quality=80)
        page.write(page.DOCS / "clip-maps.md", made)
    else:
        print(made)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
