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
