"""Elements of HTML and SVG, escaped by the library that writes them."""

from __future__ import annotations

from xml.etree.ElementTree import Element, tostring

__all__ = ("Element", "Node", "make", "write")

Node = Element | str


def make(tag: str, *children: Node, **attributes: str | float | None) -> Element:
    """Return an element.

    Args:
        tag: its name.
        children: elements and texts, in order.
        attributes: ``aria_label`` is ``aria-label``, ``class_`` is ``class``; those
            that are None are left out.
    """
    element = Element(
        tag,
        {
            key.rstrip("_").replace("_", "-"): _value(value)
            for key, value in attributes.items()
            if value is not None
        },
    )
    last: Element | None = None
    for child in children:
        if isinstance(child, Element):
            element.append(child)
            last = child
        elif last is None:
            element.text = (element.text or "") + child
        else:
            last.tail = (last.tail or "") + child
    return element


def _value(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"


def write(element: Element) -> str:
    """Return an element as HTML; what UTF-8 cannot say becomes question marks."""
    html: str = tostring(element, encoding="unicode", method="html")
    return html.encode("utf-8", "replace").decode()
