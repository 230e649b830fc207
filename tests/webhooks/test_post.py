"""One signed POST, and which addresses it may reach."""

import socket
import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from prefect_executions.blocks.webhook import new_secret
from prefect_executions.local import free_ports
from prefect_executions.webhooks.post import Undelivered, is_public, post
from webhook_world import Receiver, receiving


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"],
)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.9.10",
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",  # metadata of clouds
        "192.0.0.192",
        "168.63.129.16",
        "::ffff:168.63.129.16",
        "192.88.99.1",
        "64:ff9b:1::1",
        "::ffff:0:10.0.0.1",
        "3fff::1",
        "100.64.0.1",
        "100.100.100.200",
        "192.0.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:0:127.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::7f00:1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        "2002:c0a8:101::1",
        "2001::1",
        "2001:0:7f00:1::",
        "2001:db8::1",
        "fc00::1",
        "fd12:3456::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
        "100::1",
        "5f00::1",
    ],
)
def test_other_addresses_are_not(address: str) -> None:
    assert not is_public(address)


def send(url: str, **how: Any) -> int:
    secret = new_secret()
    return post(url, **{"message_id": "m", "body": "{}", "secret": secret, "timeout": 5, **how})


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
    ],
)
def test_loopback_is_not_reached_by_another_spelling(host: str, receiver: Receiver) -> None:
    url = receiver.url.replace("127.0.0.1", host)

    with pytest.raises(Undelivered, match="not a public address"):
        send(url)

    assert receiver.rest() == []


def test_one_private_address_among_public_ones_is_refused(receiver: Receiver) -> None:
    url = receiver.url.replace("127.0.0.1", "hooks.example")

    with pytest.raises(Undelivered, match=r"10\.0\.0\.1 is not a public address"):
        send(url, resolve=lambda _host, _port: ["93.184.216.34", "10.0.0.1"])


def test_what_was_checked_is_what_is_connected_to(receiver: Receiver) -> None:
    """A name that resolves to something else the second time gains nothing."""
    answers = iter([["127.0.0.1"], ["127.0.0.2"]])
    checked = []

    def may_reach(address: str) -> bool:
        checked.append(address)
        return True

    url = receiver.url.replace("127.0.0.1", "hooks.example")
    status = send(url, resolve=lambda _host, _port: next(answers), may_reach=may_reach)

    assert status == 204
    assert checked == ["127.0.0.1"]
    assert next(answers) == ["127.0.0.2"]  # the name was not resolved again
    [got] = receiver.next()
    assert got.headers["host"].startswith("hooks.example:")


def test_the_next_address_is_tried(receiver: Receiver) -> None:
    url = receiver.url.replace("127.0.0.1", "hooks.example")

    status = send(
        url, resolve=lambda _host, _port: ["127.0.0.2", "127.0.0.1"], may_reach=lambda _: True
    )

    assert status == 204


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.answers.append(307)

    assert send(receiver.url, may_reach=lambda _: True) == 307

    assert len(receiver.rest()) == 1


def test_proxies_of_the_environment_are_not_asked(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, receiver.url)

    with pytest.raises(Undelivered, match="Connect"):
        send(f"http://127.0.0.1:{free_ports(1)}", may_reach=lambda _: True)

    assert receiver.rest() == []


@pytest.mark.parametrize("url", ["http://nowhere.invalid", f"http://{'a' * 70}.example"])
def test_a_name_that_is_not_known_is_an_ordinary_failure(url: str) -> None:
    with pytest.raises(Undelivered, match="the name can't be resolved"):
        send(url)


def test_a_receiver_that_drips_ends_with_the_timeout() -> None:
    done = Event()

    def drip() -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):  # the other side closes first
            connection.sendall(b"HTTP/1.1 200 OK\r\nx: ")
            while not done.wait(0.05):
                connection.sendall(b"a")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = Thread(target=drip)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        began = monotonic()
        with pytest.raises(Undelivered, match="Timeout"):
            send(url, may_reach=lambda _: True, timeout=0.5)
        assert monotonic() - began < 5
        done.set()
        thread.join()


def certificate(host: str, directory: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The TLS of a server of this name, and of a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = directory / "server.pem"
    file.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cafile=str(file))


def test_the_certificate_is_that_of_the_name_and_not_of_the_address(tmp_path: Path) -> None:
    server, client = certificate("hooks.example", tmp_path)
    how: dict[str, Any] = {
        "resolve": lambda _host, _port: ["127.0.0.1"],
        "may_reach": lambda _: True,
        "tls": client,
    }
    with receiving(tls=server) as receiver:
        url = receiver.url.replace("127.0.0.1", "hooks.example")
        assert send(url, **how) == 204

        with pytest.raises(Undelivered, match="certificate verify failed"):
            send(url.replace("hooks", "other"), **how)
        with pytest.raises(Undelivered, match="certificate verify failed"):
            send(url, **how | {"tls": None})
