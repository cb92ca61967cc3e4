"""The sections of the speed page: what each measures and what it says of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks import (
    bank,
    cam_family,
    evaluating,
    few_forwards,
    l2caf,
    masks,
    memory,
    page,
    relevance,
    saliency,
    summaries,
)
from benchmarks.rows import HEAD, Row
from seewhy.render.markdown import markdown_table

INTRODUCTION = """# Speed

ResNet-50 with random weights and pictures of 224 x 224, where nothing else is said. The yardstick is one forward:
float32, contiguous NCHW, eval mode, no graph. Candidates are run in turns and each figure is the median of its rounds.
Rounds during which other processes used more than 5 % of the processor are repeated for up to two minutes. The C
library is told to keep the memory that tensors give back, for theirs and ours alike, as the command `seewhy` does and
anybody can by `MALLOC_TRIM_THRESHOLD_` and `MALLOC_MMAP_MAX_`: fetching it anew costs a batch a fifth of its time.
"""


@dataclass(frozen=True)
class Section:
    """A part of the page that is measured by itself.

    Attributes:
        title: its heading.
        text: what its figures are of.
        packages: those whose versions it names.
        measure: its rows; how quiet the machine was goes to the list.
    """

    title: str
    text: str
    packages: tuple[str, ...]
    measure: Callable[[list[str]], Iterator[Row]]

    def body(self, name: str, rows: Sequence[Row], remarks: Sequence[str]) -> str:
        """What stands under the heading."""
        facts = page.provenance(f"python -m benchmarks {name} --write", ["torch", "seewhy", *self.packages])
        parts = [self.text, facts, markdown_table(HEAD, [row.cells for row in rows])]
        if remarks:
            parts.append("\n".join(f"* {each}" for each in remarks))
        return "\n\n".join(parts)


SECTIONS: Mapping[str, Section] = {
    "cam-family": Section(
        "The CAM family",
        f"""\
{cam_family.BATCH} pictures, `{cam_family.LAYER}`. A call includes everything from the tensor of pictures to the maps.
Ours includes the upsampled heatmaps where packages are compared, although torchcam and captum stop at the layer's grid.

A network as it comes has trainable parameters; then pytorch-grad-cam also computes their gradients. A frozen one needs
pictures that require a gradient, or there is no graph at all; pytorch-grad-cam then differentiates down to the
pictures. torchcam and captum, like us, differentiate to the layer only.""",
        ("torchvision", "grad-cam", "torchcam", "captum"),
        lambda remarks: cam_family.rows(cam_family.setting(), remarks),
    ),
    "masks": Section(
        "Methods of many forwards",
        f"""\
One picture. The forwards that they are compared with are the quickest there are on this processor: batches of
{masks.BATCH}, channels-last, inference mode. RISE includes making its masks.

Score-CAM is forwards and little else, theirs and ours. Without AMX a processor's bfloat16 is at most twice as quick as
its float32, so that the bound of 3 asks for a lead of 1.5 in float32.""",
        ("torchvision", "torchcam"),
        masks.rows,
    ),
    "evaluating": Section(
        "Tens of forwards, and evaluating maps",
        f"""\
The public loops are written once more in `benchmarks/loops.py`, from their description: one picture at a time,
float32, contiguous. Group-CAM's code computes the gradients of all parameters; that of
{few_forwards.GROUPS} groups in one batch is of other rules than its loop. Insertion and deletion are those of RISE's
evaluator: a forward per step, pixels exchanged in numpy, {evaluating.ROWS} rows of pixels per step. Boxes are those of
the public WSOL evaluation.

Maps that are judged have no ties here, which evaluators break in ways of their own. Bounds on bfloat16 for Group-CAM
are asked only where the processor has AMX. Between methods, insertion, deletion and
average drop share nothing but the explaining, as every map changes the pictures its own way.""",
        ("torchvision", "numpy", "scipy", "opencv-python-headless"),
        lambda remarks: evaluating.rows(cam_family.setting(), remarks),
    ),
    "l2caf": Section(
        "L2-CAF",
        f"""\
Filters on the signed sphere beside the loop of the public PyTorch code (`attention_loop` in `benchmarks/loops.py`,
the preset `reference-pt`), one picture at a time, on the same activations of {l2caf.CHANNELS:,} channels on a grid of
{l2caf.GRID} x {l2caf.GRID}, computed before. The loop is timed on {l2caf.LOOPED} pictures. The time of a map is that
of a batch by its pictures; that of a picture alone stands below it. The matrix of the pooled linear head is learned
once per network and is not in the time; nor is the forward up to the layer, but where it says whole.

Losses on a curved head have several minima. Ours are compared with the loop's picture by picture, and one that is
higher fails the line, whatever the mean.""",
        ("torchvision",),
        lambda remarks: l2caf.rows(cam_family.setting(), remarks),
    ),
    "bank": Section(
        "Maps from a bank",
        f"""\
ResNet-50 with a {bank.WIDTH}-d embedding, and banks of random entries, which are harder to tell apart than embeddings
are. A map includes the look-up; the bank is in memory. Building is counted from outside.""",
        ("torchvision",),
        bank.rows,
    ),
    "relevance": Section(
        "Relevance propagation",
        f"""\
{relevance.BATCH} pictures, frozen weights. The yardstick is a forward with a graph and the gradient of a score at the
pixels. A call of ours includes the choice of rules, the notes and the books; changed weights are kept from the first
call on. Memory is what the resident process grows by in its first call, and so includes those weights. captum's LRP is
compared where it is right, by the epsilon rule on a chain of layers.""",
        ("torchvision", "captum"),
        relevance.rows,
    ),
    "saliency": Section(
        "Saliency",
        f"""\
Context-aware saliency of {saliency.PICTURES} photographs whose longest side becomes 250 pixels. The loop compares
patch after patch with all others, each by one vectorised call; it is run for every {saliency.SAMPLE}st pixel, and its
time multiplied. The largest difference is that of mean distances, at the smallest scale.""",
        (),
        saliency.rows,
    ),
    "summaries": Section(
        "Visual summaries",
        f"""\
Crisp masks beside the loop of the paper (`crisp_mask` in `benchmarks/loops.py`): one picture at a time, contiguous,
the mask blurred in numpy without a gradient, and rounded between its stages; it is run on {summaries.LOOPED} of the
{summaries.BATCH} pictures. Both lower one objective, that of the preset `reference`, and what they reach is compared:
ours goes through the blur, rounds nothing, and gets there in fewer steps. One mask alone is of ResNet-50 with random
weights, in fewer steps than by default. Matching is of random regions; its memory is what `hough.memory` states.""",
        ("torchvision",),
        summaries.rows,
    ),
    "memory": Section(
        "Memory",
        f"{memory.CALLS:,} calls of each method, each in a process of its own, those of many forwards with few.",
        (),
        lambda _remarks: memory.rows(),
    ),
}


def renewed(text: str, bodies: Mapping[str, str]) -> str:
    """The page with some sections written anew, by name; the others stay as they are, or absent.

    Args:
        text: the page so far.
        bodies: what shall stand under the headings.
    """
    new = {SECTIONS[name].title: body for name, body in bodies.items()}
    return page.renewed(text, INTRODUCTION, [section.title for section in SECTIONS.values()], new)
