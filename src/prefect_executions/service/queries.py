"""Query parameters that nobody knows are refused: a misspelt filter would mean everything."""

from fastapi import Request
from fastapi.exceptions import RequestValidationError


async def require_known_query(request: Request) -> None:
    """Check the names of the query parameters of a request against the OpenAPI document.

    Raises:
        RequestValidationError: there is one that its route does not have.
    """
    if not request.query_params:
        return
    operation = request.app.openapi()["paths"][request.scope["route"].path][request.method.lower()]
    known = {p["name"] for p in operation.get("parameters", []) if p["in"] == "query"}
    unknown = [name for name in request.query_params if name not in known]
    if unknown:
        what = f"is not known here; there are: {', '.join(sorted(known)) or 'none'}"
        raise RequestValidationError(
            [{"loc": ("query", name), "msg": what, "type": "extra_forbidden"} for name in unknown]
        )
