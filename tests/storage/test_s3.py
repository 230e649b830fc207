"""What S3 does that other stores do not: conditions, encryption, errors, silence."""

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from typing import Any
from uuid import uuid4

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse, HeadersDict
from botocore.response import StreamingBody
from botocore.stub import ANY, Stubber

from prefect_executions.errors import (
    AlreadyExists,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    UnsuitableStore,
)
from prefect_executions.local import S3Server, free_ports
from prefect_executions.storage.probe import probe
from prefect_executions.storage.s3 import S3Objects


@pytest.fixture
def stubbed() -> tuple[S3Objects, Stubber]:
    """Objects with stubbed responses, for what no server can be made to do."""
    objects = S3Objects(
        bucket="bucket",
        prefix="p",
        region="us-east-1",
        access_key_id="id",
        secret_access_key="secret",
        encryption="aws:kms",
        kms_key_id="key",
        tries=3,
    )
    return objects, Stubber(objects._client)


class _Body:
    """An empty response."""

    def stream(self) -> list[bytes]:
        return [b""]


REQUEST = {
    "Bucket": "bucket",
    "Key": "p/a",
    "Body": ANY,
    "IfNoneMatch": "*",
    "ServerSideEncryption": "aws:kms",
    "SSEKMSKeyId": "key",
}


def test_every_creation_is_conditional_and_encrypted(stubbed: tuple[S3Objects, Stubber]) -> None:
    objects, stub = stubbed
    stub.add_response("put_object", {}, REQUEST)

    with stub:
        objects.create("a", b"data")

    stub.assert_no_pending_responses()


def test_a_conflict_is_tried_again_until_it_is_decided(stubbed: tuple[S3Objects, Stubber]) -> None:
    """AWS answers 409 while another conditional write of the key is under way."""
    objects, stub = stubbed
    for code, status in [("ConditionalRequestConflict", 409)] * 2 + [("PreconditionFailed", 412)]:
        stub.add_client_error("put_object", code, http_status_code=status)

    with stub, pytest.raises(AlreadyExists):
        objects.create("a", b"data")

    stub.assert_no_pending_responses()


def test_an_endless_conflict_is_given_up(stubbed: tuple[S3Objects, Stubber]) -> None:
    objects, stub = stubbed
    for _ in range(3):
        stub.add_client_error("put_object", "ConditionalRequestConflict", http_status_code=409)

    with stub, pytest.raises(StoreUnavailable, match="ConditionalRequestConflict"):
        objects.create("a", b"data")


def test_no_more_than_the_first_bytes_are_asked_for(stubbed: tuple[S3Objects, Stubber]) -> None:
    objects, stub = stubbed
    wanted = {"Bucket": "bucket", "Key": "p/a", "Range": "bytes=0-9"}
    body = StreamingBody(BytesIO(b"0123456789"), 10)
    stub.add_response("get_object", {"Body": body}, wanted)
    stub.add_client_error("get_object", "InvalidRange", "of no bytes", 416, None, wanted)

    with stub:
        assert objects.get(["a"], first=10) == {"a": b"0123456789"}
        assert objects.get(["a"], first=10) == {"a": b""}

    stub.assert_no_pending_responses()


@pytest.mark.parametrize("code", ["ConditionalRequestConflict", "OperationAborted"])
def test_what_is_to_be_repeated_is_repeated_everywhere(
    stubbed: tuple[S3Objects, Stubber], code: str
) -> None:
    objects, stub = stubbed
    answers: list[tuple[str, dict[str, Any]]] = [
        ("put_object", {}),
        ("list_objects_v2", {"Contents": [{"Key": "p/a"}]}),
        ("delete_objects", {}),
    ]
    for method, answer in answers:
        stub.add_client_error(method, code, http_status_code=409)
        stub.add_response(method, answer)

    with stub:
        objects.create("a", b"data")
        assert list(objects.scan("")) == ["a"]
        objects.delete(["a"])

    stub.assert_no_pending_responses()


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("SignatureDoesNotMatch", 403, StoreRefused),
        ("InvalidAccessKeyId", 403, StoreRefused),
        ("AccessDenied", 403, StoreRefused),
        ("ExpiredToken", 400, StoreRefused),
        ("NoSuchBucket", 404, StoreRefused),
        ("PermanentRedirect", 301, StoreRefused),
        ("RequestTimeout", 400, StoreUnavailable),
        ("TooManyRequests", 429, StoreUnavailable),
        ("InternalError", 500, StoreUnavailable),
        ("SlowDown", 503, StoreUnavailable),
        ("NotImplemented", 501, UnsuitableStore),
    ],
)
def test_what_may_pass_is_told_from_what_does_not(
    stubbed: tuple[S3Objects, Stubber], code: str, status: int, kind: type[StoreError]
) -> None:
    objects, stub = stubbed
    for method in ("put_object", "get_object", "list_objects_v2"):
        stub.add_client_error(method, code, http_status_code=status)
    acts: list[Callable[[], object]] = [
        lambda: objects.create("a", b"data"),
        lambda: objects.get(["a"]),
        lambda: list(objects.scan("")),
    ]

    with stub:
        for act in acts:
            with pytest.raises(kind, match=code) as error:
                act()
            assert type(error.value) is kind


def test_without_credentials_nothing_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    objects = S3Objects(bucket="bucket", region="us-east-1")

    with pytest.raises(StoreRefused, match="Unable to locate credentials"):
        objects.create("a", b"")


@pytest.mark.parametrize(
    ("code", "status"),
    [("NotImplemented", 501), ("MethodNotAllowed", 405), ("MissingContentMD5", 400)],
)
def test_a_server_without_batches_deletes_one_by_one(
    stubbed: tuple[S3Objects, Stubber], code: str, status: int
) -> None:
    objects, stub = stubbed
    asked: list[str] = []
    stub.add_client_error("delete_objects", code, http_status_code=status)

    for _ in range(3):
        stub.add_response("delete_object", {})

    def note(params: dict[str, Any], **_: object) -> None:
        asked.append(params["Key"])

    objects._client.meta.events.register("before-parameter-build.s3.DeleteObject", note)
    with stub:
        objects.delete(["a", "b", "c"])

    stub.assert_no_pending_responses()
    assert sorted(asked) == ["p/a", "p/b", "p/c"]


def test_who_may_not_delete_is_refused(stubbed: tuple[S3Objects, Stubber]) -> None:
    objects, stub = stubbed
    for method in ("delete_objects", "delete_object"):
        stub.add_client_error(method, "AccessDenied", http_status_code=403)

    with stub, pytest.raises(StoreRefused, match="AccessDenied"):
        objects.delete(["a"])


@pytest.mark.parametrize(("checksums", "framing"), [(None, "aws-chunked"), ("when_required", None)])
def test_checksums_are_sent_over_https_unless_the_store_says_otherwise(
    checksums: Any, framing: str | None
) -> None:
    objects = S3Objects(
        bucket="bucket",
        region="us-east-1",
        endpoint="https://s3.example",
        access_key_id="any",
        secret_access_key="any",
        checksums=checksums,
    )
    sent: list[str | None] = []

    def answer(request: AWSPreparedRequest, **_: object) -> AWSResponse:
        encoding = request.headers.get("Content-Encoding")
        sent.append(encoding.decode() if isinstance(encoding, bytes) else encoding)
        return AWSResponse(request.url, 200, HeadersDict(), _Body())

    objects._client.meta.events.register("before-send.s3.PutObject", answer)
    objects.create("a", b"data")

    assert sent == [framing]


def test_a_failed_deletion_is_no_success(stubbed: tuple[S3Objects, Stubber]) -> None:
    objects, stub = stubbed
    failure = {"Key": "p/a", "Code": "AccessDenied", "Message": "no"}
    stub.add_response("delete_objects", {"Errors": [failure]})

    with stub, pytest.raises(StoreUnavailable, match="AccessDenied"):
        objects.delete(["a"])


@pytest.mark.parametrize("status", [500, 503])
def test_what_may_pass_is_tried_again(moto_endpoint: str, status: int) -> None:
    """By botocore, without an error."""
    objects = S3Objects(
        bucket=f"bucket-{uuid4().hex}",
        region="us-east-1",
        endpoint=moto_endpoint,
        access_key_id="any",
        secret_access_key="any",
        path_style=True,
        tries=2,
    )
    objects.create_bucket()
    failures = [status]

    def fail_once(request: AWSPreparedRequest, **_: object) -> AWSResponse | None:
        if not failures:
            return None
        return AWSResponse(request.url, failures.pop(), HeadersDict(), _Body())

    objects._client.meta.events.register("before-send.s3.PutObject", fail_once)

    objects.create("a", b"data")

    assert failures == []
    assert objects.get(["a"]) == {"a": b"data"}


def test_no_server_is_store_unavailable() -> None:
    objects = S3Objects(
        bucket="bucket",
        region="us-east-1",
        endpoint=f"http://127.0.0.1:{free_ports(1)}",
        access_key_id="any",
        secret_access_key="any",
        tries=1,
    )

    for act in (
        lambda: objects.create("a", b""),
        lambda: objects.get(["a"]),
        lambda: objects.get(["a", "b"]),
        lambda: list(objects.scan("a")),
        lambda: objects.delete(["a"]),
    ):
        with pytest.raises(StoreUnavailable, match="Could not connect"):
            act()


def test_no_bucket_is_store_unavailable(s3_server: S3Server) -> None:
    store = s3_server.store().model_copy(update={"bucket": "elsewhere"})

    with pytest.raises(StoreRefused, match="NoSuchBucket"):
        store.objects().get(["a"])


@pytest.mark.parametrize("is_locked", [False, True], ids=["versioned", "locked"])
def test_in_a_bucket_with_versions_what_is_removed_is_hidden(
    s3_server: S3Server, is_locked: bool
) -> None:
    bucket = f"bucket-{uuid4().hex}"
    objects = replace(s3_server.objects(), bucket=bucket)
    client = objects._client
    if is_locked:
        client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
        client.put_object_lock_configuration(
            Bucket=bucket,
            ObjectLockConfiguration={
                "ObjectLockEnabled": "Enabled",
                "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}},
            },
        )
    else:
        client.create_bucket(Bucket=bucket)
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    probe(objects)
    objects.create("a", b"data")
    assert objects.is_versioned("a")

    objects.delete(["a"])

    assert list(objects.scan("")) == []
    assert objects.get(["a"]) == {}
    versions = client.list_object_versions(Bucket=bucket)["Versions"]
    assert [version["Key"] for version in versions if version["Key"] == "a"] == ["a"]


def test_acknowledged_objects_survive_the_kill_of_the_server(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    server = S3Server(tmp_path_factory.mktemp("killed") / "data")
    server.start()
    objects = server.objects()
    try:
        for number in range(200):
            objects.create(f"a/{number:03d}", b"%d" % number)

        server.kill()
        server.start()

        assert len(objects.get(f"a/{number:03d}" for number in range(200))) == 200
    finally:
        server.stop()


def test_a_small_object_is_sent_in_one_round_trip(s3: S3Objects) -> None:
    """Botocore would wait for `100 Continue` between the headers and the body."""
    asked: list[bool] = []

    def note(request: Any, **_: object) -> None:
        asked.append("Expect" in request.headers)

    s3._client.meta.events.register("before-send.s3.PutObject", note)
    s3.create("small", b"a" * 1000)
    s3.create("large", b"a" * 1_000_000)

    assert asked == [False, True]
    assert {key: len(data) for key, data in s3.get(["small", "large"]).items()} == {
        "small": 1000,
        "large": 1_000_000,
    }
