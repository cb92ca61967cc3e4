"""List, resolve and choose the layers whose feature maps an explanation is drawn on."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from seewhy.errors import LayerError
from seewhy.network.layout import Layout
from seewhy.network.survey import Call, Survey

_IN_ATTENTION = "inside attention"
_ATTENTION = re.compile(r"attention|attn", re.IGNORECASE)


@dataclass(frozen=True)
class Site:
    """Where a map lies: one call of one layer, for one picture input.

    Attributes:
        layer: dotted name of the module; `PIXELS` for a map of the input itself.
        call: which of its calls, for a module that is called more than once.
        input: position or name of the picture input that the map belongs to.
    """

    layer: str
    call: int = 0
    input: int | str = 0

    def __str__(self) -> str:
        call = f"[{self.call}]" if self.call else ""
        return self.layer + call + (f" of input {self.input}" if self.input else "")


PIXELS = "pixels"
"""Stands for a layer's name where a map lies on the picture itself."""


@dataclass(frozen=True)
class Layer:
    """One line of `seewhy layers`.

    Attributes:
        name: dotted name; with `[1]` for a second call, and so on.
        kind: class name of the module.
        shape: output shape for one picture.
        layout: where positions and channels are; None without positions.
        chosen: whether it is the automatic choice.
        reason: why it was chosen or passed over; empty where there is nothing to say.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    layout: Layout | None
    chosen: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Choice:
    """The layers that a method explains, resolved.

    Attributes:
        calls: the call behind every site.
        reason: why these, for people.
    """

    calls: dict[Site, Call]
    reason: str


def choose(survey: Survey, attention: Sequence[str]) -> Choice:
    """The last feature map whose positions the target depends on, upstream of class scores and pooling.

    With several picture inputs, the last such map of each input that depends on no other; where the inputs
    are joined before the first such map, the last one of all.

    Args:
        survey: what the network computes.
        attention: names of the attention modules (`attention_modules`), whose insides are passed over.

    Raises:
        LayerError: no module returns a feature map with more than one position.
    """
    _check_steady(survey)
    verdicts = {place: _verdict(survey, call, attention) for place, call in enumerate(survey.calls)}
    good = [call for place, call in enumerate(survey.calls) if verdicts[place] == ""]
    reason = "the last feature map whose positions the target depends on"
    if not good:
        good = [call for place, call in enumerate(survey.calls) if verdicts[place] == _IN_ATTENTION]
    if not good:
        good = [c for c in survey.calls if c.layout is not None and not c.passes_on and c.name]
        reason = "the last feature map; no map was found whose positions the target depends on"
    good = sorted((call for call in good if _extent(call) > 1), key=lambda call: call.source)
    if not good:
        raise LayerError(
            "no module of this network returns a feature map with more than one position; "
            "`seewhy layers` shows what its modules return"
        )
    inputs = list(dict.fromkeys(key for call in survey.calls for key in call.inputs))
    sites: dict[Site, Call] = {}
    for key in inputs if len(inputs) > 1 else []:
        own = [call for call in good if call.inputs == (key,)]
        if own:
            call = _outermost(survey, own[-1])
            sites[Site(call.name, call.index, key)] = call
    if not sites:
        call = _outermost(survey, good[-1])
        sites[Site(call.name, call.index, call.inputs[0])] = call
    return Choice(sites, reason)


def resolve(survey: Survey, names: Sequence[str]) -> Choice:
    """The layers that a user named; `name[1]` means the second call of a module that is called often.

    A module that is called several times is explained at its last call (for each picture input).

    Raises:
        LayerError: an unknown name, a module that did not run, or one without positions.
    """
    _check_steady(survey)
    sites: dict[Site, Call] = {}
    for text in names:
        name, index = text, None
        found = survey.of(name)
        if not found and (match := re.fullmatch(r"(.+)\[(\d+)\]", text)):
            name, index = match[1], int(match[2])
            found = [call for call in survey.of(name) if call.index == index]
        if not found:
            raise LayerError(_unknown(survey, text))
        maps = [call for call in found if call.layout is not None]
        if not maps:
            raise LayerError(
                f"layer {text!r} ({found[-1].kind}) returns {_shown(found[-1].shapes)}, which has no "
                f"positions to draw a map on; layers that have: {_examples(survey)}"
            )
        if any(call.axes[call.leaf] is None for call in maps):
            raise LayerError(f"layer {text!r}: which axis holds the batch could not be told")
        last = {call.inputs: call for call in maps}
        for inputs, call in last.items() if index is None else [(maps[-1].inputs, maps[-1])]:
            sites[Site(name, call.index, inputs[0])] = call
    return Choice(sites, "asked for by name")


def describe(
    survey: Survey, attention: Sequence[str], stages: Mapping[str, str] | None = None
) -> list[Layer]:
    """Every module call that returns tensors, in the order of computation, and which one is chosen and why.

    Args:
        survey: what the network computes.
        attention: names of the attention modules.
        stages: remarks about layers that the network itself names as its stages (`timm_stages`).
    """
    try:
        choice = choose(survey, attention)
        chosen, why = {(site.layer, site.call) for site in choice.calls}, choice.reason
    except LayerError:
        chosen, why = set(), ""
    lines = []
    for call in survey.calls:
        if not call.name or not call.shapes:
            continue
        is_chosen = (call.name, call.index) in chosen
        reason = why if is_chosen else _verdict(survey, call, attention)
        reason = "; ".join(filter(None, [reason, (stages or {}).get(call.name)]))
        name = call.name + (f"[{call.index}]" if len(survey.of(call.name)) > 1 else "")
        lines.append(Layer(name, call.kind, call.shape, call.layout, is_chosen, reason))
    return lines


def attention_modules(module: nn.Module) -> list[str]:
    """Names of the attention modules, whose queries, keys and values are not feature maps.

    Of nested ones the innermost, as whole transformer blocks are often called attention blocks too.
    """
    named = [
        name
        for name, each in module.named_modules()
        if name and (isinstance(each, nn.MultiheadAttention) or _ATTENTION.search(type(each).__name__))
    ]
    return [name for name in named if not any(other.startswith(name + ".") for other in named)]


def timm_stages(module: nn.Module) -> dict[str, str]:
    """The layers that timm itself lists as a network's feature stages (`feature_info`), with their reductions."""
    listed = getattr(module, "feature_info", None)
    infos = getattr(listed, "info", listed)
    if not isinstance(infos, list) or not all(isinstance(each, dict) for each in infos):
        return {}
    return {
        each["module"]: f"timm feature stage, reduction {each['reduction']}"
        for each in infos
        if "module" in each and "reduction" in each
    }


def _verdict(survey: Survey, call: Call, attention: Sequence[str]) -> str:
    """Why a call is not a candidate; empty if it is one."""
    if call.layout is None:
        return "no positions"
    if _extent(call) == 1:
        return "one position"
    if call.passes_on:
        return "passes its input on"
    if survey.calls[call.source].pools:
        return "pooled"
    if call.positions != "used":
        return "the target does not depend on its positions"
    if _is_scores(survey, call):
        return "already class scores"
    if not call.name:
        return "the network's own output"
    inside = any(call.name == name or call.name.startswith(name + ".") for name in attention)
    return _IN_ATTENTION if inside else ""


def _is_scores(survey: Survey, call: Call) -> bool:
    """Whether the channels are classes: as many as output columns, and the target uses only its own."""
    assert call.layout is not None
    axis = {"BKhw": 1, "BhwK": 3, "BNK": 2, "NBK": 2}[call.layout.axes]
    channels = call.shape[axis]
    if survey.columns is None or channels != survey.columns:
        return False
    return channels == 1 or (call.channels < channels and call.channels <= 2)


def _outermost(survey: Survey, call: Call) -> Call:
    """Of all modules that returned this very tensor, the one with the shortest path."""
    same = [each for each in survey.calls if each.source == call.source and each.name and not each.passes_on]
    return min(same or [call], key=lambda each: (each.name.count("."), -each.finished))


def _check_steady(survey: Survey) -> None:
    if not survey.steady:
        raise LayerError(
            "two pictures make this network call other modules than one picture does (does it loop over them?), "
            "so it cannot be told which map belongs to which picture; give one whose modules take the whole batch"
        )


def _extent(call: Call) -> int:
    return call.layout.grid[0] * call.layout.grid[1] if call.layout else 0


def _unknown(survey: Survey, text: str) -> str:
    names = list(dict.fromkeys(call.name for call in survey.calls if call.layout and call.name))
    close = difflib.get_close_matches(text, names, n=4, cutoff=0.5)
    hint = f"did you mean {', '.join(close)}?" if close else f"layers with feature maps: {_examples(survey)}"
    return f"no layer {text!r} ran in this network; {hint}"


def _examples(survey: Survey) -> str:
    names = list(dict.fromkeys(call.name for call in survey.calls if _extent(call) > 1 and call.name))
    shallow = [name for name in names if name.count(".") <= 1] or names
    return ", ".join(shallow[-8:]) or "none"


def _shown(shapes: tuple[tuple[int, ...], ...]) -> str:
    return " and ".join(str(shape) for shape in shapes) or "no tensor"


def most_channels(module: nn.Module) -> int:
    """An upper bound of the channels of any feature map, from what the parameters take in and give out."""
    return max((max(each.shape[:2]) for each in module.parameters() if each.ndim), default=1)
