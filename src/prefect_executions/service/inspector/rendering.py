"""Makes pages of templates, and what every page has: its policy, its paths, its words."""

from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import orjson
from humanize import naturaltime
from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup
from rich.filesize import decimal
from starlette.responses import HTMLResponse

from prefect_executions.config import Status
from prefect_executions.prefect.run_page import duration
from prefect_executions.service.inspector.fields import as_json

PATH = "/ui"
STATIC = Path(__file__).parent / "static"
OPEN_PATHS = sorted(f"{PATH}/static/{file.name}" for file in STATIC.iterdir())

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# No HTML, and no pictures, which the policy would not show.
_markdown = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")


def when(at: datetime | None) -> str:
    """A time, in UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if at else "-"


def ago(at: datetime | None) -> Markup | str:
    """A time as people say it; the tooltip has it in UTC."""
    if at is None:
        return "-"
    said = naturaltime(datetime.now(UTC) - at)
    exact = f"{when(at)} UTC"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(at.isoformat(), exact, said)


def clock(at: datetime) -> Markup:
    """The time of a day, in UTC; the tooltip has the day."""
    exact = f"{when(at)} UTC"
    html = '<time datetime="{}" title="{}">{}</time>'
    return Markup(html).format(at.isoformat(), exact, f"{at.astimezone(UTC):%H:%M:%S}")


def seconds(span: float) -> str:
    """A short time span as text."""
    if span < 1:
        return f"{span * 1000:.0f} ms"
    return f"{span:.1f} s" if span < 60 else duration(span)


def pretty(value: Any) -> str:
    """A JSON value as people read it."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def markdown(text: str) -> Markup:
    """Markdown as HTML that is safe to show, whoever has written it."""
    return Markup(_markdown.render(text))


def inline(text: str) -> Markup:
    """One line of Markdown as HTML; see `markdown`."""
    return Markup(_markdown.renderInline(text))


_templates = Environment(
    loader=PackageLoader("prefect_executions.service.inspector"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters |= {
    "when": when,
    "ago": ago,
    "clock": clock,
    "seconds": seconds,
    "size": decimal,
    "duration": duration,
    "pretty": pretty,
    "markdown": markdown,
    "inline": inline,
    "json": as_json,
}
_templates.globals |= {
    "root": PATH,
    "statuses": [*Status],
    "styles": [path for path in OPEN_PATHS if path.endswith(".css")],
}


def page(template: str, status: HTTPStatus = HTTPStatus.OK, **facts: Any) -> HTMLResponse:
    """A page.

    Args:
        template: The name of its template.
        status: The HTTP status.
        facts: The variables of the template.
    """
    text = _templates.get_template(template).render(**facts)
    return HTMLResponse(text, status, headers={"Content-Security-Policy": _POLICY})
