"""The packages of the optional extras: their versions are checked when they are first needed."""

from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from prefect_executions.errors import UnsuitablePackage

_OWN = "prefect-executions"


def require_extra(extra: str) -> None:
    """Check that what an extra needs is installed, in versions that it is tested with.

    Args:
        extra: Its name, as in `pip install "prefect-executions[…]"`.

    Raises:
        UnsuitablePackage: A package is missing, or has another version.
        LookupError: The installed prefect-executions has no such extra: it is older than this code.
    """
    needed = [Requirement(text) for text in requires(_OWN) or []]
    needed = [one for one in needed if _is_of(one, extra)]
    if not needed:
        raise LookupError(f"the installed {_OWN} has no extra {extra!r}: install it again")
    for one in needed:
        try:
            installed = version(one.name)
        except PackageNotFoundError:
            installed = None
        if installed is None or not one.specifier.contains(installed, prereleases=True):
            raise UnsuitablePackage(one.name, installed, f"{one.specifier}", extra)


def _is_of(one: Requirement, extra: str) -> bool:
    """Whether a requirement is one of an extra, here."""
    marker = one.marker
    return marker is not None and marker.evaluate({"extra": extra}) and not marker.evaluate()
