"""Text that arrives in pieces and is shown at once, without secrets."""

from autoflow.notebooks.redaction import Redaction

CONTEXT = 200
"""How much of the text that was shown is searched again together with what follows it, in characters."""


class RedactedStream:
    """Text that arrives in pieces, and is taken from here without secrets, also where one spans two pieces.

    What may be the beginning of a secret is held back until the rest arrives. At most `most` characters wait to be
    taken: of more, the newest are kept, and `left_out` counts the others.
    """

    def __init__(self, redaction: Redaction, *, most: int) -> None:
        self.left_out = 0
        self._redaction = redaction
        self._most = most
        self._text = ""
        self._taken = 0
        self._context = CONTEXT
        self._pieces: list[str] = []
        self._waiting = 0

    def add(self, piece: str) -> None:
        """Add a piece at the end."""
        self._pieces.append(piece)
        self._waiting += len(piece)
        if self._waiting > self._most + self._redaction.margin:
            self._join()

    def take(self, *, is_end: bool = False) -> str:
        """Return what can be shown of the text since the last call; with `is_end`, nothing is held back."""
        self._join()
        if self._taken == len(self._text):
            return ""
        clean = self._redaction.of_text(self._text)
        before = self._redaction.of_text(self._text[: self._taken])
        new = clean[_common_length(before, clean) :]
        held_back = 0 if is_end else min(len(new), self._redaction.unfinished(clean))
        self._taken = len(self._text) - held_back
        self._forget(self._taken - self._context)
        self._context = CONTEXT
        return new[: len(new) - held_back]

    def _join(self) -> None:
        self._text += "".join(self._pieces)
        self._pieces, self._waiting = [], 0
        excess = len(self._text) - self._most
        if excess > self._taken:
            self.left_out += excess - self._taken
            # What is left may begin with the end of a secret.
            self._taken, self._context = excess, self._redaction.margin
            self._forget(excess - self._context)

    def _forget(self, length: int) -> None:
        """Forget characters at the beginning that have been taken."""
        if length > 0:
            self._text, self._taken = self._text[length:], self._taken - length


def _common_length(one: str, other: str) -> int:
    """Return how many characters two texts have in common at their beginning."""
    if other.startswith(one):
        return len(one)
    differing = (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differing, min(len(one), len(other)))
