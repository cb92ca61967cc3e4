"""`seewhy explain --frames`: which frames of a clip, and where in them, a network looks."""

from __future__ import annotations

import json as to_json
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from seewhy.cli.options import Model, made_by
from seewhy.cli.progress import progress
from seewhy.errors import InputError, SeewhyError, UsageError

if TYPE_CHECKING:
    from seewhy.clips import ClipAttention, ClipExplanation, Footage
    from seewhy.network.network import Network
    from seewhy.render import Report

Animation = Literal["webp", "gif", "none"]
_METHOD = "clip-attention"
_AVERAGED = "the network takes pictures; what it says of a clip's frames is averaged"


def explain_clips(
    source: str,
    model: Model,
    method: ClipAttention,
    target: str | None,
    out: Path,
    cut: tuple[int, int, int],
    animation: Animation,
    json: bool,
) -> int:
    """Explain the clips of a folder of frames or of a video, one at a time.

    Args:
        source: the folder or video.
        model: the network.
        method: how clips are explained.
        target: the class to be raised, in mode `class`.
        out: folder for the report, the strips, the animations, the values and the results.
        cut: frames per clip, which of the frames are taken (every n-th), and clips at most.
        animation: format of the animations.
        json: print the results as JSON.

    Returns:
        The command's exit code.
    """
    from seewhy.clips.reading import stream_clips
    from seewhy.clips.strip import save_animation, strip
    from seewhy.network.images import Failure
    from seewhy.render.report import inlined
    from seewhy.targets import parse_target

    network = model.load_for_pictures()
    assert network.preprocess is not None
    length, every, most = cut
    items: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    report: Report | None = None
    with progress("explaining clips", most) as advance:
        for number, footage in enumerate(stream_clips(source, network.preprocess, length, every)):
            if number == most:
                break
            advance(1)
            if isinstance(footage, Failure):
                failed.append({"clip": footage.path, "reason": footage.reason})
                continue
            if report is None:
                network = taking_clips(network, footage)
            found = method(
                network, footage.pixels[None], None if target is None else parse_target(target, network)
            )
            stem = f"{len(items):06d}"
            for folder in ("strips", "maps", "animations")[: 2 if animation == "none" else 3]:
                (out / folder).mkdir(parents=True, exist_ok=True)
            found.to_npz(out / "maps" / f"{stem}.npz")
            shown = strip(footage, found)
            shown.save(out / "strips" / f"{stem}.png")
            if animation != "none":
                save_animation(footage, found, out / "animations" / f"{stem}.{animation}")
            report = report or _report(network, found)
            told = escape(f"{footage.name}. {'; '.join(found.notes[0])}")
            picture = inlined(shown, f"strip of {footage.name}", 90)
            report.figure(f'<figure class="strip">{picture}<figcaption>{told}</figcaption></figure>\n')
            items.append(_item(footage, found, stem))
    if report is None:
        raise SeewhyError(
            f"none of the clips could be explained: {'; '.join(each['reason'] for each in failed[:3])}"
        )
    for each in failed:
        report.fail(each["clip"], each["reason"])
    report.lead = f"{len(items) + len(failed)} asked = {len(items)} clips explained + {len(failed)} failed"
    report.save(out / "report.html")
    results = {
        "network": network.name,
        "method": method.model_dump(mode="json"),
        "clips": len(items) + len(failed),
        "explained": len(items),
        "failed": failed,
        "report": str(out / "report.html"),
        "items": items,
    }
    (out / "results.json").write_text(to_json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if json:
        print(to_json.dumps(results, indent=1))
    else:
        print(f"{report.lead}\nreport: {results['report']}")
    return 3 if failed else 0


def clip_method(specs: Sequence[str], layers: Sequence[str], mode: str) -> ClipAttention:
    """How clips are explained: `clip-attention`, with settings after a colon.

    Raises:
        UsageError: another method, several of them, several layers, or no such setting.
    """
    from seewhy.clips import ClipAttention

    spec, *others = specs or [_METHOD]
    name, _, text = spec.partition(":")
    if name != _METHOD or others or len(layers) > 1:
        raise UsageError(f"--frames takes one --method, {_METHOD}[:SETTING=VALUE,...], and one --layer")
    settings = {"layer": layers[0]} if layers else {}
    if "mode=" not in text:
        settings["mode"] = mode
    try:
        return ClipAttention.from_text(text, **settings)
    except SeewhyError as error:
        raise UsageError(str(error)) from error


def taking_clips(network: Network, footage: Footage) -> Network:
    """The network, or if it refuses a clip, as one that takes pictures does, its average over the frames.

    Raises:
        InputError: it refuses frames as well.
    """
    from seewhy.clips import FrameAverage
    from seewhy.network.inputs import Arguments
    from seewhy.network.network import Network
    from seewhy.network.preserve import preserved

    clip = footage.pixels[None].to(network.device, network.dtype)
    averaged = Network(
        FrameAverage(network.module),
        preprocess=network.preprocess,
        classes=network.classes,
        name=network.name,
        head=network.head,
        notes=(*network.notes, _AVERAGED),
    )
    refused = ""
    for each in (network, averaged):
        with preserved(each.module, network.device):
            try:
                Arguments((clip,), {}, 1, (0,)).call(each.module)
            except Exception as error:  # whatever a network's own code says to a shape that it does not know
                refused = str(error)
                continue
        if each is averaged:
            print(f"seewhy: {network.name}: {_AVERAGED}", file=sys.stderr)
        return each
    raise InputError(f"{network.name} takes neither clips {tuple(clip.shape)} nor their frames: {refused}")


def _report(network: Network, found: ClipExplanation) -> Report:
    from seewhy.clips import ClipAttention
    from seewhy.render import Report
    from seewhy.render.report import MethodInfo

    budget = "one budget for all frames" if found.joint else "one budget per frame"
    facts = {
        "Network": f"{network.name}, sha256 {found.digest[:12]}",
        "Layer": f"{found.layer}, frames as {found.order}",
        "Bars": "share of the filter's sum of squares" if found.joint else "share of the squared sensitivity",
        **made_by(),
    }
    info = MethodInfo(_METHOD, f"L2-CAF over frames, {budget}", ClipAttention.paper)
    scale = "All maps of a clip have one scale" if found.joint else "Each map has its own scale"
    reading = (
        f"{scale}. Grey hatching: not seen by the network; a frame that is hatched throughout is undefined."
    )
    report = Report(f"Which frames {network.name} looks at", facts, [info], reading=reading)
    for note in network.notes:
        report.note(note)
    return report


def _item(footage: Footage, found: ClipExplanation, stem: str) -> dict[str, Any]:
    """One clip's line in results.json."""
    return {
        "clip": footage.name,
        "frames": list(footage.names),
        "weights": found.weights[0].tolist(),
        "sensitivity": found.sensitivity[0].tolist(),
        "undefined": found.undefined[0].tolist(),
        "layer": found.layer,
        "strip": f"strips/{stem}.png",
        "maps": f"maps/{stem}.npz",
        "notes": list(found.notes[0]),
    }
