"""`compare`, against the real service."""

from running import Run, json_of, words


def test_it_shows_what_differs(run: Run, url: str) -> None:
    one, two = (json_of(run, "create", name, "--state", "{}")["id"] for name in ("a", "b"))
    for n, id_ in enumerate((one, two)):
        json_of(run, "checkpoint", id_, f'{{"n": {n}}}', "--label", "first", "--attempt", "1")

    told = words(run, "compare", one, two)
    it = json_of(run, "compare", one, two)

    assert f'first: ckpt_000002 of {two}: {{"op": "replace", "path": "/n", "value": 1}}' in told
    assert [each["id"] for each in it["executions"]] == [one, two]
    assert words(run, "compare", one, one).endswith("Steps and states are the same.\n")
    assert run("compare", one)[0] == 2
    assert run("compare", one, "exec_" + "0" * 32)[0] == 3
