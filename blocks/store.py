"""Save the Execution Store of an environment: `python blocks/store.py --bucket my-executions`.

It is `prefect-executions store create --overwrite`, which the installed package has, too.
"""

import sys

from prefect_executions.cli import main

if __name__ == "__main__":
    main(["store", "create", "--overwrite", *sys.argv[1:]])
