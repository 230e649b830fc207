"""Save the Execution Store of an environment: `python blocks/store.py --bucket my-executions`.

Credentials are AWS's own business (environment, profile, role) where the flows and the service run.
For a server where that won't do, `--fixed-credentials` puts AWS_ACCESS_KEY_ID and
AWS_SECRET_ACCESS_KEY from this environment into the block, where Prefect keeps them encrypted.
"""

import argparse
import os

from prefect_executions.blocks import ExecutionStore

CREDENTIALS = ("aws_access_key_id", "aws_secret_access_key")


def main() -> None:
    """Check the store, and save it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="default", help="of the block document")
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--prefix", default="executions")
    parser.add_argument("--region", dest="region_name")
    parser.add_argument("--endpoint", dest="endpoint_url", help="of an S3-compatible server")
    parser.add_argument("--path-style", action="store_true")
    parser.add_argument("--checksums", choices=("when_supported", "when_required"))
    parser.add_argument("--encryption", choices=("AES256", "aws:kms"))
    parser.add_argument("--kms-key-id")
    parser.add_argument("--fixed-credentials", action="store_true")
    options = vars(parser.parse_args())

    name, fixed = options.pop("name"), options.pop("fixed_credentials")
    if fixed:
        options |= {field: os.environ[field.upper()] for field in CREDENTIALS}
    store = ExecutionStore.model_validate(options)
    store.save(name, overwrite=True)
    print(f"execution-store/{name} is saved: {store.bucket} keeps conditional writes.")


if __name__ == "__main__":
    main()
