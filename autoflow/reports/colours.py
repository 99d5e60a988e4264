"""Colours that a notebook gives to text and cells, as six hexadecimal digits."""

from PIL import ImageColor


def declarations_of(style: str) -> dict[str, str]:
    """Return the declarations of a CSS ``style`` attribute; later ones replace earlier ones."""
    pairs = (declaration.partition(":") for declaration in style.split(";"))
    return {name.strip().lower(): value.replace("!important", "").strip() for name, _, value in pairs if value.strip()}


def colour_of(value: str) -> str:
    """Return the colour that CSS calls `value`; empty if it is not a colour, or transparent."""
    if not value:
        return ""
    try:
        channels = ImageColor.getrgb(value.strip().lower())
    except ValueError:
        return ""
    is_seen = len(channels) == 3 or channels[3] > 0
    return "{:02x}{:02x}{:02x}".format(*channels[:3]) if is_seen else ""
