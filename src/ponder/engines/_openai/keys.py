"""Keys: where they come from, whom they may be shown to, and how they are kept out of every text.

The rule, first match counts: the variable that the option `key` names; `OPENAI_API_KEY` for api.openai.com and for
the host of `OPENAI_BASE_URL`; `PONDER_API_KEY` for any other host; no key. So a key for one service is never sent to
another by accident.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from ponder.core.errors import ConfigurationError
from ponder.engines._openai.served import BASE_URL, HOSTED, Served

OPENAI, PONDER = "OPENAI_API_KEY", "PONDER_API_KEY"
PLAIN_HTTP = "PONDER_ALLOW_PLAIN_HTTP"
HIDDEN = "[key]"
_LOOKS_LIKE_A_KEY = re.compile(r"\b(?:sk|pk|key|gsk|xai|hf)[-_][A-Za-z0-9_\-]{8,}|(?<=Bearer )[^\s\"',]+")


class Key:
    """A secret that no representation shows."""

    __slots__ = ("_secret", "variable")

    def __init__(self, secret: str, variable: str) -> None:
        """Keep the secret and the name of the variable that held it."""
        self._secret, self.variable = secret, variable

    def __bool__(self) -> bool:
        return bool(self._secret)

    def __repr__(self) -> str:
        return HIDDEN if self._secret else "no key"

    __str__ = __repr__

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a key is not stored")

    @property
    def headers(self) -> dict[str, str]:
        """What is sent with every request."""
        return {"authorization": f"Bearer {self._secret}"} if self._secret else {}

    def redact(self, text: str) -> str:
        """The text without this key and without anything that looks like one."""
        if self._secret:
            text = text.replace(self._secret, HIDDEN)
        return _LOOKS_LIKE_A_KEY.sub(HIDDEN, text)


def key_variable(served: Served, environment: Mapping[str, str] | None = None) -> str:
    """Name of the environment variable that a server's key is read from."""
    if served.key:
        return served.key
    base = (os.environ if environment is None else environment).get(BASE_URL, "")
    own = {urlsplit(HOSTED).hostname, urlsplit(base).hostname}
    return OPENAI if served.host in own else PONDER


def key_for(served: Served, environment: Mapping[str, str] | None = None) -> Key:
    """The key of a server.

    Raises:
        ConfigurationError: If the named variable is not set, the key cannot be sent in a header, or it would travel
            unencrypted to another machine.
    """
    variables = os.environ if environment is None else environment
    variable = key_variable(served, variables)
    secret = variables.get(variable, "").strip()
    if served.key and not secret:
        raise ConfigurationError(f"the environment variable {variable} is not set", fix=f"export {variable}=...")
    if not (secret.isascii() and secret.isprintable()):
        raise ConfigurationError(f"the key in {variable} has characters that no key has", fix="copy it again")
    allowed = served.plain or variables.get(PLAIN_HTTP, "") == "1"
    if secret and not served.encrypted and not served.loopback and not allowed:
        raise ConfigurationError(
            f"the key in {variable} would be sent unencrypted to another machine",
            where=served.url,
            fix=f"use https://; or, on a network that you trust, add ?plain=true or set {PLAIN_HTTP}=1",
        )
    return Key(secret, variable)
