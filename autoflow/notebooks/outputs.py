"""Run cells and keep their outputs, up to a limit."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

import nbformat
from nbclient.exceptions import CellExecutionError

from autoflow.kernels.connection import SCRAP_TYPE, TOO_LONG
from autoflow.notebooks.checks import LONGEST_TEXT, SKIP, CheckLog
from autoflow.notebooks.live import LiveOutput, amount
from autoflow.notebooks.redaction import Redaction
from autoflow.notebooks.terminal import as_shown, moves_cursor, without_overwritten
from autoflow.notebooks.widgets import Widgets, model_of
from autoflow.system.lean_imports import hidden

# papermill would import pyarrow for hdfs:// paths; our notebooks are files.
with hidden("pyarrow"):
    from papermill.clientwrap import PapermillNotebookClient

OUTPUT_LIMIT = 20_000_000
"""How many characters of outputs a notebook keeps; each line and each output counts a few more.

Printed text gets at most half of it, so that there is always room for pictures, tables and glued data.
"""

LONGEST_ERROR = 100_000
"""How much of an exception's message, and of each part of its traceback, is kept, in characters."""

DEEPEST_OUTPUT = 100
"""Outputs (of JSON, for instance) that are nested more deeply are not kept."""

OUTPUT_TIMEOUT = 60
"""How long outputs may arrive after their cell has ended, in seconds; later ones are lost."""

_SUCCESS = frozenset({"", "0", "None"})
"""Messages of a SystemExit that means success."""

_TOO_DEEP = f"[AutoFlow left out an output nested more than {DEEPEST_OUTPUT} levels deep]"

_LINE_COST = 60
_OUTPUT_COST = 1000
"""The memory that a line (they are written one by one) and an output take besides their characters."""

LONGEST_UNSETTLED = 200_000
"""How much text is printed before what a progress bar has overwritten is forgotten, in characters."""

_NUMBER_COST = 20
"""How long a number is."""

Message = dict[str, Any]


class CellFailedError(Exception):
    """A cell failed, because it raised an exception or because of its outputs."""

    def __init__(self, error_class: str, message: str) -> None:
        super().__init__(message)
        self.error_class = error_class


class BoundedClient(PapermillNotebookClient):  # type: ignore[misc]
    """Runs cells, and keeps as much of their outputs as `OUTPUT_LIMIT` allows; a line in the cell says what is missing.

    `live` gets all outputs, also those that are not kept. Its redaction removes the secrets from an output before it is
    cut: a part of one could not be found later.

    `asked_to_exit` is whether a cell has ended the notebook, with `quit()` or `sys.exit(0)` for instance, and
    `lost_scrap` whether data glued for other notebooks was left out. `skipped` is why the notebook has skipped its run.
    `checks` gets the checks, also those whose outputs are not kept.
    """

    def __init__(
        self, *args: Any, live: LiveOutput, checks: CheckLog, limit: int = OUTPUT_LIMIT, **kwargs: Any
    ) -> None:
        super().__init__(*args, iopub_timeout=OUTPUT_TIMEOUT, raise_on_iopub_timeout=False, **kwargs)
        self._remaining = limit
        self._limit = limit
        self._redaction = live.redaction
        self._live = live
        self._checks = checks
        self._stream = _Stream(self._redaction)
        self._cost_of_cell = 0
        self._cost_of_display: dict[str, int] = {}
        self._comms: set[str] = set()
        self._left_out = 0
        self._closed = set[str]()
        self.asked_to_exit = False
        self.lost_scrap = False
        self.skipped = ""
        self.on_cell_executed = self._look_for_end

    async def run_cell(self, cell: nbformat.NotebookNode, index: int) -> None:
        """Run `cell`, the one at `index`.

        Raises
        ------
        CellFailedError
            If the cell raised an exception and is not tagged to allow it.
        DeadKernelError
            If the kernel has died.

        """
        self._cost_of_cell = self._left_out = 0
        try:
            await self.async_execute_cell(cell, index)
        except CellExecutionError as error:
            if self.skipped:
                return
            if error.ename != "SystemExit" or error.evalue not in _SUCCESS:
                raise CellFailedError(error.ename, error.evalue) from None
            self.asked_to_exit = True
        finally:
            self._stream.close()
            if self._left_out:
                cell.outputs.append(_note(self._left_out, self._limit))
        if self.lost_scrap:
            raise CellFailedError("OutputTooLarge", "the data it glues is too large for a notebook")

    def process_message(self, msg: Message, cell: nbformat.NotebookNode, cell_index: int) -> Any:
        """Process a message of the kernel, as far as the limit allows."""
        if _is_deep(msg["content"]):
            self.lost_scrap |= _holds_scrap(msg["content"])
            # Programs that read notebooks would fail on it.
            msg["content"] = {**msg["content"], "data": {"text/plain": _TOO_DEEP}, "metadata": {}}
        if msg["msg_type"] == "display_data":
            self._checks.take(msg["content"], cell_index)
        if msg["msg_type"] == "execute_result" and self._checks.is_repeated(msg["content"]["data"], cell.source):
            return None
        self._live.message(msg["msg_type"], msg["content"])
        if msg["msg_type"] == "update_display_data" and not self._pays_for_update(msg["content"]):
            return None
        return super().process_message(msg, cell, cell_index)

    def output(self, outs: list[Any], msg: Message, display_id: str | None, cell_index: int) -> Any:
        """Keep an output, as far as the limit allows."""
        content = msg["content"]
        if self.clear_before_next_output:
            self._forget_cell()
        if msg["msg_type"] == TOO_LONG:
            self._left_out += content["size"]
            self.lost_scrap |= content["holds_scrap"]
            return None
        if self.output_hook_stack[msg["parent_header"].get("msg_id")]:
            # A widget takes the output, to become a part of its state.
            return super().output(outs, msg, display_id, cell_index) if self._pays(_cost(content)) else None
        if msg["msg_type"] == "stream":
            self._refund(self._stream.settle())
            text = _without_overwritten(content["text"])
            content["text"] = self._affordable(text)
            rest = text[len(content["text"]) :]
            if self._stream.goes_on(outs, content, rest) or not content["text"]:
                return None
        elif msg["msg_type"] == "error":
            traceback = [self._clip(line) for line in content["traceback"]]
            content.update(evalue=self._clip(content["evalue"]), traceback=traceback)
        elif not self._pays(cost := _cost(content) + _OUTPUT_COST):
            self.lost_scrap |= _holds_scrap(content)
            return None
        elif display_id:
            self._cost_of_display[display_id] = cost
        self._stream.close()
        out = super().output(outs, msg, display_id, cell_index)
        if out is not None and msg["msg_type"] == "stream":
            self._stream.open(out, rest)
        return out

    def clear_output(self, outs: list[Any], msg: Message, cell_index: int) -> None:
        """Discard the cell's outputs, now or when the next one comes."""
        if not msg["content"].get("wait"):
            self._forget_cell()
        super().clear_output(outs, msg, cell_index)

    def settle(self) -> None:
        """Keep outputs as they ended, progress bars for instance; only at the end, as updates find outputs by place."""
        self.set_widgets_metadata()
        for cell in self.nb.cells:
            outputs = [output for output in cell.get("outputs", ()) if model_of(output) not in self._closed]
            if "outputs" in cell:
                cell.outputs = _settled(outputs)
        Widgets(self.nb.metadata).settle(self.nb.cells)

    def handle_comm_msg(self, outs: list[Any], msg: Message, cell_index: int) -> None:
        """Record the state of a widget, which counts towards `OUTPUT_LIMIT`; later changes of it do not."""
        content = msg["content"]
        if msg["msg_type"] == "comm_close":
            # A browser no longer shows it.
            self._closed.add(content["comm_id"])
            self.widget_state.pop(content["comm_id"], None)
            return
        cost = _cost(content) + sum(len(buffer) for buffer in msg["buffers"]) + _OUTPUT_COST
        if msg["msg_type"] != "comm_open":
            is_kept = content["comm_id"] in self._comms and (cost <= self._remaining or self._pays(cost))
        elif is_kept := _can_be_opened(content) and self._pays(cost):
            self._comms.add(content["comm_id"])
        if is_kept:
            super().handle_comm_msg(outs, msg, cell_index)

    def _look_for_end(self, *, execute_reply: Message, **_: object) -> None:
        content = execute_reply["content"]
        self.asked_to_exit |= any(item.get("source") == "ask_exit" for item in content.get("payload") or ())
        if content.get("ename") == SKIP:
            self.skipped = self._checks.cut(content["evalue"], LONGEST_TEXT) or "no reason given"

    def _pays(self, cost: int) -> bool:
        """Return whether an output of this cost can be kept, and record its cost."""
        if cost > self._remaining:
            self._left_out += cost
            return False
        self._remaining -= cost
        self._cost_of_cell += cost
        return True

    def _refund(self, cost: int) -> None:
        self._remaining += cost
        self._cost_of_cell -= cost

    def _pays_for_update(self, content: Mapping[str, Any]) -> bool:
        display_id = str((content.get("transient") or {}).get("display_id"))
        new = _cost(content) + _OUTPUT_COST
        old = self._cost_of_display.get(display_id, 0)
        if not self._pays(max(0, new - old)):
            return False
        self._cost_of_display[display_id] = max(new, old)
        return True

    def _affordable(self, text: str) -> str:
        """Return as much of a printed `text` as can be kept: printed text gets only half of the limit."""
        cost = _cost(text) + _LINE_COST
        affordable = min(cost, max(0, self._remaining - self._limit // 2))
        kept = text[: len(text) * affordable // cost]
        self._left_out += len(text) - len(kept)
        self._pays(affordable)
        return kept

    def _clip(self, text: str) -> str:
        if len(text) <= LONGEST_ERROR:
            return text
        beginning = self._redaction.beginning(text, LONGEST_ERROR)
        # The kernel may have cut it as well, so this does not say how many there were.
        return f"{beginning}\n[cut after {LONGEST_ERROR} characters]"

    def _forget_cell(self) -> None:
        self._stream.close()
        self._remaining += self._cost_of_cell
        self._cost_of_cell = self._left_out = 0


class _Stream:
    """Text printed piece by piece, which becomes one output: one for each piece would take far more memory.

    It remembers enough of the text that is cut off at its end to find a secret that begins before the cut.
    """

    def __init__(self, redaction: Redaction) -> None:
        self._redaction = redaction
        self._output: nbformat.NotebookNode | None = None
        self._pieces: list[str] = []
        self._rest = ""
        self._pending = 0

    def open(self, output: nbformat.NotebookNode, rest: str) -> None:
        self._output = output
        self._pieces = [output.text]
        self._rest = rest[: self._redaction.margin]

    def goes_on(self, outputs: list[nbformat.NotebookNode], content: Mapping[str, str], rest: str) -> bool:
        """Add `content` if it continues the last of `outputs`, and return whether it does; `rest` is cut off of it."""
        if self._output is None or not outputs or outputs[-1] is not self._output:
            return False
        if self._output.name != content["name"]:
            return False
        self._pieces.append(content["text"])
        self._pending += len(content["text"])
        self._rest += rest[: self._redaction.margin - len(self._rest)]
        return True

    def settle(self) -> int:
        """Keep only what a terminal would still show, from time to time; return by how much that costs less."""
        if self._pending < LONGEST_UNSETTLED or self._rest:
            return 0
        self._pending = 0
        text = "".join(self._pieces)
        self._pieces = [_without_overwritten(text)]
        return max(0, _cost(text) - _cost(self._pieces[0]))

    def close(self) -> None:
        if self._output is not None:
            text = "".join(self._pieces)
            self._output.text = self._redaction.kept(text, self._rest) if self._rest else text
        self._output, self._pieces, self._rest, self._pending = None, [], "", 0


def _without_overwritten(text: str) -> str:
    """Return a long text without what it overwrites itself."""
    return text if len(text) < LONGEST_UNSETTLED else without_overwritten(text)


def _settled(outputs: Iterable[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Return the outputs of a cell, with its printed texts as a terminal shows them in the end.

    A progress bar that goes on after another output, because text is printed meanwhile, is whole in its first place.
    """
    # Each with its pieces of text: to join them each time would take long.
    settled: list[tuple[nbformat.NotebookNode, list[str]]] = []
    streams: dict[str, list[list[str]]] = {}
    for output in outputs:
        if output.output_type != "stream":
            settled.append((output, []))
            continue
        text, texts = output.text, streams.setdefault(output.name, [])
        if texts and (moves_cursor(text) or not text.strip()):
            for later in texts[1:]:
                texts[0] += later
                later.clear()
            texts[1:] = []
            texts[0].append(text)
        elif texts and texts[-1] is settled[-1][1]:
            texts[-1].append(text)
        else:
            texts.append([text])
            settled.append((output, texts[-1]))
    for output, pieces in settled:
        if output.output_type == "stream":
            output.text = as_shown("".join(pieces))
    return [output for output, _ in settled if output.get("text") != ""]


def _cost(value: Any) -> int:
    """Return the approximate size of `value`, in characters."""
    if isinstance(value, str):
        return len(value) + _LINE_COST * value.count("\n")
    if isinstance(value, Mapping):
        return sum(_cost(key) + _cost(item) for key, item in value.items()) + _LINE_COST
    if isinstance(value, list | tuple):
        return sum(map(_cost, value)) + _LINE_COST
    return _NUMBER_COST


def _is_deep(value: Any, levels: int = DEEPEST_OUTPUT) -> bool:
    """Return whether `value`, a list or mapping, has more than `levels` levels of lists and mappings."""
    items = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deep(item, levels - 1) for item in items if isinstance(item, dict | list))


def _holds_scrap(content: Mapping[str, Any]) -> bool:
    return any(kind.startswith(SCRAP_TYPE) for kind in content.get("data", ()))


def _can_be_opened(content: Mapping[str, Any]) -> bool:
    """Return whether `content`, of a ``comm_open``, is not about a widget, or has the names that nbclient looks for."""
    state = content["data"].get("state", {})
    return content.get("target_name") != "jupyter.widget" or {"_model_name", "_model_module"} <= set(state)


def _note(left_out: int, limit: int) -> nbformat.NotebookNode:
    text = (
        f"[AutoFlow left out {amount(left_out)} of this cell's output: a notebook keeps at most {limit / 1e6:g} MB]\n"
    )
    return cast("nbformat.NotebookNode", nbformat.v4.new_output("stream", name="stderr", text=text))
