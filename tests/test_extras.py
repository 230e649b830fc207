"""What an extra needs is there in a version that it is tested with, or the error says so."""

from pathlib import Path

import pytest

from prefect_executions.errors import UnsuitablePackage
from prefect_executions.extras import require_extra


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages that come before the others."""
    monkeypatch.syspath_prepend(str(tmp_path))
    _install(
        tmp_path,
        "prefect-executions",
        "1.0",
        "Provides-Extra: agents",
        'Requires-Dist: some-agents>=2.3,<3; extra == "agents"',
        'Requires-Dist: not-here>=1; (python_version < "3") and extra == "agents"',
        "Requires-Dist: always-needed>=9",
    )
    return tmp_path


def _install(folder: Path, name: str, version: str, *lines: str) -> None:
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    head = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    (info / "METADATA").write_text("\n".join([*head, *lines]) + "\n")


@pytest.mark.parametrize("version", ["2.3", "2.99.1", "2.4rc1"])
def test_a_version_in_the_stated_range_is_taken(installed: Path, version: str) -> None:
    _install(installed, "some-agents", version)

    require_extra("agents")


@pytest.mark.parametrize("version", ["2.2.9", "3.0"])
def test_another_version_is_refused_with_what_to_do(installed: Path, version: str) -> None:
    _install(installed, "some-agents", version)

    with pytest.raises(UnsuitablePackage) as error:
        require_extra("agents")

    assert str(error.value) == (
        f"some-agents {version} is installed, and prefect-executions is tested with some-agents "
        "<3,>=2.3: pip install 'prefect-executions[agents]'"
    )


def test_what_is_not_installed_is_named(installed: Path) -> None:
    with pytest.raises(UnsuitablePackage, match=r"some-agents is not installed, and .*>=2.3"):
        require_extra("agents")


def test_an_extra_that_the_installed_package_lacks_is_an_error_of_the_installation(
    installed: Path,
) -> None:
    with pytest.raises(LookupError, match="has no extra 'agent': install it again"):
        require_extra("agent")
