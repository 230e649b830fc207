"""Import every module of the installed package, with its extras or without.

`python -I tools/import_all.py`, by the Python of an environment; with `--bare` no extra is there.
"""

import sys
from importlib import import_module
from pathlib import Path

import prefect_executions
from prefect_executions.errors import UnsuitablePackage

FRAMEWORKS = {"adk", "langgraph", "openai_agents", "pydantic_ai"}
OPTIONAL = {*FRAMEWORKS, "mcp", "conformance"}  # parts of names that only extras make importable


def modules() -> list[str]:
    """The names of the package's modules, but for what runs as it is imported."""
    root = Path(prefect_executions.__file__).parent
    found = []
    for file in sorted(root.rglob("*.py")):
        parts = file.relative_to(root.parent).with_suffix("").parts
        if parts[1] != "flows" and parts[-1] != "__main__":
            found.append(".".join(parts).removesuffix(".__init__"))
    return found


def main() -> int:
    """Import them, print how many, and return the exit code."""
    bare = "--bare" in sys.argv[1:]
    wanted = [name for name in modules() if not (bare and OPTIONAL.intersection(name.split(".")))]
    for name in wanted:
        import_module(name)
    for framework in FRAMEWORKS if bare else ():
        try:
            import_module(f"prefect_executions.{framework}")
        except UnsuitablePackage:
            continue
        print(f"prefect_executions.{framework} does not miss its extra")
        return 1
    print(f"{len(wanted)} modules")
    return 0


if __name__ == "__main__":
    sys.exit(main())
