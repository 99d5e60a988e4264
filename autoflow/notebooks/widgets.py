"""Widgets as their last state shows them, in outputs that need no browser.

A widget's output has only a text of the state at the time when it was displayed. The last state is elsewhere, in the
notebook's metadata.
"""

import html
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from autoflow.notebooks.executed import text_of
from autoflow.notebooks.terminal import as_shown

VIEW = "application/vnd.jupyter.widget-view+json"
"""The form of an output that refers to a widget by its `model_id`."""

BAR_LENGTH = 10
"""The length of a progress bar, in characters."""

DEEPEST = 20
"""How deep boxes can be nested."""

_STATE = "application/vnd.jupyter.widget-state+json"
_REFERENCE = "IPY_MODEL_"
_TAG = re.compile(r"<[^<>]*>")
_PARTS = " ▏▎▍▌▋▊▉█"
_CONTROLS = re.compile(r"Button|Play|FileUpload|Gamepad|Audio|Video|Controller|Layout|Style")

Output = dict[str, Any]


@dataclass
class _Line:
    """Words that a widget shows; `is_progress` if a progress bar is among them."""

    text: str
    is_progress: bool = False


class Widgets:
    """The widgets in the metadata of a notebook."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        saved = metadata.get("widgets")
        saved = saved.get(_STATE) if isinstance(saved, Mapping) else None
        models = saved.get("state") if isinstance(saved, Mapping) else None
        self._models: Mapping[str, Any] = models if isinstance(models, Mapping) else {}

    def outputs_of(self, output: Mapping[str, Any], *, with_progress: bool = True) -> list[Output] | None:
        """Return what the widget that `output` refers to shows in the end, as other outputs.

        Return None if `output` is not a widget, or one whose state cannot be shown that way. With
        `with_progress=False`, progress bars are left out.
        """
        model_id = model_of(output)
        if model_id not in self._models:
            return None
        try:
            parts = _Reader(self._models).parts(str(model_id))
        except (TypeError, ValueError, AttributeError, LookupError):
            return None  # a state as no widget has it
        return None if parts is None else list(_merged(parts, with_progress=with_progress))

    def settle(self, cells: Iterable[Any]) -> None:
        """Write into each output of a widget the text of its last state."""
        for output in (output for cell in cells for output in cell.get("outputs", ())):
            shown = self.outputs_of(output)
            if shown is not None:
                texts = [each.get("text") or each.get("data", {}).get("text/plain", "") for each in shown]
                output["data"]["text/plain"] = "\n".join(text_of(text).rstrip("\n") for text in texts if text)


def model_of(output: Mapping[str, Any]) -> str | None:
    """Return the id of the widget that `output` shows; None if it shows none."""
    view = output.get("data", {}).get(VIEW)
    return view.get("model_id") if isinstance(view, Mapping) else None


@dataclass
class _Reader:
    """Reads widgets; `_seen` are the boxes around the current one."""

    models: Mapping[str, Any]
    _seen: list[str] = field(default_factory=list)

    def parts(self, model_id: str) -> list[_Line | Output] | None:
        """Return what a widget shows; None if that is unknown."""
        model = self.models.get(model_id)
        if not isinstance(model, Mapping) or model_id in self._seen or len(self._seen) > DEEPEST:
            return None
        name, state = str(model.get("model_name")), model["state"]
        if self._is_hidden(state):
            return []
        if isinstance(state.get("children"), list):
            self._seen.append(model_id)
            parts = self._children(name, state)
            self._seen.pop()
            return parts
        return _leaf(name, state, model.get("buffers") or ())

    def _is_hidden(self, state: Mapping[str, Any]) -> bool:
        layout = self.models.get(str(state.get("layout")).removeprefix(_REFERENCE))
        shown = layout["state"] if isinstance(layout, Mapping) else {}
        return shown.get("visibility") == "hidden" or shown.get("display") == "none"

    def _children(self, name: str, state: Mapping[str, Any]) -> list[_Line | Output]:
        found: list[_Line | Output] = []
        titles = state.get("titles") or []
        for number, child in enumerate(state["children"]):
            if number < len(titles) and titles[number]:
                found.append(_Line(f"{titles[number]}:"))
            found += self.parts(str(child).removeprefix(_REFERENCE)) or []
        is_row = name in {"HBoxModel", "BoxModel"} and found
        return [_in_a_row(found)] if is_row and _is_short(found) else found


def _leaf(name: str, state: Mapping[str, Any], buffers: Iterable[Mapping[str, Any]]) -> list[_Line | Output] | None:
    """Return what a widget without children shows; None if that is unknown."""
    if name == "OutputModel":
        return [_output(each) for each in state.get("outputs", ())]
    if "Progress" in name:
        return [_Line(_described(state, _bar(state)), is_progress=True)]
    if name == "ImageModel":
        return list(_image(state, buffers))
    if name in {"HTMLModel", "HTMLMathModel"}:
        return [_html(_described(state, str(state.get("value", ""))))]
    if _CONTROLS.search(name):
        return []
    value = _value(state)
    return None if value is None else [_Line(_described(state, value))]


def _value(state: Mapping[str, Any]) -> str | None:
    """Return the value of a control, as people read it; None if it has none."""
    options, index = state.get("_options_labels"), state.get("index")
    if isinstance(options, list):
        chosen = index if isinstance(index, list) else [] if index is None else [index]
        return ", ".join(str(options[number]) for number in chosen)
    if "value" not in state:
        return None
    value = state["value"]
    if isinstance(value, Mapping) and {"year", "month", "date"} <= value.keys():
        return f"{value['year']}-{value['month'] + 1:02}-{value['date']:02}"  # JavaScript's months begin with 0
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " - ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)


def _described(state: Mapping[str, Any], text: str) -> str:
    description = str(state.get("description") or "").strip().removesuffix(":")
    return f"{description}: {text}" if description else text


def _bar(state: Mapping[str, Any]) -> str:
    least, most = float(state.get("min") or 0), float(state.get("max") or 0)
    share = (float(state.get("value") or 0) - least) / (most - least) if most > least else 1.0
    eighths = round(8 * BAR_LENGTH * min(1.0, max(0.0, share)))
    text = "█" * (eighths // 8) + (_PARTS[eighths % 8] if eighths % 8 else "")
    return f"|{text:<{BAR_LENGTH}}|"


def _html(text: str) -> Output:
    return {"output_type": "display_data", "metadata": {}, "data": {"text/html": text, "text/plain": _plain(text)}}


def _plain(text: str) -> str:
    """Return a text of HTML without its markup; tqdm uses spaces of the width of a digit."""
    return html.unescape(_TAG.sub("", text)).replace("\u2007", " ").strip()


def _image(state: Mapping[str, Any], buffers: Iterable[Mapping[str, Any]]) -> Iterator[Output]:
    kind = {"jpg": "jpeg", "svg": "svg+xml"}.get(str(state.get("format")), str(state.get("format")))
    for buffer in buffers:
        if buffer.get("path") == ["value"] and buffer.get("encoding") == "base64":
            yield {"output_type": "display_data", "metadata": {}, "data": {f"image/{kind}": buffer["data"]}}


def _output(output: Mapping[str, Any]) -> Output:
    """Return an output that a widget has captured."""
    text = output.get("text")
    if output.get("output_type") == "stream" and isinstance(text, str):
        return {**output, "text": as_shown(text)}
    return dict(output)


def _is_short(parts: Iterable[_Line | Output]) -> bool:
    """Return whether all `parts` are words that fit into a line."""
    return all(isinstance(part, _Line) or set(part.get("data", ())) == {"text/html", "text/plain"} for part in parts)


def _in_a_row(parts: Iterable[_Line | Output]) -> _Line:
    texts = [part.text if isinstance(part, _Line) else part["data"]["text/plain"] for part in parts]
    is_progress = any(isinstance(part, _Line) and part.is_progress for part in parts)
    return _Line(" ".join(text.strip() for text in texts if text.strip()).replace("% |", "%|"), is_progress)


def _merged(parts: Iterable[_Line | Output], *, with_progress: bool) -> Iterator[Output]:
    """Yield the outputs, with lines that follow each other as one."""
    lines: list[str] = []
    for part in parts:
        if isinstance(part, _Line):
            if with_progress or not part.is_progress:
                lines.append(part.text)
            continue
        if lines:
            yield _text_output(lines)
        lines = []
        yield part
    if lines:
        yield _text_output(lines)


def _text_output(lines: Iterable[str]) -> Output:
    return {"output_type": "display_data", "metadata": {}, "data": {"text/plain": "\n".join(lines)}}
