"""The public names of the package, and what importing them loads."""

import re
import subprocess
import sys
from collections import Counter
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement

import prefect_executions
from prefect_executions.local.demo import FLOWS

ROOT = Path(__file__).parent.parent


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_the_exports_are_sorted_and_there() -> None:
    names = prefect_executions.__all__

    assert names == sorted(names)
    assert all(hasattr(prefect_executions, name) for name in names)


def test_no_two_classes_have_one_name() -> None:
    sources = (ROOT / "src").rglob("*.py")
    names = Counter(
        name
        for source in sources
        for name in re.findall(r"^class (\w+)", source.read_text(), re.MULTILINE)
    )

    assert [name for name, count in names.items() if count > 1] == []


def test_what_is_not_asked_for_is_not_loaded() -> None:
    """Importing Prefect takes seconds, and an agent outside it does not need it."""
    code = "import sys, prefect_executions; prefect_executions.Execution; print(*sys.modules)"

    loaded = set(_run("-c", code).stdout.split())

    assert "prefect_executions.models" in loaded
    assert "prefect" not in loaded


def test_what_is_no_export_is_not_there() -> None:
    assert not hasattr(prefect_executions, "exekution")
    assert set(prefect_executions.__all__) <= set(dir(prefect_executions))


def test_a_flow_loads_neither_the_service_nor_s3_nor_what_it_does_not_use() -> None:
    code = "import sys; from prefect_executions import execution; print(*sys.modules)"

    loaded = set(_run("-c", code).stdout.split())

    assert "prefect_executions.runtime.attempt" in loaded
    assert loaded.isdisjoint({"fastapi", "uvicorn", "boto3", "botocore", "pytest"})
    assert loaded.isdisjoint({"prefect_executions.models", "prefect_executions.blocks"})


def test_the_types_are_those_that_users_see() -> None:
    done = _run("-m", "mypy", "tests/typing/api.py")

    assert done.returncode == 0, done.stdout


def test_the_changelog_speaks_of_this_version() -> None:
    versions = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert versions[0] == "Unreleased" or versions[0] == prefect_executions.__version__


def test_no_private_module_of_prefect_is_imported() -> None:
    private = re.compile(r"(from|import) prefect(\.\w+)*\._")

    for file in (ROOT / "src").rglob("*.py"):
        assert not private.search(file.read_text()), file


def test_nothing_of_ours_runs_in_the_folder_of_the_package() -> None:
    """A process that did would find `prefect_executions/prefect` when it imports Prefect."""
    package = Path(prefect_executions.__file__).parent
    begins = re.compile(
        r"(cwd|chdir|sys\.path|pythonpath|mypy_path|directory:|\bcd ).*prefect_executions\b(?!\.)",
        re.IGNORECASE,
    )
    folders = ("src", "tests", "flows", "blocks", "benchmarks", "examples", "tools", "docs")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.*")]
    files = [file for file in files if file.suffix in (".md", ".py", ".sh", ".toml", ".yaml")]
    files += [ROOT / name for name in ("Makefile", "README.md", "prefect.yaml", "pyproject.toml")]

    for file in files:
        found = begins.search(file.read_text())
        assert file == Path(__file__) or found is None, (file, found)
    assert (package / "prefect").is_dir()
    assert package not in [Path(entry).resolve() for entry in [*sys.path, FLOWS]]


def test_what_prefect_breaks_on_is_excluded() -> None:
    """Prefect's server does not start with the newest FastAPI that it allows."""
    needed = [Requirement(text) for text in requires("prefect-executions") or []]

    [fastapi] = [each for each in needed if each.name == "fastapi"]

    assert "0.150.0" in fastapi.specifier
    assert "0.151.0" not in fastapi.specifier
