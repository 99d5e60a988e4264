"""The headings of a notebook: which is the report's title, and where the links within the notebook lead."""

import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from autoflow.reports.nodes import Node, nodes, plain_text


@dataclass(frozen=True, kw_only=True)
class Outline:
    """The title is the first heading, or empty if there is none.

    `shift` is to be added to the levels of the other headings, so that the highest of them has level 1. `anchors` maps
    the identifiers of headings and other targets to ids that mean nothing in asciidoc.
    """

    title: str = ""
    shift: int = 0
    anchors: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, blocks: Sequence[Node]) -> "Outline":
        """Return the outline of all blocks of a notebook."""
        headings = [node["c"] for node in nodes(blocks) if node["t"] == "Header" and plain_text(node["c"][2])]
        title = plain_text(headings[0][2]) if headings else ""
        targets = [node["c"][0][0] for node in nodes(blocks) if node["t"] in {"Span", "Div"}]
        anchors: dict[str, str] = {}
        for _, (identifier, _, _), inlines in headings[1:]:
            anchor = f"heading-{len(anchors)}"
            anchors.setdefault(identifier, anchor)
            anchors.setdefault(plain_text(inlines).replace(" ", "-"), anchors[identifier])  # as JupyterLab calls it
        for target in filter(None, targets):
            anchors.setdefault(target, f"target-{len(anchors)}")
        return cls(title=title, shift=1 - min((level for level, _, _ in headings[1:]), default=1), anchors=anchors)

    def anchor_of(self, address: str) -> str | None:
        """Return the id to which a link to `address` leads, or None if that is not within the notebook."""
        return self.anchors.get(urllib.parse.unquote(address[1:])) if address.startswith("#") else None
