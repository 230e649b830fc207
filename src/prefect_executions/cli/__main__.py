"""`python -m prefect_executions.cli`."""

from prefect_executions.cli.app import main

if __name__ == "__main__":
    main()
