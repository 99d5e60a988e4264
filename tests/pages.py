"""The content of the index page, as its script sees it."""

import datetime
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from autoflow.model.opening import PAGE_NAME

Json = dict[str, Any]


def catalogue(outputs: Path, *, with_parts: bool = False) -> Json:
    """Return the catalogue in the page of an outputs folder; if that is wanted, with all entries from its parts."""
    html = (outputs / PAGE_NAME).read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="content">(.*?)</script>', html, re.DOTALL)
    assert found
    content = dict(json.loads(found[1]))
    if with_parts and content["parts"]:
        parts = [(outputs / "page" / f"entries-{number}.js").read_text() for number in range(len(content["parts"]))]
        content["entries"] = [entry for part in parts for entry in json.loads(part[part.index(",") + 1 : -3])]
    return content


def data_of(outputs: Path, entry: Mapping[str, Any], year: int | str) -> Json:
    """Return the data file of an entry of the catalogue and a year."""
    name = f"{entry['slug']}/{year}"
    text = (outputs / "page" / f"{name}.js").read_text(encoding="utf-8")
    found = re.fullmatch(r'autoflow\("([^"]*)",(.*)\);\n', text, re.DOTALL)
    assert found
    assert found[1] == name
    return dict(json.loads(found[2]))


def rows(outputs: Path, entry: Mapping[str, Any]) -> dict[datetime.date, list[Any]]:
    """Return the rows of all dates of an entry of the catalogue."""
    found = {}
    for year in entry["years"]:
        for row in data_of(outputs, entry, year)["days"]:
            date = datetime.date(1970, 1, 1) + datetime.timedelta(days=row[0])
            assert date.year == int(year)
            found[date] = row
    return found


def statuses(outputs: Path, entry: Mapping[str, Any] | None = None) -> dict[datetime.date, str]:
    """Return the status of each date of an entry of the catalogue, by default its only one."""
    page = catalogue(outputs)
    if entry is None:
        (entry,) = page["entries"]
    return {date: page["statuses"][row[1]] for date, row in rows(outputs, entry).items()}


def files_of(outputs: Path) -> set[Path]:
    """Return the files that the page leads to, those in its calendars included."""
    page = catalogue(outputs)
    links = {href for each in page["entries"] if each["latest"] for _, _, href in each["latest"]["links"]}
    links |= {href for each in page["try_outs"] for _, _, href in each["links"]}
    for entry in page["entries"]:
        links |= set(_links(outputs, entry))
    return {(outputs / unquote(link)).resolve() for link in links}


def _links(outputs: Path, entry: Mapping[str, Any]) -> Iterator[str]:
    """Yield the links of a calendar, as the page's script puts them together."""
    for year in entry["years"]:
        data = data_of(outputs, entry, year)
        for day, _, number, time, *_ in data["days"]:
            date = (datetime.date(1970, 1, 1) + datetime.timedelta(days=day)).isoformat()
            for _, notebook, is_readable, reports in data["sets"][number] if number >= 0 else ():
                html = [notebook.removesuffix(".ipynb") + ".html"] if is_readable else []
                yield from (link.replace("{d}", date).replace("{t}", time) for link in (notebook, *html, *reports))
