"""What helps against the refusals of S3: the command for each of its error codes."""

_BLOCK = "prefect-executions store create --overwrite"

_NO_BUCKET = {"NoSuchBucket", "404"}
_CREDENTIALS = {
    "AuthFailure",
    "AuthorizationHeaderMalformed",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSecurity",
    "InvalidToken",
    "NoCredentialsError",
    "PartialCredentialsError",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
}
_REGION = {"PermanentRedirect", "IllegalLocationConstraintException", "NoRegionError", "301"}
_RIGHTS = {"AccessDenied", "AllAccessDisabled", "403"}


def mend_of(code: str, *, bucket: str, endpoint: str | None = None) -> str:
    """What to do about a refusal, with the command.

    Args:
        code: The code of S3's error, or the name of botocore's.
        bucket: The bucket.
        endpoint: The URL of an S3-compatible server; None of AWS.
    """
    at = f" --endpoint-url {endpoint}" if endpoint else ""
    options = f"--bucket {bucket}" + (f" --endpoint {endpoint}" if endpoint else "")
    if code in _NO_BUCKET:
        return (
            f"Make the bucket: `aws s3 mb s3://{bucket}{at}`; or name another one: "
            f"`{_BLOCK} --bucket …`."
        )
    if code in _CREDENTIALS:
        return (
            "Give it credentials that are right, in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: "
            f"`{_BLOCK} {options} --credentials-from-environment`."
        )
    if code in _REGION:
        return f"Name the region of the bucket: `{_BLOCK} {options} --region …`."
    if code in _RIGHTS:
        return (
            "The credentials lack a right, or there is no such bucket. Give their user or role the "
            "rights of docs/iam-policy.json: `aws iam put-user-policy --policy-document "
            "file://iam-policy.json …`."
        )
    if code == "RequestTimeTooSkewed":
        return "Set the clock of this machine: `sudo timedatectl set-ntp true`."
    if code == "ProfileNotFound":
        return "Name another profile in AWS_PROFILE: `aws configure list-profiles` lists them."
    return "`prefect-executions doctor` checks the store, and all else."


def unreached(bucket: str, endpoint: str | None) -> str:
    """What to do about a server that does not answer, with the command."""
    if endpoint is None:
        return f"`aws s3 ls s3://{bucket}` shows whether this machine reaches it at all."
    return f"If that is not its address: `{_BLOCK} --bucket {bucket} --endpoint …`."
