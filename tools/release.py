"""Build a release and check it; what is to be uploaded is in `dist/` then: `make release`.

* The wheel has the package and the demo's flows as they are in git, the source distribution all
  that is in git but for CI's; it builds the same wheel again. `twine` and `check-wheel-contents`
  have nothing to say.
* `tests/upgrade`: it goes on with what the version before has begun, and the other way round.
* On each Python from 3.11 that this machine has, or that uv can fetch, the wheel is installed with
  the lowest and with the highest versions that it allows, without extras and with all of them.
  Every module can be imported, and the command says what it can do; without extras README's script
  is killed and goes on, with them some quick tests run.

Exits with 1 at the first part that fails.
"""

import argparse
import os
import re
import shutil
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Generator
from pathlib import Path

from parts import Failed, Part, carry_out, require
from wheel import ROOT, build, call, install, uv

DIST = ROOT / "dist"
TOOLS = ROOT / "tools"
VERSIONS = ("lowest-direct", "highest")
QUICK = [
    "tests/log",
    "tests/test_public.py",
    "tests/test_extras.py",
    "tests/storage/test_directory.py",
]
NOT_UPLOADED = ".ci/"  # of what is in git
PREFECT_LINE = re.compile(r"^prefect==(\S+)", re.MULTILINE)


class Release:
    """A release of what is committed.

    Args:
        place: An empty directory, for environments.
        pythons: The Pythons, as in `3.11`.
    """

    def __init__(self, place: Path, pythons: list[str]) -> None:
        self._place = place
        self._pythons = pythons
        code = (ROOT / "src" / "prefect_executions" / "__init__.py").read_text()
        self._version: str = re.findall(r'^__version__ = "(\S+)"', code, re.MULTILINE)[0]

    def all(self) -> Generator[Part]:
        """The parts, each with its name; what one returns is printed beside it."""
        yield "all is committed, under one version", self._check_version
        yield "built", self._build
        yield "contents", self._check_contents
        yield "built again from the source distribution", self._build_again
        yield "twine, check-wheel-contents", self._ask_checkers
        yield "upgrades, and back", self._upgrade
        for version in self._pythons:
            found = find_python(version)
            if isinstance(found, str):
                print(
                    f"! Python {version} can't be had here, and is NOT TESTED: {found}", flush=True
                )
                continue
            for versions in VERSIONS:
                for tested in (False, True):
                    yield from self._on(found, version, versions, tested=tested)

    # ------------------------------------------------------------------ the files

    def _check_version(self) -> str:
        headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
        require(headings[0] == self._version, f"CHANGELOG.md begins with {self._version}")
        changed = call("git", "status", "--porcelain", "--untracked-files=no")
        require(not changed, "all changes are committed", changed)
        tags = call("git", "tag", "--list", f"v{self._version}", "--no-contains", "HEAD")
        require(not tags, f"no other commit has the tag v{self._version}")
        return self._version

    def _build(self) -> str:
        shutil.rmtree(DIST, ignore_errors=True)
        self._sdist = build("sdist", ROOT, DIST)
        self._wheel = build("wheel", ROOT, DIST)
        return f"{self._sdist.name}, {self._wheel.name}"

    def _check_contents(self) -> str:
        name = f"prefect_executions-{self._version}"
        in_git = set(call("git", "ls-files").splitlines())
        package = {path.removeprefix("src/") for path in in_git if path.startswith("src/")}
        flows = {f"prefect_executions/{path}" for path in in_git if path.startswith("flows/")}
        info = ["METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"]
        in_wheel = set(zipfile.ZipFile(self._wheel).namelist())
        wanted = package | flows | {f"{name}.dist-info/{file}" for file in info}
        require_same(in_wheel, wanted, "the wheel")
        with tarfile.open(self._sdist) as files:
            in_sdist = {file.name for file in files if file.isfile()}
        sources = {path for path in in_git if not path.startswith(NOT_UPLOADED)}
        require_same(in_sdist, {f"{name}/{path}" for path in sources | {"PKG-INFO"}}, "the sdist")
        return f"{len(in_wheel)} files in the wheel, {len(in_sdist)} in the source distribution"

    def _build_again(self) -> None:
        again = build("wheel", self._sdist, self._place / "again")
        require(again.read_bytes() == self._wheel.read_bytes(), "it is the same wheel")

    def _ask_checkers(self) -> None:
        own = Path(sys.executable).parent
        call(own / "twine", "check", "--strict", self._sdist, self._wheel)
        call(own / "check-wheel-contents", self._wheel)

    def _upgrade(self) -> str:
        return last_line(call(sys.executable, "-m", "pytest", "tests/upgrade", "-m", "upgrade"))

    # ------------------------------------------------------------------ the wheel, installed

    def _on(self, python: Path, version: str, versions: str, *, tested: bool) -> Generator[Part]:
        extras = "with extras" if tested else "bare"
        name = f"Python {version}, {versions}, {extras}"
        home = self._place / f"{version}-{versions}-{extras.replace(' ', '-')}"
        home.mkdir()
        inside = home / "venv" / "bin" / "python"

        def set_up() -> str:
            install(self._wheel, home, python=f"{python}", versions=versions, tested=tested)
            return f"Prefect {PREFECT_LINE.findall((home / 'own.txt').read_text())[0]}"

        def import_all() -> str:
            bare = [] if tested else ["--bare"]
            return call(inside, "-I", TOOLS / "import_all.py", *bare, cwd=home).strip()

        def ask_for_help() -> None:
            said = call(inside.parent / "prefect-executions", "--help", cwd=home)
            require("resume" in said, "the help has the commands", said)

        def walk() -> None:
            script = TOOLS / "first_five_minutes.py"
            call(sys.executable, script, "--environment", home / "venv", cwd=home)

        def test() -> str:
            few = ["-m", "not scale and not upgrade and not long", "--hypothesis-profile", "few"]
            few += ["--numprocesses", "2", "--dist", "loadgroup"]
            return last_line(call(inside, "-m", "pytest", "--quiet", *few, *QUICK))

        yield f"{name}: installed", set_up
        yield f"{name}: imported", import_all
        yield f"{name}: --help", ask_for_help
        if tested:
            yield f"{name}: quick tests", test
        else:
            yield f"{name}: README's script, killed", walk
        shutil.rmtree(home)


def require_same(found: set[str], wanted: set[str], what: str) -> None:
    """Fail with the names that are too many or too few."""
    extra, missing = sorted(found - wanted), sorted(wanted - found)
    require(found == wanted, f"{what} has what is in git", f"more: {extra}\nless: {missing}")


def last_line(said: str) -> str:
    """The last line, without the signs around it."""
    return said.strip().splitlines()[-1].strip("= ")


def find_python(version: str) -> Path | str:
    """A Python that is here, or that uv fetches; or in words why it can't be had."""
    find = ["python", "find", "--no-project"]
    try:
        return Path(uv(*find, "--system", "--no-python-downloads", version).splitlines()[-1])
    except Failed:
        return _fetched(version)


def _fetched(version: str) -> Path | str:
    try:
        uv("python", "install", version)
    except Failed as failed:
        return last_line(f"{failed}")
    return Path(uv("python", "find", "--no-project", "--managed-python", version).splitlines()[-1])


def released_pythons() -> list[str]:
    """The minor versions of CPython from 3.11 on that are released, as far as uv knows."""
    listed = uv("python", "list", "--only-downloads")
    found = {int(minor) for minor in re.findall(r"^cpython-3\.(\d+)\.\d+-", listed, re.MULTILINE)}
    return [f"3.{minor}" for minor in sorted(found) if minor >= 11]


def main() -> int:
    """Do it, print each part with its time, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", action="append", help="only this one, as in 3.12; repeatable")
    if shutil.which("pyenv"):  # its programs run only those versions that it is told
        os.environ["PYENV_VERSION"] = ":".join(call("pyenv", "versions", "--bare").split())
    pythons = parser.parse_args().python or released_pythons()
    with tempfile.TemporaryDirectory(prefix="release-") as place:
        ended = carry_out(Release(Path(place), pythons).all(), width=52)
    if ended == 0:
        print("  to be uploaded: dist/*")
    return ended


if __name__ == "__main__":
    sys.exit(main())
