"""The HTML templates, and how they write what comes from a saved run: escaped.

Knows no page.
"""

import re

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from gptloop.report.text import DASH


def open_template(name: str) -> Template:
    """A file of gptloop/report/templates."""
    environment = Environment(
        loader=PackageLoader("gptloop.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"percent": _percent, "code": _code}
    return environment.get_template(name)


def _percent(fraction: float | None, *, signed: bool = False) -> str:
    if fraction is None:
        return DASH
    return f"{fraction:{'+' if signed else ''}.1%}".replace("%", " %")


def _code(words: str) -> Markup:
    """Plain words whose `backticks` are code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(words)))
