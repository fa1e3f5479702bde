"""Pages for people: each one HTML file, with no script and nothing from elsewhere, readable in light and dark.

What is of the user (labels, file names, commands) is escaped.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATE = "page.html.j2"


def render(folder: str, filters: Mapping[str, Callable[..., str]] | None = None, /, **values: Any) -> str:
    """The page of ``folder`` below training/, with ``values``; one that it needs and lacks is an error."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= dict(filters or {})
    return environment.get_template(f"{folder}/{TEMPLATE}").render(values)
