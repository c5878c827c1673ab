"""Pages as HTML that need no other file, and how numbers and addresses stand in them."""

from __future__ import annotations

import math
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from overtile.reports.charts import line_chart

Score = float | None
_ADDRESS = re.compile(r"(https?://[^\s<>\"']*[^\s<>\"'.,;:)\]]|\bdoi:10\.\S*[^\s.,;)]|\barXiv:\d{4}\.\d{4,5})")


def rendered(template: str, **values: object) -> str:
    """A page of this folder with its values, and with the style and the script that all pages share.

    Args:
        template: file name beside this module.
        values: by the names that the template has for them.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, linked=linked, chart=line_chart)
    return environment.get_template(template).render(values)


def number(value: Score) -> str:
    """A score in four decimals, or in three digits where that would hide a small one; a dash for none.

    Examples:
        >>> number(0.92031), number(0.000353), number(12), number(None)
        ('0.9203', '0.000353', '12', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    if isinstance(value, int):
        return str(value)
    return f"{value:.4f}" if value == 0 or abs(value) >= 0.01 else f"{value:.3g}"


def linked(text: str) -> Markup:
    """The text with web addresses, DOIs and arXiv numbers as links.

    Examples:
        >>> print(linked("Ronneberger & al., arXiv:1505.04597"))
        Ronneberger &amp; al., <a href="https://arxiv.org/abs/1505.04597">arXiv:1505.04597</a>
    """
    parts = _ADDRESS.split(text)
    for place in range(1, len(parts), 2):
        kind, _, rest = parts[place].partition(":")
        start = {"doi": "https://doi.org/", "arXiv": "https://arxiv.org/abs/"}.get(kind, f"{kind}:")
        parts[place] = f'<a href="{escape(start + rest)}">{escape(parts[place])}</a>'
    parts[::2] = [str(escape(part)) for part in parts[::2]]
    return Markup("".join(parts))
