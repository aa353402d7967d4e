"""A chart of matplotlib's as a part of the page: in the page's colours and type, with ids of its own."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from markupsafe import Markup

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"

# The charts' greys and darkest colour, as the page's variables, which have a dark value, too.
_THEME = {
    "#000000": "var(--ink)",
    "#333333": "var(--ink)",
    "#555555": "var(--muted)",
    "#888888": "var(--axis)",
    "#e4e4e4": "var(--line)",
    "#ffffff": "var(--surface)",
    "#0072b2": "var(--blue)",
    "'DejaVu Sans'": "var(--font)",
}


def inline_svg(svg: bytes, prefix: str, label: str) -> Markup:
    """A chart as an element, as wide as it is let.

    Args:
        svg: The file.
        prefix: Of its ids, which no other chart of the page has.
        label: For those who do not see it.
    """
    root = ET.fromstring(svg)
    for parent in root.iter():
        for child in [child for child in parent if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style")]:
            parent.remove(child)
    named = set(re.findall(r"#([^)\"]+)", svg.decode()))
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
        for name, value in list(element.attrib.items()):
            if name == "id":
                if value in named:
                    element.set("id", f"{prefix}-{value}")
                else:
                    del element.attrib["id"]
            elif name == f"{{{_XLINK}}}href":
                del element.attrib[name]
                element.set("href", f"#{prefix}-{value.removeprefix('#')}")
            elif "url(#" in value:
                element.set(name, value.replace("url(#", f"url(#{prefix}-"))
            elif name == "style":
                element.set(name, _themed(value))
    root.attrib = {"viewBox": root.get("viewBox", ""), "role": "img", "aria-label": label}
    return Markup(ET.tostring(root, encoding="unicode"))


def _themed(style: str) -> str:
    return re.sub("|".join(_THEME), lambda found: _THEME[found[0]], style)
