"""The flow `survey` in `flows/`: what it finds out about distributions, without Prefect."""

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import Distribution
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FILE = Path(__file__).parents[2] / "flows" / "survey.py"

WHALE = """\
import json, yaml
import numpy.linalg as linalg
from numpy import array
from . import here
from whale.song import sing

class Whale:
    def dive(self):
        async def deeper():
            return 1

        return deeper

try:
    import rich
except ImportError:
    def fallback():
        pass
"""


def _load() -> ModuleType:
    """Load the flow as a deployment does: by its path, without its directory on `sys.path`."""
    spec = spec_from_file_location("survey_flow", FILE)
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


survey: Any = _load()

Install = Callable[..., Distribution]


@pytest.fixture
def install(tmp_path: Path) -> Install:
    """Put a distribution into a directory, by default `tmp_path`."""

    def install(
        name: str = "whale",
        version: str = "1.0",
        *,
        metadata: tuple[str, ...] = (),
        files: dict[str, str | bytes] | None = None,
        record: str | None = None,
        site: Path = tmp_path,
    ) -> Distribution:
        info = site / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        head = ("Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *metadata)
        (info / "METADATA").write_text("\n".join(head) + "\n")
        for path, content in (files or {}).items():
            (site / path).parent.mkdir(parents=True, exist_ok=True)
            (site / path).write_bytes(content.encode() if isinstance(content, str) else content)
        if files is not None:
            (info / "RECORD").write_text(record or "".join(f"{path},,\n" for path in files))
        return Distribution.at(info)

    return install


def test_a_distribution_is_read(install: Install) -> None:
    dist = install(
        metadata=("License-Expression: MIT", "Requires-Dist: Rich_Text>1"),
        files={"whale/__init__.py": WHALE, "whale/song.py": "x = 1\ny = 2", "whale/fat.so": b"\0"},
    )

    facts = survey.read("whale", dist)

    assert facts.model_dump() == {
        "name": "whale",
        "version": "1.0",
        "licence": "MIT",
        "dependencies": ["rich-text"],
        "listed": True,
        "python_files": 2,
        "unreadable": 0,
        "lines": 20,
        "imports": ["numpy", "rich", "yaml"],
        "longest_functions": [
            {"path": "whale/__init__.py", "name": "Whale.dive", "lines": 5},
            {"path": "whale/__init__.py", "name": "Whale.dive.deeper", "lines": 2},
            {"path": "whale/__init__.py", "name": "fallback", "lines": 2},
        ],
    }


def test_it_reads_the_same_twice_whatever_the_order_of_the_files(install: Install) -> None:
    files: dict[str, str | bytes] = {
        f"whale/{n}.py": f"import m{n % 3}\ndef f():\n    pass\n" for n in range(30)
    }
    record = "".join(f"{path},,\n" for path in reversed(files))
    here = survey.read("whale", install(files=files))

    there = survey.read("whale", install(version="2", files=files, record=record))

    assert there.model_copy(update={"version": "1.0"}) == here


def test_it_reads_the_same_in_another_process(tmp_path: Path, install: Install) -> None:
    """The result does not depend on the hash seed or anything else of a process."""
    modules = "\n".join(f"import m{n}" for n in range(50))
    install("whale", files={"whale/a.py": WHALE, "whale/b.py": modules})
    install("krill", files={"krill.py": modules + WHALE})
    script = (
        "import runpy, sys\n"
        "s = runpy.run_path(sys.argv[1])\n"
        "done = [s['read'](*pair) for pair in s['installed'](sys.argv[2:]).items()]\n"
        "print(s['summarise'](done).model_dump_json(), s['render'](s['summarise'](done), done))"
        "; print(done)\n"
    )

    outputs = {
        subprocess.run(
            [sys.executable, "-c", script, FILE, tmp_path],
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(outputs) == 1
    assert "whale" in outputs.pop()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"print 'Python 2'\n", id="not this Python"),
        pytest.param(b"# \xff\xfe\n", id="not UTF-8"),
        pytest.param(b"# coding: klingon\n", id="unknown encoding"),
        pytest.param(b"x = 1\0\n", id="null byte"),
        pytest.param(b"x = " + b"-" * 100_000 + b"1\n", id="nested deeply"),
        pytest.param(b"  x = 1\n y = 2\n", id="bad indentation"),
    ],
)
def test_an_unreadable_file_is_counted_and_nothing_else(install: Install, content: bytes) -> None:
    dist = install(files={"whale/bad.py": content, "whale/good.py": "import yaml\n"})

    facts = survey.read("whale", dist)

    assert (facts.python_files, facts.unreadable, facts.lines) == (2, 1, 1)
    assert facts.imports == ["yaml"]


def test_an_encoding_other_than_utf8_is_readable_where_the_file_says_so(install: Install) -> None:
    dist = install(files={"whale.py": b"# coding: latin-1\nx = '\xe9'\n"})

    facts = survey.read("whale", dist)

    assert (facts.unreadable, facts.lines) == (0, 2)


def test_an_invalid_escape_warns_nobody(install: Install) -> None:
    """A warning would be an error in these tests."""
    dist = install(files={"whale.py": "x = '\\d'\nassert (x, 'always')\n"})

    facts = survey.read("whale", dist)

    assert (facts.unreadable, facts.lines) == (0, 2)


def test_a_distribution_without_a_file_list_is_read_all_the_same(install: Install) -> None:
    dist = install()

    facts = survey.read("whale", dist)

    assert dist.files is None
    assert (facts.listed, facts.python_files, facts.lines) == (False, 0, 0)
    assert facts.imports == facts.longest_functions == []


def test_a_file_that_is_listed_twice_or_is_gone_is_not_counted(install: Install) -> None:
    record = "whale.py,,\nwhale.py,sha256=x,4\n./whale.py,,\ngone.py,,\n"
    dist = install(files={"whale.py": "x=1\n"}, record=record)

    facts = survey.read("whale", dist)

    assert (facts.python_files, facts.unreadable, facts.lines) == (1, 0, 1)


def test_the_first_of_two_on_the_path_counts(tmp_path: Path, install: Install) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    install("Big_Whale", "1.0", site=first)
    install("big.whale", "2.0", site=second)
    install("ant", site=second)

    found = survey.installed([str(first), str(second)])

    assert {name: dist.version for name, dist in found.items()} == {
        "ant": "1.0",
        "big-whale": "1.0",
    }
    assert list(found) == ["ant", "big-whale"]


def test_of_two_in_one_directory_it_is_always_the_same(tmp_path: Path, install: Install) -> None:
    for version in ("1.1", "1.3", "1.2"):
        install("whale", version)

    found = survey.installed([str(tmp_path)])

    assert [dist.version for dist in found.values()] == ["1.3"]


def test_the_remains_of_a_distribution_are_left_out(tmp_path: Path, install: Install) -> None:
    install("whale")
    (tmp_path / "~hale-0.9.dist-info").mkdir()
    nameless = tmp_path / "nameless-1.dist-info"
    nameless.mkdir()
    (nameless / "METADATA").write_text("Metadata-Version: 2.1\n")

    found = survey.installed([str(tmp_path)])

    assert list(found) == ["whale"]


def test_only_names_some_in_any_spelling() -> None:
    assert survey.choose(["ant", "big-whale", "cat"], ["Big.Whale", "ant"]) == ["ant", "big-whale"]
    assert survey.choose(["ant", "cat"], None) == ["ant", "cat"]
    assert survey.choose(["ant", "cat"], []) == []


def test_an_unknown_name_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"^only: not installed here: 'Cow', 'Dog'$"):
        survey.choose(["ant", "cat"], ["ant", "Dog", "Cow"])


@pytest.mark.parametrize(
    ("metadata", "licence"),
    [
        (("License-Expression: MIT", "License: other"), "MIT"),
        (("License: BSD 2-Clause", "Classifier: License :: OSI Approved :: X"), "BSD 2-Clause"),
        (("License: UNKNOWN", "Classifier: License :: OSI Approved :: X"), "X"),
        ((f"License: {'long ' * 20}", "Classifier: License :: OSI Approved :: X"), "X"),
        (
            ("License: two", "        lines", "Classifier: License :: Public Domain"),
            "Public Domain",
        ),
        (
            ("Classifier: License :: Y", "Classifier: Topic :: Z", "Classifier: License :: X"),
            "X, Y",
        ),
        ((), "unknown"),
    ],
)
def test_the_licence_is_in_the_most_precise_field(
    install: Install, metadata: tuple[str, ...], licence: str
) -> None:
    assert survey.licence(install(metadata=metadata)) == licence


def test_dependencies_are_what_is_needed_here_without_an_extra() -> None:
    requires = [
        "Zope.Interface>=1",
        "PyYAML (>=5.1)",
        "pyyaml; python_version > '3'",
        "pytest; extra == 'test'",
        "rich; extra == 'test' and python_version > '3'",
        "tomli; python_version < '3'",
        "fast[speed]; sys_platform != 'plan9'",
        "not a requirement",
    ]

    assert survey.dependencies(requires) == ["fast", "pyyaml", "zope-interface"]


def test_imports_are_the_most_frequent_ones_and_equal_ones_by_name(install: Install) -> None:
    many = "\n".join(f"import m{n:02}" for n in range(40))
    dist = install(
        files={"whale/a.py": many, "whale/b.py": "import m39\nimport m38.x\nimport os\n"}
    )

    facts = survey.read("whale", dist)

    assert facts.imports == [f"m{n:02}" for n in (*range(18), 38, 39)]


def test_functions_are_found_in_every_block(install: Install) -> None:
    source = (
        "if x:\n def f0(): 0\nelif y:\n def f1(): 0\nelse:\n def f2(): 0\n"
        "try:\n def f3(): 0\nexcept E:\n def f4(): 0\nelse:\n def f5(): 0\nfinally:\n def f6(): 0\n"
        "for y in x:\n def f7(): 0\nwhile x:\n def f8(): 0\nwith x:\n def f9(): 0\n"
        "match x:\n case 1:\n  def g0(): 0\ntry:\n pass\nexcept* E:\n def g1(): 0\n"
    )
    dist = install(files={"whale.py": source})

    found = survey.read_source(survey.python_files(dist)[0])

    assert sorted(f.name for f in found.functions) == [*(f"f{n}" for n in range(10)), "g0", "g1"]


def _facts(name: str, **known: Any) -> Any:
    empty = {
        "version": "1",
        "licence": "MIT",
        "dependencies": [],
        "listed": True,
        "python_files": 1,
        "unreadable": 0,
        "lines": 1,
        "imports": [],
        "longest_functions": [],
    }
    return survey.Facts(name=name, **(empty | known))


def test_a_summary_adds_up_with_the_largest_first_and_equal_ones_by_name() -> None:
    long = survey.Function(path="c.py", name="long", lines=9)
    short = survey.Function(path="a.py", name="short", lines=1)

    summary = survey.summarise(
        [
            _facts("a", dependencies=["b", "c"], imports=["b", "c"], longest_functions=[short]),
            _facts("b", dependencies=["c"], imports=["c"], listed=False, unreadable=1),
            _facts("c", licence="BSD", lines=7, longest_functions=[long]),
        ]
    )

    assert (summary.distributions, summary.unlisted, summary.unreadable) == (3, 1, 1)
    assert (summary.python_files, summary.lines) == (3, 9)
    assert list(summary.licences.items()) == [("MIT", 2), ("BSD", 1)]
    assert list(summary.most_depended_on.items()) == [("c", 2), ("b", 1)]
    assert list(summary.most_imported.items()) == [("c", 2), ("b", 1)]
    assert list(summary.largest.items()) == [("c", 7), ("a", 1), ("b", 1)]
    assert summary.longest_functions == [long, short]


def test_a_report_shows_everything_and_lets_nothing_out_of_its_cell() -> None:
    found = [_facts("whale", licence="MIT | *BSD*\nor <b>", imports=["__init__"])]

    report = survey.render(survey.summarise(found), found)

    assert r"| whale | 1 | MIT \| \*BSD\* or \<b> | 1 | 1 |" in report
    assert r"| \_\_init\_\_ | 1 |" in report


def test_a_survey_of_nothing_has_a_report_too() -> None:
    assert "0 distributions" in survey.render(survey.summarise([]), [])


def test_the_state_comes_back_from_json_as_it_was(install: Install) -> None:
    facts = survey.read("whale", install(files={"whale.py": WHALE}))
    state = survey.Survey(stage="report", done={"whale": facts}, summary=survey.summarise([facts]))

    assert survey.Survey.model_validate_json(state.model_dump_json()) == state
