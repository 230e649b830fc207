"""An agent task on real input: a survey of the Python distributions that are installed here.

It goes through four stages, `discover`, `read`, `analyse` and `report`. All that it knows is in its
state, and nothing in there depends on time or on luck: the report is the same whether it ran
through, or was paused, killed and rolled back on the way.
"""

import ast
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, PackagePath, distributions
from importlib.util import decode_source
from pathlib import Path
from time import monotonic, sleep
from typing import Annotated, Literal

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from pydantic import BaseModel, Field

from prefect_executions import Run, execution

IMPORTS = 20  # modules kept of one distribution
FUNCTIONS = 5  # functions kept of one distribution
ROWS = 10  # rows in a table of the report
LICENCE_LENGTH = 60  # a longer `License` is a text rather than a name
BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")  # where statements stand in a node

# What a file that isn't Python, or not this Python, is refused with; the last two by the parser's
# own limits, when it is nested too deeply.
UNREADABLE = (OSError, SyntaxError, ValueError, RecursionError, MemoryError)


class Function(BaseModel):
    """A function or method, and how long it is."""

    path: str
    name: str
    lines: int


class Facts(BaseModel):
    """What is known of one distribution.

    Attributes:
        licence: As the distribution words it.
        dependencies: What it needs here without any extra.
        listed: Whether it says which files are its own.
        unreadable: How many of the Python files can't be decoded or parsed; they count as files
            and in nothing else.
        imports: Modules of others, not of the standard library, that most of its files import.
    """

    name: str
    version: str
    licence: str
    dependencies: list[str]
    listed: bool
    python_files: int
    unreadable: int
    lines: int
    imports: list[str]
    longest_functions: list[Function]


class Summary(BaseModel):
    """What is known of all distributions together; the largest number comes first."""

    distributions: int = 0
    unlisted: int = 0
    python_files: int = 0
    unreadable: int = 0
    lines: int = 0
    licences: dict[str, int] = {}
    most_depended_on: dict[str, int] = {}
    most_imported: dict[str, int] = {}
    largest: dict[str, int] = {}
    longest_functions: list[Function] = []


class Survey(BaseModel):
    """The state: what there is to do, what is known, and what became of it."""

    stage: Literal["discover", "read", "analyse", "report", "done"] = "discover"
    todo: list[str] = []
    done: dict[str, Facts] = {}
    summary: Summary = Summary()
    report: str = ""


@flow(name="survey")
@execution(state=Survey)
def survey(
    per_second: Annotated[float, Field(ge=0)] = 5.0, only: list[str] | None = None
) -> Summary:
    """Survey the distributions that are installed where this runs.

    Args:
        per_second: How many distributions to read in a second at most, so that there is time to
            pause it by hand; 0 for as many as possible.
        only: The names of those to survey; all by default.
    """
    run = execution.current(Survey)
    state = run.state
    if state.stage == "discover":
        state.todo, state.stage = choose(installed(), only), "read"
        run.checkpoint(label=f"discovered {len(state.todo)} distributions")
    if state.stage == "read":
        _read_all(run, per_second)
        state.stage = "analyse"
    if state.stage == "analyse":
        state.summary, state.stage = summarise(state.done.values()), "report"
        run.checkpoint(label="analysed")
    if state.stage == "report":
        state.report = render(state.summary, state.done.values())
        # A crash after this line publishes the report twice: as a second, equal version.
        create_markdown_artifact(state.report, key="survey-report")
        state.stage = "done"
        run.checkpoint(label="reported")
    return state.summary


def _read_all(run: Run[Survey], per_second: float) -> None:
    """Read what there is to do, with a checkpoint after each distribution."""
    state, found = run.state, installed()
    while state.todo:
        began = monotonic()
        name = state.todo[0]
        if name not in found:  # uninstalled since the state was saved
            raise PackageNotFoundError(name)
        facts = state.done[name] = read(name, found[name])
        del state.todo[0]
        run.checkpoint(label=f"read {name}")
        get_run_logger().info("Read %s: %d lines of Python", name, facts.lines)
        if per_second:
            sleep(max(0.0, 1 / per_second - (monotonic() - began)))


def installed(path: Sequence[str] | None = None) -> dict[str, Distribution]:
    """The distributions on `path`, by default `sys.path`, by their canonical names in order.

    Of two with one name the first on the path counts, as for `import`. Where both are in one
    directory, which an interrupted upgrade leaves behind, it is the higher version by its letters.
    """
    found: dict[str, Distribution] = {}
    for entry in sys.path if path is None else path:
        here = filter(_has_metadata, distributions(path=[entry]))
        for dist in sorted(here, key=lambda dist: _field(dist, "Version"), reverse=True):
            found.setdefault(canonicalize_name(_field(dist, "Name")), dist)
    return {name: found[name] for name in sorted(found) if name}


def choose(names: Iterable[str], only: Iterable[str] | None) -> list[str]:
    """Those of `names` that `only` names, in whatever spelling; all if it is None.

    Raises:
        ValueError: one of `only` is not among them.
    """
    if only is None:
        return list(names)
    wanted = {canonicalize_name(name): name for name in only}
    if unknown := [wanted[name] for name in sorted(wanted.keys() - set(names))]:
        raise ValueError(f"only: not installed here: {', '.join(map(repr, unknown))}")
    return [name for name in names if name in wanted]


def read(name: str, dist: Distribution) -> Facts:
    """Find out all about one distribution."""
    paths = python_files(dist)
    readable = [source for source in map(read_source, paths) if source]
    own = {path.parts[0].removesuffix(".py") for path in paths} | sys.stdlib_module_names
    imports = Counter(module for source in readable for module in source.imports - own)
    return Facts(
        name=name,
        version=_field(dist, "Version"),
        licence=licence(dist),
        dependencies=dependencies(dist.requires or []),
        listed=dist.files is not None,
        python_files=len(paths),
        unreadable=len(paths) - len(readable),
        lines=sum(source.lines for source in readable),
        imports=sorted(top(imports, IMPORTS)),
        longest_functions=longest((f for source in readable for f in source.functions), FUNCTIONS),
    )


def licence(dist: Distribution) -> str:
    """The licence in the distribution's own words, from the most to the least precise field."""
    if expression := _field(dist, "License-Expression"):
        return expression
    name = _field(dist, "License")
    if name and name != "UNKNOWN" and "\n" not in name and len(name) <= LICENCE_LENGTH:
        return name
    classifiers = (str(line).split(" :: ") for line in dist.metadata.get_all("Classifier", []))
    names = {words[-1] for words in classifiers if words[0] == "License"}
    return ", ".join(sorted(names)) or "unknown"


def dependencies(requires: Iterable[str]) -> list[str]:
    """The canonical names of what is required here without any extra, in order."""
    names = set()
    for line in requires:
        with suppress(ValueError):  # what an old distribution spells in its own way is left out
            wanted = Requirement(line)
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                names.add(canonicalize_name(wanted.name))
    return sorted(names)


def python_files(dist: Distribution) -> list[PackagePath]:
    """The distribution's Python files that are there, in order."""
    listed = {path for path in dist.files or [] if path.suffix == ".py"}
    return sorted(path for path in listed if Path(str(path.locate())).is_file())


@dataclass(frozen=True)
class Source:
    """What one Python file contains; `imports` are the names of top-level modules."""

    lines: int
    imports: frozenset[str]
    functions: list[Function]


def read_source(path: PackagePath) -> Source | None:
    """Parse a Python file; None if it is unreadable."""
    try:
        data = path.read_binary()
        with warnings.catch_warnings(action="ignore"):  # about invalid escapes and the like
            tree = ast.parse(decode_source(data))
    except UNREADABLE:
        return None
    nodes = list(_statements(tree))
    return Source(
        lines=len(data.splitlines()),
        imports=frozenset(module for node, _ in nodes for module in _modules(node)),
        functions=[
            Function(path=path.as_posix(), name=name, lines=_length(node))
            for node, name in nodes
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ],
    )


def _statements(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """All statements, with the qualified name of the scope that each makes or stands in.

    Neither imports nor functions stand in expressions, which are most of a tree: `ast.walk` would
    take several times as long.
    """
    rest: list[tuple[ast.AST, str]] = [(tree, "")]
    while rest:
        node, scope = rest.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            scope = f"{scope}.{node.name}".lstrip(".")
        yield node, scope
        rest.extend((child, scope) for block in BLOCKS for child in getattr(node, block, ()))


def _modules(node: ast.AST) -> list[str]:
    """The top-level modules that a statement imports, but for relative imports."""
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module.partition(".")[0]]
    return []


def _length(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def summarise(found: Iterable[Facts]) -> Summary:
    """Add up what is known of the distributions."""
    found = list(found)
    licences = Counter(facts.licence for facts in found)
    return Summary(
        distributions=len(found),
        unlisted=sum(not facts.listed for facts in found),
        python_files=sum(facts.python_files for facts in found),
        unreadable=sum(facts.unreadable for facts in found),
        lines=sum(facts.lines for facts in found),
        licences=top(licences, len(licences)),
        most_depended_on=top(Counter(n for facts in found for n in facts.dependencies), ROWS),
        most_imported=top(Counter(m for facts in found for m in facts.imports), ROWS),
        largest=top({facts.name: facts.lines for facts in found}, ROWS),
        longest_functions=longest((f for facts in found for f in facts.longest_functions), ROWS),
    )


def top(counts: Mapping[str, int], n: int) -> dict[str, int]:
    """The `n` largest counts, the largest first, equal ones by name."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:n])


def longest(functions: Iterable[Function], n: int) -> list[Function]:
    """The `n` longest functions, the longest first, equal ones by path and name."""
    return sorted(functions, key=lambda f: (-f.lines, f.path, f.name))[:n]


def render(summary: Summary, found: Iterable[Facts]) -> str:
    """The report as Markdown."""
    functions = [(f.name, f.path, f.lines) for f in summary.longest_functions]
    rows = [(f.name, f.version, f.licence, f.python_files, f.lines) for f in found]
    sections = [
        "# Survey of the installed distributions",
        f"{summary.distributions} distributions with {summary.python_files} Python files and "
        f"{summary.lines} lines. {summary.unreadable} files could not be parsed, and "
        f"{summary.unlisted} distributions do not list their files.",
        "## Largest",
        table(("Distribution", "Lines"), summary.largest.items()),
        "## Most depended on",
        table(("Distribution", "Dependents"), summary.most_depended_on.items()),
        "## Most imported",
        table(("Module", "Importing distributions"), summary.most_imported.items()),
        f"## Longest functions, up to {FUNCTIONS} of a distribution",
        table(("Function", "File", "Lines"), functions),
        "## Licences",
        table(("Licence", "Distributions"), summary.licences.items()),
        "## All distributions",
        table(("Distribution", "Version", "Licence", "Python files", "Lines"), rows),
    ]
    return "\n\n".join(sections) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(value: object) -> str:
    """A value that stays in its cell, with nothing in it taken for Markdown."""
    text = " ".join(str(value).split())
    return "".join(f"\\{sign}" if sign in r"\|*_`<[" else sign for sign in text)


def _has_metadata(dist: Distribution) -> bool:
    """Whether it is more than the remains of an uninstalled distribution."""
    return any(dist.read_text(name) for name in ("METADATA", "PKG-INFO", ""))


def _field(dist: Distribution, name: str) -> str:
    """The first value of a metadata field; empty if there is none."""
    return str(next(iter(dist.metadata.get_all(name, [])), "")).strip()
