"""The contract test's checks beside those of schemathesis."""

import schemathesis


@schemathesis.check
def a_valid_request_is_not_called_invalid(ctx, response, case):  # type: ignore[no-untyped-def]
    """The service may refuse a request that the document allows, but not as malformed."""
    del ctx
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if response.status_code == 422:
        assert response.json()["code"] != "request_invalid", response.text


@schemathesis.hook
def before_call(ctx, case, kwargs):  # type: ignore[no-untyped-def]
    """Do not wait: a response after 60 seconds would be no different."""
    del ctx, kwargs
    if (case.headers and any(name.lower() == "prefer" for name in case.headers)) or (
        case.method.upper() == "DELETE" and case.headers is not None
    ):
        case.headers["Prefer"] = "wait=0"
