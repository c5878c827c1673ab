"""Networks inside the wrappers that run them on several devices."""

from __future__ import annotations

from typing import Any


def unwrapped(network: Any) -> Any:
    """The network inside a (data-)parallel wrapper, or the network itself.

    Args:
        network: any module or callable.
    """
    return getattr(network, "module", network)
