"""What helps against the refusals of S3."""

import pytest

from prefect_executions.storage.refusals import mend_of


@pytest.mark.parametrize(
    ("code", "command"),
    [
        ("NoSuchBucket", "aws s3 mb s3://mine`"),
        ("InvalidAccessKeyId", "store create --overwrite --bucket mine --credentials-from"),
        ("NoCredentialsError", "--credentials-from-environment"),
        ("PermanentRedirect", "--region"),
        ("AccessDenied", "iam-policy.json"),
        ("RequestTimeTooSkewed", "timedatectl"),
        ("ProfileNotFound", "aws configure list-profiles"),
        ("SomethingNew", "prefect-executions doctor"),
    ],
)
def test_each_refusal_has_a_command(code: str, command: str) -> None:
    assert command in mend_of(code, bucket="mine")


def test_the_command_names_another_server() -> None:
    endpoint = "http://127.0.0.1:9000"

    assert f"--endpoint-url {endpoint}" in mend_of("NoSuchBucket", bucket="b", endpoint=endpoint)
    assert f"--endpoint {endpoint}" in mend_of("ExpiredToken", bucket="b", endpoint=endpoint)
