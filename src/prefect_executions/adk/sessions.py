"""A session service of ADK as a part of an execution's state."""

from typing import Any

from google.adk.errors import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.sessions import BaseSessionService, Session, State
from google.adk.sessions.base_session_service import GetSessionConfig, ListSessionsResponse

from prefect_executions.errors import StateError
from prefect_executions.responses import Responses
from prefect_executions.runtime.decorator import execution
from prefect_executions.serialization import dump, load
from prefect_executions.steps.recorder import recorder_of

# The number of a session's events and the states that it sees, as JSON.
Place = dict[str, Any]

_EVENTS = Responses[Event](Event, exclude_none=True, exclude_defaults=True)


class StateSessions(BaseSessionService):
    """Sessions that are a dict in the state: `StateSessions(run.state.sessions)`.

    A checkpoint saves them with the rest, as large as what was added; a roll-back takes them back,
    and a process that has lost the execution can't write to them. One run at a time has a session.
    A run that raises leaves nothing in it, and one that is made again says nothing twice.

    Args:
        data: The dict. It is changed in place.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        self._data = data

    async def create_session(
        self,
        *,
        app_name: str,
        user_id: str,
        state: dict[str, Any] | None = None,
        session_id: str | None = None,
    ) -> Session:
        """Create a session; without an id it is the next of the user's: `session-1`.

        Raises:
            AlreadyExistsError: The user has a session with this id.
            StateError: A value of the state can't be kept.
        """
        sessions = self._user(app_name, user_id)["sessions"]
        session_id = (session_id or "").strip() or _next_id(sessions)
        if session_id in sessions:
            raise AlreadyExistsError(f"Session with id {session_id} already exists.")
        sessions[session_id] = {"state": {}, "events": [], "updated": 0.0}
        self._update(app_name, user_id, session_id, _plain(state or {}, "the state of a session"))
        return self._session(app_name, user_id, session_id)

    async def get_session(
        self,
        *,
        app_name: str,
        user_id: str,
        session_id: str,
        config: GetSessionConfig | None = None,
    ) -> Session | None:
        """A copy of a session; None when there is none."""
        session_id = session_id.strip()
        kept = self._user(app_name, user_id)["sessions"].get(session_id)
        if kept is None:
            return None
        session = self._session(app_name, user_id, session_id, config)
        if "open" not in kept or kept["open"]["attempt"] == (here := _attempt()) or here is None:
            return session
        self.end(session, failed=True)  # the run was interrupted, and is made again
        return self._session(app_name, user_id, session_id, config)

    async def list_sessions(
        self, *, app_name: str, user_id: str | None = None
    ) -> ListSessionsResponse:
        """The sessions of a user, or of all, without their events; the last updated one last."""
        users = self._app(app_name)["users"]
        nothing = GetSessionConfig(num_recent_events=0)
        sessions = [
            self._session(app_name, user, id_, nothing)
            for user in users
            if user_id in (None, user)
            for id_ in users[user]["sessions"]
        ]
        sessions.sort(key=lambda session: (session.last_update_time, session.user_id, session.id))
        return ListSessionsResponse(sessions=sessions)

    async def delete_session(self, *, app_name: str, user_id: str, session_id: str) -> None:
        """Delete a session, if there is one."""
        self._user(app_name, user_id)["sessions"].pop(session_id.strip(), None)

    async def get_user_state(self, *, app_name: str, user_id: str) -> dict[str, Any]:
        """A copy of what all sessions of a user share, without the prefix `user:`."""
        return _plain(self._user(app_name, user_id)["state"], "the user's state")

    async def append_event(self, session: Session, event: Event) -> Event:
        """Append an event to a session, and let its state have what the event says.

        Raises:
            SessionNotFoundError: There is no such session.
            StaleSessionError: Another run, or the code of the flow, has appended one meanwhile.
            StateError: The event, or a value of its state, can't be kept.
        """
        if event.partial:
            return event
        kept = self._user(session.app_name, session.user_id)["sessions"].get(session.id)
        if kept is None:
            raise SessionNotFoundError(f"Session {session.id} not found.")
        if session.last_update_time != kept["updated"]:
            raise StaleSessionError(
                f"the session {session.id!r} has other events by now; get it again. One run at a "
                "time has a session."
            )
        what = f"an event of {event.author}"
        changed = _plain(event.actions.state_delta, f"{what}: state_delta")
        event = await super().append_event(session=session, event=event)
        plain = _EVENTS.plain(event, what)
        if isinstance(plain, StateError):
            raise plain
        kept["events"].append(plain)
        kept["updated"] = session.last_update_time = event.timestamp
        self._update(session.app_name, session.user_id, session.id, changed)
        return event

    def place(self, session: Session, *, own: int) -> Place:
        """Where a session is, for a run that has added `own` events to it already."""
        app, user = self._app(session.app_name), self._user(session.app_name, session.user_id)
        kept = user["sessions"][session.id]
        states = {"app": app["state"], "user": user["state"], "session": kept["state"]}
        return {**_plain(states, "the state"), "events": len(kept["events"]) - own}

    def begin(
        self, session: Session, place: Place, *, own: int, config: GetSessionConfig | None
    ) -> None:
        """Let a session be at the place at which its run began, with the run's own events.

        It is noted, so that another attempt, which makes the run again, gets it as it was there.

        Args:
            session: The session, as the run has it.
            place: The place.
            own: How many events the run has added already.
            config: Which of its events the run wants.
        """
        kept = self._user(session.app_name, session.user_id)["sessions"][session.id]
        if len(kept["events"]) - own > place["events"]:
            self._go_back(session, place, own)
            back = self._session(session.app_name, session.user_id, session.id, config)
            session.events[:] = back.events
            temporary = [key for key in session.state if key.startswith(State.TEMP_PREFIX)]
            back.state.update({key: session.state[key] for key in temporary})
            session.state.clear()
            session.state.update(back.state)
        kept["open"] = {"place": place, "attempt": _attempt()}

    def end(self, session: Session, *, failed: bool) -> None:
        """Note that a run has ended. One that has failed leaves nothing in its session."""
        kept = self._user(session.app_name, session.user_id)["sessions"].get(session.id, {})
        begun = kept.pop("open", None)
        if failed and begun is not None:
            self._go_back(session, begun["place"])

    def _go_back(self, session: Session, place: Place, own: int = 0) -> None:
        """Take back what came after a place, but for the newest `own` events."""
        app, user = self._app(session.app_name), self._user(session.app_name, session.user_id)
        kept = user["sessions"][session.id]
        events = kept["events"]
        events[place["events"] :] = events[len(events) - own :]
        kept["updated"] = events[-1]["timestamp"] if events else 0.0
        states = _plain({key: place[key] for key in ("app", "user", "session")}, "the state")
        app["state"], user["state"], kept["state"] = (
            states["app"],
            states["user"],
            states["session"],
        )

    def _app(self, app_name: str) -> dict[str, Any]:
        app: dict[str, Any] = self._data.setdefault(app_name, {"state": {}, "users": {}})
        return app

    def _user(self, app_name: str, user_id: str) -> dict[str, Any]:
        users = self._app(app_name)["users"]
        user: dict[str, Any] = users.setdefault(user_id, {"state": {}, "sessions": {}})
        return user

    def _update(self, app_name: str, user_id: str, session_id: str, state: dict[str, Any]) -> None:
        """Let the app, the user and the session have values, by the prefixes of their keys."""
        user = self._user(app_name, user_id)
        for key, value in state.items():
            if key.startswith(State.APP_PREFIX):
                self._app(app_name)["state"][key.removeprefix(State.APP_PREFIX)] = value
            elif key.startswith(State.USER_PREFIX):
                user["state"][key.removeprefix(State.USER_PREFIX)] = value
            elif not key.startswith(State.TEMP_PREFIX):
                user["sessions"][session_id]["state"][key] = value

    def _session(
        self,
        app_name: str,
        user_id: str,
        session_id: str,
        config: GetSessionConfig | None = None,
    ) -> Session:
        """A session with the state of its app and its user."""
        app, user = self._app(app_name), self._user(app_name, user_id)
        kept = user["sessions"][session_id]
        state = {
            **kept["state"],
            **{State.APP_PREFIX + key: value for key, value in app["state"].items()},
            **{State.USER_PREFIX + key: value for key, value in user["state"].items()},
        }
        return Session(
            app_name=app_name,
            user_id=user_id,
            id=session_id,
            state=_plain(state, "the state"),
            events=[_EVENTS.load(event) for event in _chosen(kept["events"], config)],
            last_update_time=kept["updated"],
        )


def _chosen(events: list[Any], config: GetSessionConfig | None) -> list[Any]:
    if config is None:
        return events
    if config.num_recent_events is not None:
        events = events[max(len(events) - config.num_recent_events, 0) :]
    after = config.after_timestamp
    return events if after is None else [one for one in events if one["timestamp"] >= after]


def _next_id(sessions: dict[str, Any]) -> str:
    """An id that is the same in each attempt."""
    number = len(sessions) + 1
    while f"session-{number}" in sessions:
        number += 1
    return f"session-{number}"


def _plain(value: dict[str, Any], what: str) -> dict[str, Any]:
    """A copy of values that are JSON."""
    copied: dict[str, Any] = load(dump(value, at=what))
    return copied


def _attempt() -> str | None:
    """Which attempt of which execution this code runs in; None outside of executions."""
    if recorder_of("sessions") is None:
        return None
    run = execution.current()
    return f"{run.id} {run.attempt}"
