"""The IAM policy in the docs, on a server that enforces it: enough, and not too much."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest

from moto_server import moto_server
from prefect_executions.errors import StoreUnavailable
from prefect_executions.log.log import ExecutionLog
from prefect_executions.storage.probe import probe
from prefect_executions.storage.s3 import S3Objects

DOCUMENT = Path(__file__).parents[2] / "docs" / "iam-policy.json"
POLICY = DOCUMENT.read_text().replace("BUCKET", "bucket").replace("PREFIX", "executions")
DENIED = r"AccessDenied|403|Forbidden"
ID = "exec_" + "0" * 30 + "0a"


class Account:
    """An account at a server, with users that have a policy."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._own = {
            "endpoint_url": endpoint,
            "region_name": "us-east-1",
            "aws_access_key_id": "root",
            "aws_secret_access_key": "root",
        }
        boto3.client("s3", **self._own).create_bucket(Bucket="bucket")

    def objects(self, policy: dict[str, Any], *, prefix: str = "executions") -> S3Objects:
        iam = boto3.client("iam", **self._own)
        # For a batch S3 checks the right to each object, and moto the right to the bucket.
        for statement in policy["Statement"]:
            if "s3:DeleteObject" in statement["Action"]:
                statement["Resource"] = [statement["Resource"], "arn:aws:s3:::bucket"]
        iam.create_user(UserName="flows")
        iam.put_user_policy(UserName="flows", PolicyName="own", PolicyDocument=json.dumps(policy))
        key = iam.create_access_key(UserName="flows")["AccessKey"]
        self._enforce(0)
        return S3Objects(
            bucket="bucket",
            prefix=prefix,
            region="us-east-1",
            endpoint=self._endpoint,
            access_key_id=key["AccessKeyId"],
            secret_access_key=key["SecretAccessKey"],
            path_style=True,
            tries=1,
        )

    def _enforce(self, after: int) -> None:
        httpx.post(f"{self._endpoint}/moto-api/reset-auth", content=f"{after}")


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    with moto_server() as endpoint:
        httpx.post(f"{endpoint}/moto-api/reset")
        yield Account(endpoint)
        httpx.post(f"{endpoint}/moto-api/reset-auth", content="inf")
        httpx.post(f"{endpoint}/moto-api/reset")


def live(objects: S3Objects) -> None:
    """All requests of an execution, from the check of its store to its deletion."""
    probe(objects)
    log = ExecutionLog(objects, ID)
    log.create({"name": "a"}, b"{}")
    head = log.attempt()
    for n in range(5):
        head = log.checkpoint(head, b'{"n":%d}' % n)
    assert log.read(checkpoints=10).head.state == b'{"n":4}'
    assert log.cost()[0] == 7
    log.rollback(3)
    log.remove([4])
    log.delete()
    log.purge()
    assert not log.exists()


def test_it_is_enough(account: Account) -> None:
    live(account.objects(json.loads(POLICY)))


@pytest.mark.parametrize("action", ["GetObject", "PutObject", "DeleteObject", "ListBucket"])
def test_each_right_is_needed(account: Account, action: str) -> None:
    policy = json.loads(POLICY)
    for statement in policy["Statement"]:
        actions = statement["Action"]
        allowed = [actions] if isinstance(actions, str) else actions
        statement["Action"] = [one for one in allowed if one != f"s3:{action}"] or [
            "s3:GetBucketAcl"
        ]

    with pytest.raises(StoreUnavailable, match=DENIED):
        live(account.objects(policy))


def test_it_opens_nothing_else(account: Account) -> None:
    objects = account.objects(json.loads(POLICY), prefix="another")

    with pytest.raises(StoreUnavailable, match=DENIED):
        objects.create("key", b"data")
