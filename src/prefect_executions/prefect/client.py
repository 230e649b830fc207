"""Prefect's client for a service, whose callers wait: no request of it takes long."""

import ssl
from functools import partial
from http import HTTPStatus
from time import monotonic, sleep

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import get_current_settings

from prefect_executions.circuit import Circuit
from prefect_executions.errors import PrefectUnavailable
from prefect_executions.prefect.errors import detail_of

# Prefect's own limits: a server is not stable with more connections of one client.
_LIMITS = httpx.Limits(max_connections=16, max_keepalive_connections=8, keepalive_expiry=25)
_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6)  # seconds between the tries of a request
_PASSING = {  # what Prefect's client tries again
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
}


def patient_client(circuit: Circuit) -> SyncPrefectClient:
    """A client of the server in the settings, whose requests go through a circuit.

    Args:
        circuit: The circuit to that server.
    """
    api = get_current_settings().api
    tls: bool | ssl.SSLContext = not api.tls_insecure_skip_verify
    if tls and api.ssl_cert_file:
        tls = ssl.create_default_context(cafile=api.ssl_cert_file)
    # A client within the client: unlike a plain transport it knows the proxies of the environment.
    http = httpx.Client(verify=tls, http2=api.enable_http2, limits=_LIMITS, timeout=circuit.seconds)
    return get_client(
        sync_client=True, httpx_settings={"transport": PatientTransport(circuit, http)}
    )


class PatientTransport(httpx.BaseTransport):
    """Sends the requests of Prefect's client through a circuit.

    Prefect's client itself waits a minute for an answer, and tries six times with pauses of up to
    half a minute. Here a request is tried for three seconds, and after that has failed for good.

    Args:
        circuit: The circuit to the server.
        http: Sends them.
    """

    def __init__(self, circuit: Circuit, http: httpx.Client) -> None:
        self._circuit = circuit
        self._http = http

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and read the answer.

        Raises:
            PrefectUnavailable: There was no answer, or none but that the server is busy. Prefect's
                client does not try again what raises this.
        """
        send = partial(self._send, request, monotonic() + self._circuit.seconds)
        return self._circuit.call(send, lost=(httpx.TransportError,))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _send(self, request: httpx.Request, until: float) -> httpx.Response:
        """Send a request, again and again until it is answered, or nobody waits for it any more."""
        for pause in (*_PAUSES, None):
            try:
                response = self._http.send(request)
            except httpx.TransportError as error:
                failure = PrefectUnavailable(f"{type(error).__name__}: {error}")
                failure.__cause__ = error
            else:
                if response.status_code not in _PASSING:
                    return response
                failure = PrefectUnavailable(f"{response.status_code}: {detail_of(response)}")
            if pause is None or monotonic() + pause > until:
                break
            sleep(pause)
        raise failure
