"""A model behind a URL: its address, and how it is to be asked.

Written in one line: `openai:MODEL@URL?stream=true&concurrency=16`, or `openai:MODEL` for the server that
`OPENAI_BASE_URL` names. What stands behind the question mark are fields of `Served`.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from pydantic import Field, JsonValue, ValidationError, field_validator

from ponder.core.errors import ConfigurationError
from ponder.core.types import Record

PREFIX = "openai:"
HOSTED = "https://api.openai.com/v1"
"""Where a model without a URL is asked when `OPENAI_BASE_URL` is not set."""
BASE_URL = "OPENAI_BASE_URL"
_ADDRESS = re.compile(r"(?P<model>.+?)@(?P<url>https?://.*)", re.DOTALL | re.IGNORECASE)
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,99}")


class Served(Record):
    """A model of an OpenAI-compatible server."""

    model: str = Field(min_length=1, max_length=300)
    """As the server calls it."""
    url: str
    """The address before `/chat/completions`."""
    stream: bool = False
    """Answers come token by token, which keeps proxies from closing a connection on which nothing moves."""
    concurrency: int = Field(default=32, ge=1, le=1000)
    """Most requests at once; fewer are made while the server says that it is busy."""
    n: int = Field(default=1, ge=1, le=128)
    """Samples of one prompt that one request asks for. Above 1 the prompt is paid for once, but the samples of a
    request share a seed."""
    timeout: float = Field(default=600.0, gt=0.0, le=86_400.0)
    """Seconds that one attempt may take, from the connection to the last byte."""
    patience: float = Field(default=3600.0, gt=0.0, le=604_800.0)
    """Seconds that one request may take with all its attempts and the waits between them."""
    batch: bool = False
    """Ask through the server's batch files: slower and, where it is offered, cheaper."""
    poll: float = Field(default=30.0, gt=0.0, le=3600.0)
    """Seconds between two looks at a batch."""
    logprobs: bool = False
    """Ask for the log-probability of every sampled token."""
    omit: tuple[str, ...] = ()
    """Fields that the server refuses and that are never sent: `seed`, `top_p`, `temperature`, ..."""
    extra: dict[str, JsonValue] = Field(default_factory=dict)
    """Fields that are sent besides, as JSON: `{"reasoning_effort": "low"}`."""
    key: str = ""
    """Name of the environment variable that holds the key; empty: see `ponder.engines._openai.keys`."""
    plain: bool = False
    """Send the key over http to another machine all the same."""
    tokenizer: str = ""
    """Folder or name of the model's tokenizer, to count a prompt and notice when the server cuts it."""
    probe: bool = False
    """Before the first question, try whether the server honours seed, temperature and logprobs."""

    @field_validator("url")
    @classmethod
    def _plain_address(cls, url: str) -> str:
        parts = urlsplit(url.strip())
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("the address begins with http:// or https:// and a host")
        if parts.username is not None or parts.password is not None:
            raise ValueError("an address must not carry a name or a key; put the key into the environment")
        if parts.query or parts.fragment:
            raise ValueError("an address has no query and no fragment")
        path = parts.path.rstrip("/").removesuffix("/chat/completions").rstrip("/") or "/v1"
        return urlunsplit((parts.scheme, parts.netloc, path, "", ""))

    @field_validator("key")
    @classmethod
    def _names_a_variable(cls, key: str) -> str:
        if key and not _VARIABLE.fullmatch(key):
            raise ValueError("this is the name of an environment variable (CAPITALS_AND_DIGITS), never the key itself")
        return key

    @property
    def name(self) -> str:
        """For traces and reports: the model and where it is served."""
        return f"{PREFIX}{self.model}@{self.url}"

    @property
    def host(self) -> str:
        """Host name, or number."""
        return urlsplit(self.url).hostname or ""

    @property
    def loopback(self) -> bool:
        """Whether the server is on this machine."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def encrypted(self) -> bool:
        """Whether the connection is."""
        return urlsplit(self.url).scheme == "https"


def read_served(text: str, environment: Mapping[str, str] | None = None) -> Served:
    """A served model from its one line, with or without the leading `openai:`.

    Raises:
        ConfigurationError: If the address or an option cannot be used. Values are not repeated: one may be a key.

    Example:
        >>> read_served("openai:qwen3:8b@http://127.0.0.1:11434?stream=true").url
        'http://127.0.0.1:11434/v1'
    """
    written = text.removeprefix(PREFIX)
    found = _ADDRESS.fullmatch(written)
    if found:
        model, (url, _, query) = found["model"], found["url"].partition("?")
    else:
        model, _, query = written.partition("?")
        url = (os.environ if environment is None else environment).get(BASE_URL, "") or HOSTED
    try:
        return Served.model_validate({"model": model, "url": url, **_options(query)})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "address"
        raise ConfigurationError(
            f"{field}: {first['msg'].removeprefix('Value error, ')}",
            where="a model written openai:MODEL@URL?option=value",
            fix="for example openai:qwen3:8b@http://127.0.0.1:11434/v1?stream=true",
        ) from None  # pydantic's own text repeats the value


def _options(query: str) -> dict[str, Any]:
    known = [name for name in Served.model_fields if name not in ("model", "url")]
    options: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            near = get_close_matches(name, known, 1)
            fix = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(known)}"
            raise ConfigurationError(f"a served model has no option {name[:40]!r}", fix=fix)
        if name in options:
            raise ConfigurationError(f"the option {name!r} is there twice")
        options[name] = _value(name, value)
    return options


def _value(name: str, text: str) -> Any:
    """Text as the option's type reads it: a list with commas, an object as JSON, anything else by pydantic."""
    if name == "omit":
        return tuple(part for part in text.split(",") if part)
    if name != "extra":
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        fix = 'extra={"reasoning_effort":"low"}'
        raise ConfigurationError("the option 'extra' is a JSON object", fix=fix) from None
