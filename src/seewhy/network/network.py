"""Network: a module, how pictures become its input, what its classes are called, and who it is."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, cast
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from seewhy.errors import InputError, NotApplicableError, TargetError
from seewhy.network.inputs import Arguments
from seewhy.network.preserve import preserved, version
from seewhy.network.structures import tensors
from seewhy.network.surveys import known_as_squashed

if TYPE_CHECKING:
    from seewhy.network.embedding import Embedding
    from seewhy.network.images import Images, Source
    from seewhy.network.layers import Layer
    from seewhy.network.preprocess import Preprocess

Head = Literal["auto", "softmax", "sigmoid", "probabilities"]

_digests: WeakKeyDictionary[nn.Module, tuple[object, str]] = WeakKeyDictionary()


class Network:
    """A network to be explained. Every public function also takes a bare `nn.Module`.

    Args:
        module: any module; `DataParallel`, `DistributedDataParallel` and compiled modules are unwrapped.
        preprocess: how pictures become its input; needed by `read`.
        classes: names of the outputs, in order. A name may hold synonyms, separated by commas.
        name: what reports call it; the class name by default.
        head: what the outputs mean: one class of many (`softmax`), independent labels or a single logit
            (`sigmoid`), `probabilities` already, or told from the outputs (`auto`).
        notes: remarks for reports.

    Raises:
        NotApplicableError: a scripted or traced module, which cannot be looked into.

    Example:
        >>> network = Network(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2)))
        >>> network.name
        'Sequential'
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        preprocess: Preprocess | None = None,
        classes: Sequence[str] | None = None,
        name: str = "",
        head: Head = "auto",
        notes: Sequence[str] = (),
    ) -> None:
        module, unwrapped = _unwrap(module)
        self.module = module
        self.preprocess = preprocess
        self.classes = tuple(classes) if classes is not None else None
        self.name = name or type(module).__name__
        self.head = head
        self.notes = (*notes, *unwrapped)

    @classmethod
    def of(cls, network: Network | nn.Module) -> Network:
        """The network itself, or a bare module wrapped."""
        return network if isinstance(network, Network) else cls(network)

    def around(self, module: nn.Module) -> Network:
        """Another module in this one's place, with all else that is known of it."""
        return Network(
            module,
            preprocess=self.preprocess,
            classes=self.classes,
            name=self.name,
            head=self.head,
            notes=self.notes,
        )

    def __repr__(self) -> str:
        classes = f", {len(self.classes)} classes" if self.classes else ""
        return f"Network({self.name!r}{classes})"

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self._example().device

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the parameters."""
        return self._example().dtype

    def _example(self) -> Tensor:
        tensors = chain(self.module.parameters(), self.module.buffers())
        return next((each for each in tensors if each.is_floating_point()), torch.empty(0))

    @property
    def digest(self) -> str:
        """Identity: SHA-256 over the module's structure and state, computed when first needed.

        It is kept until a parameter, buffer or module is written to or exchanged.
        """
        _check_ready(self.module, self.name)
        state = {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}
        values = state.values()
        written = [(id(each), each.data_ptr(), version(each)) for each in values]
        fingerprint = written, _samples(values), repr(self.module)
        kept = _digests.get(self.module)
        if kept is not None and kept[0] == fingerprint:
            return kept[1]
        digest = hashlib.sha256(repr(self.module).encode())
        for name, tensor in state.items():
            data = tensor.detach().cpu().contiguous()
            digest.update(f"{name} {tuple(data.shape)} {data.dtype}".encode())
            digest.update(data.flatten().view(torch.uint8).numpy().data)
        _digests[self.module] = (fingerprint, digest.hexdigest())
        return digest.hexdigest()

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """The network's outputs in evaluation mode, without a graph; nothing about the network changes."""
        several: dict[int | str, Any] = dict([*enumerate(inputs), *named.items()])
        given = inputs[0] if len(several) == len(inputs) == 1 else several
        with self.prepared(given) as arguments, torch.no_grad():
            return arguments.call(self.module)

    @contextmanager
    def prepared(self, inputs: Any) -> Iterator[Arguments]:
        """The arguments of a call, and a context in which the module may be run and is put back after it.

        Raises:
            NotApplicableError: the network is not ready to run.
        """
        _check_ready(self.module, self.name)
        with preserved(self.module, self.device):
            arguments = Arguments.of(inputs, self.device, self.dtype)
            if arguments.ambiguous:
                from seewhy.network.shared_inputs import shared_inputs

                arguments = replace(arguments, shared=shared_inputs(self, arguments))
            yield arguments

    def read(self, sources: Sequence[Source] | Source) -> Images:
        """Read pictures as the network wants them; those that cannot be read are listed, not lost.

        Args:
            sources: one or several of: a path, a file's bytes, a Pillow picture.

        Returns:
            `Images` with `pixels` (B, C, H, W), on the processor, and `failed`.

        Raises:
            InputError: the network came without a preprocess.
        """
        from seewhy.network.images import read

        if self.preprocess is None:
            raise InputError(
                f"{self.name} came without a preprocess, so it is not known how pictures become its input; "
                "pass Network(module, preprocess=Preprocess(...)), or tensors instead of paths"
            )
        single = isinstance(sources, str | bytes) or not isinstance(sources, Sequence)
        return read(cast("Sequence[Source]", [sources] if single else sources), self.preprocess)

    def layers(self, inputs: Any = None, target: Any = None) -> list[Layer]:
        """Every module call in order of computation, which one is chosen by default, and why.

        Args:
            inputs: an example call; random noise of the preprocess's size by default.
            target: what is explained; the predicted class by default.
        """
        from seewhy.network.layers import attention_modules, describe, timm_stages
        from seewhy.network.surveys import surveyed
        from seewhy.targets import as_target

        if inputs is None:
            inputs = self.example_input()
        with self.prepared(inputs) as arguments:
            survey, _ = surveyed(self, arguments, as_target(target))
        return describe(survey, attention_modules(self.module), timm_stages(self.module))

    def embedding(self, inputs: Any = None, output: str | int | None = None) -> Embedding:
        """Which output is the embedding, and whether its rows are of unit length; runs the network once.

        Args:
            inputs: an example call; random noise of the preprocess's size by default.
            output: its name or its position among the output's tensors; by default what is called `embedding`,
                `image_embeds` or `pooler_output`, else the first vector per picture.

        Raises:
            TargetError: no output could be it; the message lists their shapes.
        """
        from seewhy.network.embedding import find_embedding

        return find_embedding(self, inputs, output)

    def example_input(self, size: tuple[int, int] | None = None) -> Float[Tensor, "1 C H W"]:
        """Random noise of a size, or of the size that the preprocess gives (3 x 224 x 224 without one)."""
        channels, usual = 3, (224, 224)
        if self.preprocess is not None:
            channels, usual = len(self.preprocess.mean), self.preprocess.input_size or usual
        size = size or usual
        return torch.randn(1, channels, *size, generator=torch.Generator().manual_seed(0))

    def class_name(self, index: int) -> str:
        """The class's first name, or its number; both where another class has the same first name."""
        if self.classes is None or not 0 <= index < len(self.classes):
            return str(index)
        name = _first_name(self.classes[index])
        return f"{name} ({index})" if self._repeated[name] > 1 else name

    @cached_property
    def _repeated(self) -> Counter[str]:
        return Counter(_first_name(each) for each in self.classes or ())

    def class_index(self, name: str, whole: bool = False) -> int:
        """The class with this name or synonym; parts of names count where only one class has them.

        Args:
            name: whatever its case.
            whole: parts of names do not count, as for the labels of a dataset.

        Raises:
            TargetError: no class fits, or more than one does; the message lists them.
        """
        if self.classes is None:
            raise TargetError(
                f"{self.name} has no class names; use a number instead of {name!r}, or pass classes="
            )
        wanted = name.strip().lower()
        synonyms = [[each.strip().lower() for each in full.split(",")] for full in self.classes]
        in_full = (
            [full.lower() == wanted for full in self.classes],
            [wanted in each for each in synonyms],
        )
        in_part = (
            [any(wanted in each.split() for each in names) for names in synonyms],
            [any(wanted in each for each in names) for names in synonyms],
        )
        for fits in in_full if whole else in_full + in_part:
            found = [index for index, fit in enumerate(fits) if fit]
            if len(found) == 1:
                return found[0]
            if found:
                shown = ", ".join(f"{index} ({self.classes[index]})" for index in found[:8])
                more = f" and {len(found) - 8} more" if len(found) > 8 else ""
                raise TargetError(
                    f"{name!r} fits {len(found)} classes: {shown}{more}; use a number or a full name"
                )
        raise TargetError(f"no class is called {name!r}; {_similar(wanted, self.classes)}")

    def output_kind(self, output: Float[Tensor, "B C"]) -> Literal["softmax", "sigmoid", "probabilities"]:
        """What a (B, C) output means, as given or told from it."""
        if self.head != "auto":
            return self.head
        if self.may_be_squashed(output):
            squashed = known_as_squashed(self.module)
            if squashed is None:
                *_, last = self.module.modules()
                squashed = isinstance(last, nn.Sigmoid)
            if squashed:
                return "probabilities"
        if output.shape[1] == 1:
            return "sigmoid"
        with torch.no_grad():
            normed = bool((output >= 0).all()) and torch.allclose(
                output.float().sum(1), torch.ones(len(output), device=output.device), atol=1e-3
            )
        return "probabilities" if normed else "softmax"

    def may_be_squashed(self, output: Tensor) -> bool:
        """Whether an output could be of a sigmoid or softmax, which only a look at what computes it can tell."""
        return self.head == "auto" and bool(((output >= 0) & (output <= 1)).all())

    def probabilities(self, output: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
        """Class probabilities of a (B, C) output."""
        kind = self.output_kind(output)
        if kind == "probabilities":
            return output
        return output.sigmoid() if kind == "sigmoid" else output.softmax(1)


def main_output(outputs: Any, leaf: str | int | None = None) -> Tensor:
    """The tensor that targets read: the one asked for, else `logits`, else the first float tensor.

    Args:
        outputs: whatever the network returned.
        leaf: a key, an attribute, or a position among the output's tensors.

    Raises:
        TargetError: there is no such tensor.
    """
    if isinstance(outputs, Tensor) and leaf is None:
        return outputs
    found = tensors(outputs)
    if isinstance(leaf, int):
        if not -len(found) <= leaf < len(found):
            raise TargetError(f"the network returns {len(found)} tensors; there is no output {leaf}")
        return found[leaf]
    for name in [leaf] if leaf is not None else ["logits", "out"]:
        named = outputs.get(name) if isinstance(outputs, Mapping) else getattr(outputs, name, None)
        if isinstance(named, Tensor):
            return named
    floats = [each for each in found if each.is_floating_point() and each.ndim > 0]
    if leaf is not None or not floats:
        keys = list(outputs) if isinstance(outputs, Mapping) else f"{len(found)} tensors"
        raise TargetError(
            f"the network's output has no tensor {leaf!r}; it is a {type(outputs).__name__} of {keys}"
        )
    return floats[0]


def _first_name(name: str) -> str:
    return name.split(",")[0].strip()


def _unwrap(module: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """The network inside parallel and compiled wrappers, with a note for each that was taken off."""
    notes: list[str] = []
    while True:
        if isinstance(module, torch.jit.ScriptModule):
            raise NotApplicableError(
                "a scripted or traced module cannot be looked into; pass the nn.Module that it was made from"
            )
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            notes.append(f"unwrapped from {type(module).__name__}")
            module = module.module
        elif isinstance(inner := module.__dict__.get("_modules", {}).get("_orig_mod"), nn.Module):
            notes.append("unwrapped from a compiled module; explanations run the original one")
            module = inner
        else:
            return module, tuple(notes)


def _samples(values: Iterable[Tensor]) -> list[bytes]:
    """A value or two of every row of each tensor, in places that differ from row to row; vectors whole.

    Writes through `.data` do not count as versions: pruned filters, masked weights and random ones show here.
    """
    groups: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for each in values:
        if each.numel():
            # A view in the order of the memory: no kernel runs until all are joined.
            order = sorted(range(each.ndim), key=each.stride, reverse=True)
            row = each[0].numel() if each.ndim else 1
            sampled = each.detach().permute(order).flatten()[:: max(row - 1, 1)]
            groups.setdefault((each.dtype, each.device), []).append(sampled)
    return [torch.cat(group).view(torch.uint8).cpu().numpy().tobytes() for group in groups.values()]


def _check_ready(module: nn.Module, name: str) -> None:
    for each in (*module.parameters(), *module.buffers()):
        if isinstance(each, nn.UninitializedParameter | nn.UninitializedBuffer):
            raise NotApplicableError(
                f"{name} has lazy layers whose shapes are not known yet; run it once, as in `module(images)`"
            )
        if each.is_inference():
            raise NotApplicableError(
                f"{name} was built inside torch.inference_mode(), so nothing can be differentiated through "
                "it; build it outside"
            )


def _similar(name: str, classes: Sequence[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, [each.lower() for each in classes], n=4, cutoff=0.4)
    return f"similar: {'; '.join(close)}" if close else f"the first classes are {'; '.join(classes[:4])} …"
