"""Make an environment with a built wheel, and the lowest or highest versions that it allows.

`make test-wheel` and `make release` use it. Needs `uv` in the environment that runs this.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from parts import Failed

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("local", "redis", "pydantic-ai", "langgraph", "mcp", "openai-agents", "adk")


def call(*command: str | Path, cwd: Path = ROOT) -> str:
    """Run a program to its end, and return what it prints.

    It imports nothing from `PYTHONPATH`: what is installed is what is meant.

    Raises:
        Failed: It exits with another code than 0.
    """
    env = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [f"{part}" for part in command],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Failed(f"`{' '.join(map(str, command))}` exits with {done.returncode}\n{done.stdout}")
    return done.stdout


def uv(*arguments: str | Path) -> str:
    """Run uv, and return what it prints.

    Raises:
        Failed: It fails.
    """
    return call(Path(sys.executable).parent / "uv", *arguments)


def build(kind: str, source: Path, place: Path) -> Path:
    """Build a wheel or a source distribution, and return its path.

    Args:
        kind: `wheel` or `sdist`.
        source: A folder with the sources, or a source distribution.
        place: The folder that it is put into.

    Raises:
        Failed: It can't be built.
    """
    uv("build", "--quiet", f"--{kind}", "--out-dir", place, source)
    (built,) = place.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


def install(wheel: Path, place: Path, *, python: str, versions: str, tested: bool) -> Path:
    """Install a wheel into a new environment, and return the environment's Python.

    Only packages that are built for this Python are taken, as most people do without compilers.

    Args:
        wheel: The wheel, of the present `pyproject.toml`.
        place: A folder for the environment.
        python: The Python to use: a path, or a version.
        versions: `lowest-direct` or `highest`.
        tested: Install the extras, too, and what the tests need.

    Raises:
        Failed: There are no such versions, or they do not fit together.
    """
    home = place / "venv"
    uv("venv", "--quiet", "--clear", "--python", python, home)
    inside = home / "bin" / "python"
    resolve: list[str | Path] = ["pip", "compile", "--quiet", "--no-build", "pyproject.toml"]
    resolve += ["--python", inside]
    resolve += [part for extra in EXTRAS if tested for part in ("--extra", extra)]
    own, wanted = place / "own.txt", place / "all.txt"
    group = ["--group", "extras"] if tested else []
    uv(*resolve, *group, "--resolution", versions, "--output-file", own)
    group = ["--group", "dev"] if tested else []
    uv(*resolve, *group, "--constraint", own, "--output-file", wanted)
    add: list[str | Path] = ["pip", "install", "--quiet", "--compile-bytecode", "--python", inside]
    uv(*add, "--no-build", "--requirements", wanted)
    uv(*add, "--no-deps", wheel)
    uv("pip", "check", "--quiet", "--python", inside)
    return inside


def main() -> int:
    """Build the wheel, and install it with what the tests need; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("place", type=Path, help="the folder for the wheel and the environment")
    parser.add_argument("--versions", default="highest", choices=["lowest-direct", "highest"])
    given = parser.parse_args()
    place: Path = given.place.resolve()
    try:
        wheel = build("wheel", ROOT, place)
        install(wheel, place, python=sys.executable, versions=given.versions, tested=True)
    except Failed as failed:
        print(failed, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
