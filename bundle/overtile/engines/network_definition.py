"""How a config defines its network, for whoever uses the weights later."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from monai.bundle import ConfigParser

DEFINED_BY_OPTIONS = "overtile.networks.UNet"
DEFINITIONS = ("network_def", "geometry")


def network_definition() -> dict[str, Any]:
    """``network_def`` and ``geometry`` of the config that asks for them, as an overlay for inference.

    References and expressions are replaced by their values where YAML has a word for them, so that they need no
    other overlay. MONAI hands its config to none of the components that it makes, so this looks for the parser among
    the functions that are calling.

    Returns:
        The two by their names. Nothing for this package's U-Net, which options such as ``features`` define, nor where
        no config is being read.
    """
    parser = _calling_parser()
    if parser is None or not isinstance(parser.get("network_def"), Mapping):
        return {}
    if parser["network_def"].get("_target_") == DEFINED_BY_OPTIONS:
        return {}
    return {name: _resolved(parser, name) for name in DEFINITIONS}


def _calling_parser() -> ConfigParser | None:
    frame = inspect.currentframe()
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, ConfigParser):
            return owner
        frame = frame.f_back
    return None


def _resolved(parser: ConfigParser, name: str) -> Any:
    """Part of a config, with values in place of references and expressions."""
    content = parser[name]
    if isinstance(content, Mapping):
        return {key: _resolved(parser, f"{name}::{key}") for key in content if key != "_desc_"}
    if isinstance(content, list):
        return [_resolved(parser, f"{name}::{place}") for place in range(len(content))]
    if isinstance(content, str) and content.startswith(("@", "$")):
        value = parser.get_parsed_content(name)
        return _plain(value) if _is_plain(value) else content
    return content


def _is_plain(value: object) -> bool:
    """Whether YAML has a word for it."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, str)


def _plain(value: Any) -> Any:
    """A tuple as the list that YAML knows."""
    return [_plain(part) for part in value] if isinstance(value, Sequence) and not isinstance(value, str) else value
