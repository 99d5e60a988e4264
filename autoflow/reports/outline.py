"""The outline of a notebook: the report's title, and the targets of links within the notebook."""

import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from autoflow.reports.nodes import Node, nodes, plain_text


@dataclass(frozen=True, kw_only=True)
class Outline:
    """The first heading as the title (empty if there is none), and the targets of links.

    `shift`, added to the levels of the other headings, makes the highest of them level 1. `anchors` maps the
    identifiers of headings and other targets to ids that are safe in asciidoc.
    """

    title: str = ""
    shift: int = 0
    anchors: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, blocks: Sequence[Node], *, has_title: bool = True) -> "Outline":
        """Return the outline of all blocks of a notebook; without `has_title`, the first heading is like the others."""
        headings = [node["c"] for node in nodes(blocks) if node["t"] == "Header" and plain_text(node["c"][2])]
        title = plain_text(headings[0][2]) if headings and has_title else ""
        others = headings[1:] if has_title else headings
        targets = [node["c"][0][0] for node in nodes(blocks) if node["t"] in {"Span", "Div"}]
        anchors: dict[str, str] = {}
        for _, (identifier, _, _), inlines in others:
            anchor = f"heading-{len(anchors)}"
            anchors.setdefault(identifier, anchor)
            anchors.setdefault(plain_text(inlines).replace(" ", "-"), anchors[identifier])  # as JupyterLab calls it
        for target in filter(None, targets):
            anchors.setdefault(target, f"target-{len(anchors)}")
        return cls(title=title, shift=1 - min((level for level, _, _ in others), default=1), anchors=anchors)

    def anchor_of(self, address: str) -> str | None:
        """Return the id that a link to `address` points to, or None if it is not within the notebook."""
        return self.anchors.get(urllib.parse.unquote(address[1:])) if address.startswith("#") else None
