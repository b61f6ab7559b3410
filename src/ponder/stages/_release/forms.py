"""Forms of an artefact as they are asked for, `gguf:q8_0,q4_k_m`, and the exporter of each."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from ponder.core.errors import ConfigurationError
from ponder.core.plugins import load_plugin, plugin_names
from ponder.core.protocols import Exporter
from ponder.runs.store import is_safe_name


def forms_of(asked: Sequence[str]) -> list[str]:
    """Every form by itself: `gguf:q4_k_m,q8_0` is two.

    Raises:
        ConfigurationError: If one is named twice, or is no name.
    """
    found: list[str] = []
    for text in asked:
        name = ""
        for part in map(str.strip, text.split(",")):
            first, colon, form = part.partition(":")
            if colon:
                name = first
                found.append(f"{name}:{form}")
            else:
                found.append(f"{name}:{part}" if name and part not in plugin_names("exporters") else part)
    for form in found:
        if not is_safe_name(form.replace(":", "-")) or form.endswith(":"):
            raise ConfigurationError(f"{form!r} is no form of an artefact", where="to", fix="write gguf:q8_0,q4_k_m")
        if found.count(form) > 1:
            raise ConfigurationError(f"{form} is asked for twice", where="to")
    return found


def is_weighed(form: str) -> bool:
    """Whether a quantiser of this form can be told which numbers matter."""
    return "_k" in form or form.endswith(("q4_0", "iq4_nl"))


def exporter_of(form: str, **settings: object) -> Exporter:
    """An exporter by its name and form, such as `gguf:q8_0`; settings that it does not have are left out.

    Raises:
        ConfigurationError: If there is no such exporter or form.
        ResourceError: If a package that it needs is not installed.
    """
    name, colon, kind = form.partition(":")
    exporter = load_plugin("exporters", name)
    known = getattr(exporter, "model_fields", {})
    chosen = {key: value for key, value in settings.items() if key in known}
    try:
        return exporter(**chosen, **({"form": kind} if colon else {}))
    except ValidationError as error:
        raise ConfigurationError(f"{name} has no form {kind!r}", where="to", fix=error.errors()[0]["msg"]) from error
