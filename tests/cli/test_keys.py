"""Commands for keys, which ask Prefect itself."""

import json
from uuid import uuid4

from prefect.client.orchestration import SyncPrefectClient

from running import Run


def test_a_key_is_made_shown_once_listed_and_revoked(run: Run, prefect: SyncPrefectClient) -> None:
    name = f"key-{uuid4().hex}"
    narrowed = ("--agent-id", "me", "--deployment", "flow/one", "--deployment", "flow/two")
    code, secret, hint = run("keys", "create", name, "--permission", "read", *narrowed)
    assert code == 0
    assert secret.startswith("pxk_")
    assert "not shown again" in hint

    code, out, _ = run("keys", "list", "--json")
    [key] = [key for key in json.loads(out) if key["name"] == name]
    assert (key["permissions"], key["agents"]) == (["read"], ["me"])
    assert key["deployments"] == ["flow/one", "flow/two"]
    assert secret.strip() not in out
    [row] = [row for row in run("keys", "list")[1].splitlines() if row.startswith(name)]
    assert row.split("\t")[2] == "agent me, deployment flow/one, deployment flow/two"

    assert run("keys", "create", name, "--permission", "read")[0] == 2
    code, _, err = run("keys", "create", "n", "--permission", "read", "--deployment", "flow")
    assert (code, "`flow-name/deployment-name`" in err) == (2, True)
    assert run("keys", "create", "No Name", "--permission", "read")[0] == 2
    assert run("keys", "revoke", name)[0] == 0
    code, out, err = run("keys", "revoke", name)
    assert (code, out) == (2, "")
    assert "there is no key" in err
