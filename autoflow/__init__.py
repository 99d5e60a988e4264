"""AutoFlow runs workflows of Jupyter notebooks for each new date of data that FlowAPI has.

Notebooks import this module, too, for `check` and `skip`. It imports nothing, and works in older versions of Python.
"""

__version__ = "0.1.0"
"""The version, which pyproject.toml and the Dockerfile repeat."""

CHECK_TYPE = "application/vnd.autoflow.check+json"
"""The type of the output that has the result of a check."""

_LONGEST = 100_000
"""How much of a name, a message and a reason is kept in a notebook, in characters. AutoFlow keeps less."""


class CheckFailedError(Exception):
    """A check failed where its result reaches nobody: in a process that a notebook has started, or in a script."""


class SkipRun(BaseException):
    """Ends a notebook; raised by `skip`. It is not an Exception: ``except Exception`` does not catch it."""

    def _render_traceback_(self) -> "list[str]":
        """Return what Jupyter shows instead of a traceback."""
        return [f"This run is skipped: {self}"]


def check(name: str, ok: object, severity: str = "error", message: str = "") -> bool:
    """Record whether the data, or a result, is as it should be; return `ok` as a bool.

    `ok` is True or False, or a number, also of numpy or pandas. If a check with the severity ``"error"`` fails, the
    notebook goes on, so that all of its checks are known; then it fails, and its report is not made. If one with the
    severity ``"warning"`` fails, the report and the messages say so. `message` says what was found.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.
    CheckFailedError
        If a check with the severity ``"error"`` fails outside of a notebook.

    """
    name, message = _text(name, "the name of a check"), _text(message, f"the message of check {name!r}", least=0)
    if severity not in ("error", "warning"):
        raise ValueError(f"the severity of check {name!r} must be 'error' or 'warning', not {severity!r}")
    is_ok = _truth(name, ok)
    result = {"name": name, "ok": is_ok, "severity": severity, "message": message}
    text = f"check passed: {name}" if is_ok else f"check failed ({severity}): {name}{message and ': ' + message}"
    if not _sent(result, text):
        print(text)
        if severity == "error" and not is_ok:
            raise CheckFailedError(f"{name}{message and ': ' + message}")
    return is_ok


def skip(why: str) -> None:
    """End the run here, without reports: there is nothing to do for this date, and `why` says why.

    The date counts as done. It always raises an exception.

    Raises
    ------
    SkipRun
        To end the notebook.
    TypeError, ValueError
        If `why` is no text, or is empty.

    """
    raise SkipRun(_text(why, "the reason to skip a run"))


def _text(value: object, what: str, least: int = 1) -> str:
    """Return `value` as text that can be written to a file."""
    if not isinstance(value, str):
        raise TypeError(f"{what} must be text, not {type(value).__name__}")
    text = value.strip()[:_LONGEST].encode("utf-8", "replace").decode()
    if len(text) < least:
        raise ValueError(f"{what} is empty")
    return text


def _truth(name: str, ok: object) -> bool:
    """Return `ok` as a bool; raise TypeError if it is not clear which."""
    kind = type(ok)
    is_scalar = getattr(ok, "shape", ()) == () and (hasattr(ok, "shape") or not hasattr(kind, "__len__"))
    if ok is not None and is_scalar and hasattr(kind, "__bool__"):
        try:
            if ok == ok:  # noqa: PLR0124 - NaN is not
                return bool(ok)
        except (TypeError, ValueError):
            pass  # a missing value of pandas, for instance
        raise TypeError(f"check {name!r}: {ok!r} is neither true nor false")
    hint = "; use .all() or .any()" if not is_scalar and hasattr(ok, "all") else ""
    what = "None" if ok is None else f"a value of the type {kind.__name__}"
    raise TypeError(f"check {name!r} needs True or False, not {what}{hint}")


def _sent(result: object, text: str) -> bool:
    """Send the result of a check to whoever runs the notebook, also if its cell captures outputs; return whether."""
    try:
        kernel = get_ipython().kernel  # type: ignore[name-defined]  # IPython adds it to the built-in names
        print(end="", flush=True)  # what was printed before has to arrive before
        content = {"data": {CHECK_TYPE: result, "text/plain": text}, "metadata": {}, "transient": {}}
        return kernel.send_response(kernel.iopub_socket, "display_data", content) is not None
    except (NameError, AttributeError):
        return False
