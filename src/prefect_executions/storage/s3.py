"""Objects in an S3 bucket. No other module knows boto3 and its errors."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from http import HTTPStatus
from io import BytesIO
from itertools import islice, repeat
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
    ResponseStreamingError,
)
from botocore.exceptions import ConnectionError as NotConnectedError

from prefect_executions.circuit import Circuit
from prefect_executions.errors import (
    AlreadyExists,
    StoreRefused,
    StoreUnavailable,
    UnsuitableStore,
)
from prefect_executions.storage.refusals import mend_of, unreached

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef, ObjectTypeDef

T = TypeVar("T")

_PARALLEL = 16  # requests
_AT_ONCE = 64 << 10  # bytes; a larger object is sent only after `100 Continue`
_HURRIED_TRIES = 3
_DELETE_BATCH = 1000  # keys that one DeleteObjects takes


@dataclass(frozen=True, kw_only=True)
class S3Objects:
    """Objects in an S3 bucket, each created by `PutObject` with `If-None-Match: *`.

    Args:
        bucket: The bucket, which must exist. Directory buckets (S3 Express) are refused, since they
            do not list in order.
        prefix: Put before every key, with a slash after it.
        region: The bucket's region; by default that of the AWS configuration.
        endpoint: The URL of an S3-compatible server; by default AWS.
        access_key_id: A fixed access key, with `secret_access_key`. By default the AWS credential
            chain is used: environment, profile, role of the machine.
        secret_access_key: The secret of the access key.
        session_token: The session token of temporary credentials.
        encryption: `AES256` (SSE-S3) or `aws:kms` (SSE-KMS); by default the bucket's own.
        kms_key_id: The key for `aws:kms`; by default the account's own.
        path_style: Put the bucket's name in the path instead of the host, as most S3-compatible
            servers require.
        checksums: `when_required` to send and check no checksums but where S3 wants them: over
            https some S3-compatible servers refuse their framing, or keep it within the object. By
            default what the AWS configuration says, or else `when_supported`.
        connect_timeout: Seconds after which an attempt to connect is given up and repeated.
        read_timeout: Seconds without a response after which a request is given up and repeated. A
            store under contention may respond late to those that lose a race.
        tries: How often botocore sends a request that fails with a transient error.
        circuit: Every request goes through it; see `within`.
    """

    bucket: str
    prefix: str = ""
    region: str | None = None
    endpoint: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    encryption: Literal["AES256", "aws:kms"] | None = None
    kms_key_id: str | None = None
    path_style: bool = False
    checksums: Literal["when_supported", "when_required"] | None = None
    connect_timeout: float = 5
    read_timeout: float = 10
    tries: int = 4
    circuit: Circuit | None = None

    def __post_init__(self) -> None:
        if self.bucket.endswith("--x-s3"):
            raise UnsuitableStore(
                f"{self.bucket!r} is an S3 Express directory bucket, which does not list its keys "
                "in order. Use a general purpose bucket."
            )

    def hurried(self, seconds: float) -> "S3Objects":
        """See `Remote.hurried`."""
        timeouts = {
            name: min(getattr(self, name), seconds / _HURRIED_TRIES)
            for name in ("connect_timeout", "read_timeout")
        }
        return replace(self, tries=_HURRIED_TRIES, **timeouts)

    def read_date(self) -> str | None:
        """See `Remote.read_date`: a LIST of one key."""
        with self._errors("list"):
            answer = self._client.list_objects_v2(
                Bucket=self.bucket, Prefix=self._full(""), MaxKeys=1
            )
        return answer["ResponseMetadata"]["HTTPHeaders"].get("date")

    def within(self, circuit: Circuit) -> "S3Objects":
        """See `Guardable.within`."""
        timeouts = {
            name: min(getattr(self, name), circuit.seconds)
            for name in ("connect_timeout", "read_timeout")
        }
        return replace(self, circuit=circuit, **timeouts)

    def create(self, key: str, data: bytes) -> None:
        """See `Objects.create`."""

        def put() -> None:
            with self._errors("write", key):
                self._client.put_object(
                    Bucket=self.bucket,
                    Key=self._full(key),
                    Body=data,
                    IfNoneMatch="*",
                    **self._put_options,
                )

        self._persist("write", put)

    def get(
        self, keys: Iterable[str], *, first: int | None = None, skip: int = 0
    ) -> dict[str, bytes]:
        """See `Objects.get`: one request each, up to 16 at a time."""
        wanted = list(keys)
        part: dict[str, Any] = {}
        if first is not None or skip:
            end = "" if first is None else skip + first - 1
            part["Range"] = f"bytes={skip}-{end}"
        if len(wanted) == 1:
            found = [self._get(wanted[0], part)]
        else:
            found = list(self._pool.map(self._get, wanted, repeat(part)))
        return {key: data for key, data in zip(wanted, found, strict=True) if data is not None}

    def _get(self, key: str, part: dict[str, Any]) -> bytes | None:
        def get() -> bytes:
            with self._errors("read", key):
                body = self._client.get_object(Bucket=self.bucket, Key=self._full(key), **part)[
                    "Body"
                ]
                try:
                    return body.read()
                except (ResponseStreamingError, IncompleteReadError, ReadTimeoutError) as error:
                    # botocore repeats requests, but not the reading of a response.
                    raise _Transient(f"{error}") from error

        try:
            return self._persist("read", get)
        except _Missing:
            return None
        except _Empty:
            return b""

    def _persist(self, operation: str, act: Callable[[], T]) -> T:
        """Make a request, through the circuit if there is one."""
        if self.circuit is None:
            return self._repeat(operation, act)
        return self.circuit.call(partial(self._repeat, operation, act), lost=_LOST)

    def _repeat(self, operation: str, act: Callable[[], T]) -> T:
        """Repeat, as often as botocore would, what botocore does not repeat itself."""
        for _ in range(self.tries - 1):
            with suppress(_Transient):
                return act()
        try:
            return act()
        except _Transient as last:
            raise StoreUnavailable(operation, f"{last}") from last

    def scan(self, prefix: str, *, limit: int | None = None) -> Iterator[str]:
        """See `Objects.scan`: one request per 1,000 keys."""
        skip = len(self._full(""))
        items = self._items(prefix, min(limit or 1000, 1000))
        return islice((item["Key"][skip:] for item in items), limit)

    def _items(self, prefix: str, page_size: int) -> Iterator["ObjectTypeDef"]:
        options: dict[str, Any] = {}

        def fetch() -> "ListObjectsV2OutputTypeDef":
            with self._errors("list", prefix):
                return self._client.list_objects_v2(
                    Bucket=self.bucket, Prefix=self._full(prefix), MaxKeys=page_size, **options
                )

        while True:
            page = self._persist("list", fetch)
            yield from page.get("Contents", [])
            if not page.get("IsTruncated"):
                return
            options = {"ContinuationToken": page["NextContinuationToken"]}

    def measure(self, prefix: str) -> tuple[int, int]:
        """See `Objects.measure`: one request per 1,000 keys."""
        sizes = [item["Size"] for item in self._items(prefix, 1000)]
        return len(sizes), sum(sizes)

    def delete(self, keys: Iterable[str]) -> None:
        """See `Objects.delete`: one request per 1,000 keys.

        Some servers lack such requests, or want them otherwise: then it is one for each key.
        """
        rest = iter(keys)
        while batch := [self._full(key) for key in islice(rest, _DELETE_BATCH)]:
            try:
                self._persist("delete", partial(self._delete_at_once, batch))
            except (StoreRefused, UnsuitableStore):  # where that is not why, these fail as well
                one_by_one = (partial(self._delete_one, key) for key in batch)
                list(self._pool.map(partial(self._persist, "delete"), one_by_one))

    def _delete_at_once(self, batch: list[str]) -> None:
        with self._errors("delete", batch[0]):
            answer = self._client.delete_objects(
                Bucket=self.bucket, Delete={"Objects": [{"Key": key} for key in batch]}
            )
        if failed := answer.get("Errors"):
            raise StoreUnavailable("delete", f"{failed[0]}, and {len(failed) - 1} more")

    def _delete_one(self, key: str) -> None:
        with suppress(_Missing), self._errors("delete", key):
            self._client.delete_object(Bucket=self.bucket, Key=key)

    def is_versioned(self, key: str) -> bool:
        """Whether an object that is there has a version: the bucket is, or was, versioned.

        Raises:
            StoreUnavailable: the server did not respond, or refused.
        """
        with self._errors("read", key):
            head = self._client.head_object(Bucket=self.bucket, Key=self._full(key))
        return "VersionId" in head

    def create_bucket(self) -> None:
        """Create the bucket if it does not exist, on a server of your own.

        Raises:
            StoreUnavailable: the server did not respond, or refused.
        """
        with self._errors("create the bucket"):
            if self.bucket not in [b.get("Name") for b in self._client.list_buckets()["Buckets"]]:
                self._client.create_bucket(Bucket=self.bucket)

    @contextmanager
    def _errors(self, operation: str, key: str = "") -> Iterator[None]:
        """Translate the errors that boto3 raises."""
        try:
            yield
        except ClientError as error:
            raise self._translated(error, operation, key) from error
        except _SETTINGS as error:
            raise self._refused(operation, error, type(error).__name__) from error
        except BotoCoreError as error:
            mend = unreached(self.bucket, self.endpoint) if isinstance(error, _LOST) else ""
            raise StoreUnavailable(operation, f"{self._where}: {error}", mend) from error

    def _translated(self, error: ClientError, operation: str, key: str) -> Exception:
        """The error for an answer that is one."""
        code = error.response.get("Error", {}).get("Code", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code == "PreconditionFailed":
            return AlreadyExists(key)
        if code in _CONFLICTS:
            return _Transient(f"{error}")
        if code == "NoSuchKey":
            return _Missing(key)
        if code == "InvalidRange":
            return _Empty(key)
        if status == HTTPStatus.NOT_IMPLEMENTED:
            return UnsuitableStore(
                f"the server does not know a request that is needed: {error}. It lacks conditional "
                "writes (`If-None-Match: *`), or uploads with a checksum: then set `checksums` of "
                "the Execution Store to `when_required`."
            )
        if 300 <= status < 500 and status not in _MAY_PASS and code not in _MAY_PASS:
            return self._refused(operation, error, code)
        return StoreUnavailable(operation, f"{self._where}: {error}")

    def _refused(self, operation: str, error: Exception, code: str) -> StoreRefused:
        mend = mend_of(code, bucket=self.bucket, endpoint=self.endpoint)
        return StoreRefused(operation, f"{self._where}: {error}", mend)

    @property
    def _where(self) -> str:
        """The place, for people."""
        return f"bucket {self.bucket!r}" + (f" at {self.endpoint}" if self.endpoint else "")

    def _full(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    @cached_property
    def _put_options(self) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if self.encryption:
            options["ServerSideEncryption"] = self.encryption
        if self.kms_key_id:
            options["SSEKMSKeyId"] = self.kms_key_id
        return options

    @cached_property
    def _client(self) -> "S3Client":
        # Its own session, since boto3's default session is not safe to share between threads.
        client = boto3.Session().client(
            "s3",
            region_name=self.region,
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            aws_session_token=self.session_token,
            config=Config(
                connect_timeout=self.connect_timeout,
                read_timeout=self.read_timeout,
                retries={"mode": "standard", "total_max_attempts": self.tries},
                max_pool_connections=2 * _PARALLEL,
                request_checksum_calculation=self.checksums,
                response_checksum_validation=self.checksums,
                s3={"addressing_style": "path" if self.path_style else "auto"},
            ),
        )
        client.meta.events.register_last("before-call.s3", _send_at_once)
        return client

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(_PARALLEL, thread_name_prefix="s3-objects")


def _send_at_once(params: dict[str, Any], **_: object) -> None:
    """Send a small object with its headers, in one round trip.

    botocore would send the headers, wait for `100 Continue`, and only then send the body. That is
    only worth it when a large body may be sent in vain.
    """
    body = params.get("body")
    if isinstance(body, BytesIO) and body.getbuffer().nbytes <= _AT_ONCE:
        params["headers"].pop("Expect", None)


class _Missing(Exception):
    """There is no such object."""


class _Empty(Exception):
    """The object has no bytes of which a range could be read."""


class _Transient(Exception):
    """A transient error: the request may succeed when it is repeated."""


# Another write of this key, or another operation, is under way. S3 asks to repeat the request: by
# then the other one has ended, and one of two conditional writes gets 412.
_CONFLICTS = {"ConditionalRequestConflict", "OperationAborted"}
# A later request may be answered otherwise; botocore has repeated some of them already.
_MAY_PASS: set[int | str] = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.CONFLICT,
    HTTPStatus.TOO_MANY_REQUESTS,
    "RequestTimeout",
    "RequestTimeoutException",
    "PriorRequestNotComplete",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
}
# The server did not answer.
_LOST = (HTTPClientError, NotConnectedError)
# Nothing was sent. botocore raises ValueError for an endpoint that is not a URL.
_SETTINGS = (
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    NoRegionError,
    ParamValidationError,
    ValueError,
)
