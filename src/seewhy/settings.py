"""Settings: the frozen models that methods and metrics are, made from Python, from a preset or from text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from seewhy.artifact import Artifact
from seewhy.errors import InputError

S = TypeVar("S", bound="Settings")


class Settings(BaseModel):
    """Base of whatever is chosen by a name and adjusted by settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    name: str

    @classmethod
    def from_preset(cls: type[S], preset: str, **changes: Any) -> S:
        """The settings that reproduce a paper or a public code, with changes.

        Raises:
            InputError: there is no such preset, or a setting is wrong.
        """
        if preset not in cls.presets:
            known = ", ".join(cls.presets) or "none"
            raise InputError(f"{cls.__name__} has no preset {preset!r}; it has {known}")
        return cls.checked({**cls.presets[preset], **changes})

    @classmethod
    def from_text(cls: type[S], text: str, **settings: Any) -> S:
        """From `key=value,key=value` or a JSON object, as a command line gives it, where `preset` is a key too.

        Raises:
            InputError: no such setting or preset, or a value that does not fit.

        Example:
            >>> from seewhy import LRP
            >>> LRP.from_text('{"rules": {"convolution": "gamma", "linear": "epsilon"}}').name
            'lrp'
        """
        chosen = {**settings, **(_from_json(text) if text.startswith("{") else cls._from_pairs(text))}
        preset = chosen.pop("preset", None)
        return cls.from_preset(preset, **chosen) if preset else cls.checked(chosen)

    @classmethod
    def checked(cls: type[S], settings: Mapping[str, Any]) -> S:
        """The model with these settings.

        Raises:
            InputError: a setting is unknown or does not fit; the message names it and all there are.
        """
        try:
            return cls(**settings)
        except ValidationError as error:
            found = error.errors()
            field = str(next(iter(found[0]["loc"]), "settings"))
            # A setting that takes several kinds of value says for each why it is not that.
            reasons = [each["msg"] for each in found if each["loc"][:1] == found[0]["loc"][:1]]
            known = ", ".join(key for key in cls.model_fields if key != "name")
            raise InputError(
                f"{cls.__name__}: {field}: {', or: '.join(reasons)}; its settings are {known}"
            ) from None

    @classmethod
    def _from_pairs(cls, text: str) -> dict[str, object]:
        chosen = {}
        for part in filter(None, text.split(",")):
            key, equals, value = part.partition("=")
            if not equals:
                raise InputError(
                    f"{text!r}: write settings as key=value, separated by commas, or, where values hold commas, as a "
                    'JSON object: {"key": value}'
                )
            key = key.strip().replace("-", "_")
            chosen[key] = cls._typed(key, value.strip())
        return chosen

    @classmethod
    def _typed(cls, key: str, text: str) -> object:
        """A setting written as text: several joined by `+`, a number where the field holds numbers.

        Layers may be called 4 and stay text, as paths do, whatever their characters.
        """
        field = cls.model_fields.get(key)
        kinds = () if field is None else (field.annotation, *get_args(field.annotation))
        if any(get_origin(each) is tuple for each in kinds) and "+" in text:
            return [each.strip() for each in text.split("+")]
        if field is None or str in kinds or Artifact in kinds:
            return text
        try:
            return json.loads(text)
        except ValueError:
            return text


def listed(texts: Iterable[str]) -> list[str]:
    """Names with their settings, from lists; `key=value` goes on with what stands before it.

    A text with a JSON object is one name with its settings.

    Example:
        >>> listed(["grad-cam,rise:masks=500,cells=7", "cam"])
        ['grad-cam', 'rise:masks=500,cells=7', 'cam']
    """
    found: list[str] = []
    for text in texts:
        parts = [text] if ":{" in text else text.split(",")
        for place, part in enumerate(each.strip() for each in parts):
            if place and "=" in part and ":" not in part:
                found[-1] += f",{part}"
            elif part:
                found.append(part)
    return found


def _from_json(text: str) -> dict[str, object]:
    try:
        found: dict[str, object] = json.loads(text)
    except ValueError as error:
        raise InputError(f"{text!r} is not a JSON object: {error}") from error
    return found
