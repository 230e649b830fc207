"""What the contract test asks beside schemathesis's own checks."""

import schemathesis


@schemathesis.check
def a_valid_request_is_not_called_invalid(ctx, response, case):  # type: ignore[no-untyped-def]
    """What the document allows, the service may refuse, but not as malformed."""
    del ctx
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if response.status_code == 422:
        assert response.json()["code"] != "request_invalid", response.text


@schemathesis.hook
def before_call(ctx, case, kwargs):  # type: ignore[no-untyped-def]
    """Wait for nothing: an answer after 60 seconds tells no more."""
    del ctx, kwargs
    if (case.headers and any(name.lower() == "prefer" for name in case.headers)) or (
        case.method.upper() == "DELETE" and case.headers is not None
    ):
        case.headers["Prefer"] = "wait=0"
