"""The first digits of an id in place of all of it."""

import inspect

import pytest

from prefect_executions.cli import short_ids
from prefect_executions.cli.app import app
from prefect_executions.cli.options import Id
from prefect_executions.client import Client, NotFound
from rest import KEY
from running import Run, json_of

TAKING_ONE = {
    "get": (),
    "checkpoint": ("2",),
    "checkpoints": (),
    "edit": (),
    "bisect": ("--bad", "True"),
    "state": (),
    "diff": ("{one}", "{one}"),
    "cost": (),
    "pause": (),
    "cancel": (),
    "resume": (),
    "fork": (),
    "watch": (),
    "delete": (),
}


def taking_one() -> set[str]:
    """The commands with such an id as their argument."""
    functions = {name: app[name].default_command for name in app if not name.startswith("-")}
    return {
        name
        for name, function in functions.items()
        if function is not None
        and (first := inspect.signature(function).parameters.get("execution_id")) is not None
        and first.annotation == Id
    }


def test_every_command_with_an_id_takes_a_short_one(
    run: Run, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISUAL", "true")  # changes nothing
    assert taking_one() == TAKING_ONE.keys()
    with Client(url, KEY) as client:
        for name, more in TAKING_ONE.items():
            id_ = client.create(f"for {name}").id
            one = client.checkpoint(id_, 1).checkpoint.id
            if name in ("resume", "edit"):
                client.pause(id_)
            if name == "watch":
                client.complete(id_)
            rest = [each.format(one=one) for each in more]

            code, out, err = run(name, id_[:-4], *rest)

            assert (code, err) == (0, ""), name
            if name in ("get", "pause", "cancel", "resume", "delete"):
                assert id_ in out
    with pytest.raises(NotFound), Client(url, KEY) as client:
        client.get(id_)


def test_the_first_state_comes_from_a_checkpoint_of_a_short_id(run: Run, url: str) -> None:
    id_ = json_of(run, "create", "a")["id"]
    one = json_of(run, "checkpoint", id_, '{"n": 1}')["checkpoint"]["id"]

    made = json_of(run, "create", "b", "--from-checkpoint", f"{id_[:-3]}/{one}")

    assert made["state"] == {"n": 1}


def test_capitals_and_dashes_do_not_matter(run: Run, url: str) -> None:
    id_ = json_of(run, "create", "a")["id"]

    for given in (f"EXEC_{id_[5:13].upper()}-{id_[13:20]}", id_.upper()):
        assert json_of(run, "get", given)["id"] == id_


def test_one_that_may_be_several_is_refused_and_some_of_these_are_named(
    run: Run, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 17 several begin with the same digit."""
    monkeypatch.setattr(short_ids, "ENOUGH", 1)
    with Client(url, KEY) as client:
        ids = [client.create("the same").id for _ in range(17)]
    alike = max(({id_ for id_ in ids if id_[5] == digit} for digit in "0123456789abcdef"), key=len)
    given = min(alike)[:6]

    code, out, err = run("delete", given)

    assert (code, out) == (2, "")
    first, *named = err.splitlines()
    assert first == f"{given} may be one of {len(alike)} executions; give more digits:"
    assert set(named) == {f"{id_} the same, running" for id_ in alike}
    assert len(json_of(run, "list")) == 17

    monkeypatch.setattr(short_ids, "NAMED", 1)
    _, _, err = run("get", given)

    assert len(err.splitlines()) == 3
    assert err.splitlines()[-1] == f"and {len(alike) - 1} more"


def test_none_is_not_found(run: Run, url: str) -> None:
    code, out, err = run("get", "exec_ffffffff")

    assert (code, out) == (3, "")
    assert "of an older one give the whole id" in err


def test_fewer_than_eight_digits_are_refused_without_a_request(run: Run) -> None:
    code, out, err = run("get", "exec_0192f0c", "--url", "http://127.0.0.1:9")

    assert (code, out, err) == (2, "", "exec_0192f0c: give 8 digits of the id at least.\n")


def test_it_is_looked_for_among_the_newest_alone(
    run: Run, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(short_ids, "LOOKED_AT", 1)
    old, new = (json_of(run, "create", "a")["id"] for _ in range(2))

    assert json_of(run, "get", new[:-2])["id"] == new
    assert run("get", old[:-2])[0] == 3
    assert json_of(run, "get", old)["id"] == old


def test_what_is_no_id_is_left_to_the_service(run: Run, url: str) -> None:
    code, _, err = run("get", "nonsense")

    assert (code, "nonsense" in err) == (3, True)
