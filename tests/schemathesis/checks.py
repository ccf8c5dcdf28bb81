"""What schemathesis checks beside its own checks."""

import schemathesis

# A plane that tells a client to come back: what is asked for is not there yet, or the zone that should answer has no link.
WAITS = ("is not here yet", "no link", "not linked", "not ready")


@schemathesis.check
def no_server_error(ctx, response, case):
    if response.status_code < 500:
        return
    if response.status_code == 503 and "retry-after" in {name.lower() for name in response.headers}:
        detail = response.json().get("detail", "")
        if any(words in detail for words in WAITS):
            return
    raise AssertionError(f"{response.status_code}: {response.text[:500]}")
