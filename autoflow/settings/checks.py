"""Types of settings: each check returns the value, or raises ValueError with what is wrong and what to do.

The name of the setting is put before the message, except that of a `Problem`. No message shows a value that may hold a
secret.
"""

import importlib.util
import ipaddress
import math
import os
import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr, ValidationInfo

from autoflow.system.home import is_substitute

MAX_SECONDS = 366 * 24 * 3600
"""The longest time that can be set: a year."""

MOST_DAYS_KEPT = 36_525
"""The longest time that outputs can be kept, other than forever: a century, in days."""

HIGHEST_PORT = 65535

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
LOG_FORMATS = ("text", "json")

_PEM_BEGIN = "-----BEGIN "

_LONGEST_PEM = 256 * 1024
"""The highest number of characters of certificates and keys that is read from a file."""


class Problem(ValueError):  # noqa: N818 - a source gives it as a value
    """A whole line for the operator."""


def absolute(value: str | Path) -> Path:
    """Return an absolute path; `~` is the home folder."""
    first = Path(value).parts[:1]
    try:
        path = Path(value).expanduser()
    except RuntimeError:
        path = None
    if path is None or (first == ("~",) and is_substitute(Path.home())):
        raise ValueError(f"there is no home folder for '{first[0]}'")
    return path.absolute()


def _holds(check: Callable[[], bool]) -> bool:
    """Return what `check` of a path returns; False if the path is too long, or in a folder without access."""
    try:
        return check()
    except OSError:
        return False


def _existing_file(path: Path) -> Path:
    if not _holds(path.is_file):
        raise ValueError(f"there is no file {path}")
    return path


def _certificate(path: Path) -> Path:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError as error:
        reason = "not a certificate in PEM format" if isinstance(error, ssl.SSLError) else error.strerror
        raise ValueError(f"cannot use {path}: {reason}") from error
    return path


def _existing_folder(path: Path) -> Path:
    if not _holds(path.is_dir):
        raise ValueError(f"{path} is not a folder")
    return path


def _has_workflows(path: Path) -> Path:
    if not _holds((path / "workflows.yml").exists):
        raise ValueError(
            f"there is no workflows.yml in {path}: put one there or, in a container, mount the folder that has it: "
            "-v FOLDER:/mounts/inputs:ro"
        )
    return path


def _writable(path: Path) -> Path:
    """Check a folder that AutoFlow will make if it is not there yet."""
    existing = next((parent for parent in (path, *path.parents) if _holds(parent.exists)), path)
    if not _holds(existing.is_dir):
        raise ValueError(f"{existing} is not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise Problem(
            f"the outputs folder {existing} is not writable by this user: run `chown {os.getuid()} {existing}`, or "
            "start AutoFlow as its owner (docker run --user)"
        )
    return path


def _may_be_in_uri(path: Path) -> Path:
    """Check a path that becomes part of a URI: of a database for SQLAlchemy, of a notebook for scrapbook."""
    for folder in (*reversed(path.parents), path):
        if odd := re.search("[?#]", folder.name):
            raise Problem(
                f"the folder {folder} has a '{odd[0]}' in its name, where SQLite or scrapbook would end the path: "
                "rename it, or choose another one"
            )
    return path


def seconds(*, above: float = -math.inf, at_least: float = -math.inf) -> BeforeValidator:
    """Return a check of numbers of seconds up to `MAX_SECONDS`."""
    lowest = f"above {above:g} and up to" if above > -math.inf else f"from {at_least:g} to"

    def check(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not (number > above and at_least <= number <= MAX_SECONDS):
            raise ValueError(f"'{value}' is not a number of seconds {lowest} {MAX_SECONDS}")
        return number

    return BeforeValidator(check)


def whole_number(*, highest: int) -> BeforeValidator:
    """Return a check of whole numbers from 1 to `highest`, written in digits alone."""

    def check(value: str) -> int:
        if not (re.fullmatch("[0-9]{1,9}", value) and 1 <= int(value) <= highest):
            raise ValueError(f"'{value}' is not a whole number from 1 to {highest}")
        return int(value)

    return BeforeValidator(check)


def _log_level(value: str) -> str:
    if value not in LOG_LEVELS:
        raise ValueError(f"'{value}' is not one of {', '.join(LOG_LEVELS)} (in upper case)")
    return value


def _log_format(value: str) -> str:
    if value not in LOG_FORMATS:
        raise ValueError(f"'{value}' is not one of {', '.join(LOG_FORMATS)}")
    return value


def _switch(value: str) -> bool:
    if value.lower() not in {"true", "false"}:
        raise ValueError(f"'{value}' is neither true nor false")
    return value.lower() == "true"


def _modules(value: str) -> tuple[str, ...]:
    modules = tuple(value.replace(",", " ").split())
    for module in modules:
        if not all(part.isidentifier() for part in module.split(".")):
            raise ValueError(f"'{module}' is not the name of a Python module")
    return modules


def _host_names(value: str) -> tuple[str, ...]:
    names = tuple(value.replace(",", " ").split())
    for name in names:
        if not re.fullmatch(r"[\w.-]+|\[?[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]?", name, re.ASCII):
            raise ValueError(f"'{name}' is not a host name such as autoflow.example.org, without https:// and port")
    return names


def web_address(example: str) -> AfterValidator:
    """Return a check of URLs for HTTP, which also takes away a slash at the end."""

    def check(value: str) -> str:
        try:
            parts = urlsplit(value)
            is_url = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_url = False
        if not is_url:
            raise ValueError(f"not a URL such as {example}")
        return value.rstrip("/")

    return AfterValidator(check)


def _without_login(value: str) -> str:
    if "@" in urlsplit(value).netloc:
        raise ValueError("remove the user and the password; AutoFlow logs in with FLOWAPI_TOKEN")
    return value


def _urls(value: str) -> tuple[str, ...]:
    """Return URLs, with or without names, separated by spaces, commas or line ends; a comma may be part of one, too."""
    urls = tuple(url for url in re.split(rf"\s+|,\s*(?={_NAME_AND_SCHEME})", value) if url.strip(","))
    if wrong := [number for number, url in enumerate(urls, 1) if not re.match(_NAME_AND_SCHEME, url)]:
        raise ValueError(
            f"number {wrong[0]} is not a URL such as mailto://user:password@example.org, or a name and a URL such as "
            "boss=mailto://user:password@example.org"
        )
    return urls


def is_loopback(host: str) -> bool:
    """Return whether a host name or an address is that of this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _scheduler_address(value: str) -> str:
    address = re.fullmatch(r"(tls|tcp)://([\w.-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})", value, re.ASCII)
    if not address or not 1 <= int(address[3]) <= HIGHEST_PORT:
        raise ValueError(f"'{value}' is not an address such as tls://scheduler.example.org:8786")
    if address[1] == "tcp" and not is_loopback(address[2].strip("[]")):
        raise ValueError(
            f"'{value}' is not encrypted, so whoever reaches it could run code: use tls:// (tcp:// is for 127.0.0.1)"
        )
    return value


def _pem(value: str) -> str:
    """Return a text in PEM format, which is the value itself or is in the file that it names."""
    if _PEM_BEGIN in value:
        return value.strip() + "\n"
    try:
        with absolute(value).open(encoding="ascii") as file:
            content = file.read(_LONGEST_PEM)
    except OSError as error:
        raise ValueError(
            f"it is neither in PEM format nor the path of a file in PEM format: {error.strerror}"
        ) from error
    except ValueError as error:
        raise ValueError("the file that it names is not in PEM format") from error
    if _PEM_BEGIN not in content:
        raise ValueError("the file that it names is not in PEM format")
    return content


def _has_dask(value: str) -> str:
    if importlib.util.find_spec("distributed") is None:
        raise ValueError(
            "Dask is not installed: build the image with `--build-arg CLUSTER=true`, or outside a container run "
            '`pipenv sync --categories "packages cluster"`'
        )
    return value


def _suits_cluster(value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
    if info.data.get("dask_scheduler") and (value is None or value.get_secret_value().startswith("sqlite")):
        raise ValueError("a cluster (AUTOFLOW_DASK_SCHEDULER) needs PostgreSQL for the database of runs, not SQLite")
    return value


_NAME_AND_SCHEME = r"(?:[\w.-]+=)?[A-Za-z][\w.+-]*://"


def name_and_url(text: str) -> tuple[str, str]:
    """Return the name of a recipient, which is empty if there is none, and the URL.

    A URL may contain '=', but has its '://' before that.
    """
    name, is_named, url = text.partition("=")
    return (name, url) if is_named and "://" not in name else ("", text)


def _database(value: SecretStr, info: ValidationInfo) -> SecretStr:
    uri = value.get_secret_value()
    if "{}" in uri and info.data.get("db_password", "unreadable") is None:
        raise Problem("AUTOFLOW_DB_PASSWORD is not set: AUTOFLOW_DB_URI has '{}' in place of the password")
    if "://" not in uri:
        raise ValueError("not a URI such as postgresql://user:{}@host:5432/autoflow")
    if uri.partition("://")[2].partition("/")[0].count("@") > 1:
        raise ValueError(
            "write an '@' in the password as %40; or write {} in place of the password, and put it unchanged into "
            "AUTOFLOW_DB_PASSWORD"
        )
    return value


AbsolutePath = Annotated[Path, BeforeValidator(absolute)]
File = Annotated[AbsolutePath, AfterValidator(_existing_file)]
Certificate = Annotated[File, AfterValidator(_certificate)]
ExistingFolder = Annotated[AbsolutePath, AfterValidator(_existing_folder)]
InputsFolder = Annotated[ExistingFolder, AfterValidator(_has_workflows)]
Folder = Annotated[AbsolutePath, AfterValidator(_writable)]
FolderInUri = Annotated[Folder, AfterValidator(_may_be_in_uri)]
LogLevel = Annotated[str, AfterValidator(_log_level)]
LogFormat = Annotated[str, AfterValidator(_log_format)]
FlowApiUrl = Annotated[str, web_address("https://flowapi.example.org:9090"), AfterValidator(_without_login)]
Switch = Annotated[bool, BeforeValidator(_switch)]
Modules = Annotated[tuple[str, ...], BeforeValidator(_modules)]
HostNames = Annotated[tuple[str, ...], BeforeValidator(_host_names)]
Token = Annotated[SecretStr, BeforeValidator(str.strip)]
SecretUrls = Annotated[tuple[SecretStr, ...], BeforeValidator(_urls)]
Pem = Annotated[str, BeforeValidator(_pem)]
SecretPem = Annotated[SecretStr, BeforeValidator(_pem)]
SchedulerAddress = Annotated[str, AfterValidator(_scheduler_address), AfterValidator(_has_dask)]
SuitsCluster = AfterValidator(_suits_cluster)
DatabaseUri = Annotated[SecretStr, AfterValidator(_database)]
