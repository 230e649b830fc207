"""The documents of the API: the OpenAPI document, and the page at `/docs`."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from markdown_it import MarkdownIt
from starlette.responses import HTMLResponse

from prefect_executions.service.docs.reference import SCHEMA, markdown
from prefect_executions.service.responses import Problem

TITLE = "prefect-executions"
TAGS = {
    "executions": "executions",
    "checkpoints": "checkpoints",
    "agents outside Prefect": "agents",
    "control": "control",
    "service": None,
}
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --code: #8882; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; }
h2 { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: 1rem; }
h3 { margin-top: 2.2rem; }
code, pre { font: 14px/1.5 ui-monospace, monospace; background: var(--code); border-radius: 4px; }
code { padding: .1em .3em; }
pre { padding: .8rem 1rem; overflow-x: auto; }
pre code { padding: 0; background: none; }
table { border-collapse: collapse; width: 100%; display: block; overflow-x: auto; }
th, td { text-align: left; vertical-align: top; padding: .35rem .7rem .35rem 0;
  border-bottom: 1px solid var(--line); }
thead:not(:has(th:not(:empty))) { display: none; }
"""


def write(app: FastAPI, directory: Path) -> None:
    """Write the documents of an application: `openapi.json` and `http-api.md`."""
    document = app.openapi()
    text = json.dumps(document, indent=1, ensure_ascii=False)
    (directory / "openapi.json").write_text(f"{text}\n")
    (directory / "http-api.md").write_text(markdown(document))


def install(app: FastAPI) -> None:
    """Serve the documents of an application at `/openapi.json` and `/docs`."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _openapi(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
    router = APIRouter()

    @router.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
        policy = f"default-src 'none'; style-src 'sha256-{digest}'; frame-ancestors 'none'"
        page = html(markdown(app.openapi()))
        return HTMLResponse(page, headers={"Content-Security-Policy": policy})

    app.include_router(router)


def _openapi(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=TITLE,
        version=app.version,
        openapi_version="3.1.0",
        description=_guide("intro"),
        routes=app.routes,
        tags=[
            {"name": name, "description": _guide(guide) if guide else "Of the service itself."}
            for name, guide in TAGS.items()
        ],
    )
    schema = Problem.model_json_schema(ref_template=f"{SCHEMA}{{model}}")
    known = document["components"]["schemas"]
    known |= schema.pop("$defs")
    known["Problem"] = schema
    known.pop("HTTPValidationError", None)
    known.pop("ValidationError", None)
    return document


def _guide(name: str) -> str:
    return (Path(__file__).parent / "guide" / f"{name}.md").read_text()


def html(text: str) -> str:
    """Markdown as an HTML page that loads nothing else."""
    body = MarkdownIt("commonmark").enable("table").render(text)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{TITLE}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body>{body}</body></html>"
    )
