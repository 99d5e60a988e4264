"""The fonts that the PDF's theme wants, and which of them this machine lacks."""


def missing_fonts() -> tuple[str, ...]:
    """Return a line for each script whose font is not installed, with the Debian package that brings it."""
    return ()
