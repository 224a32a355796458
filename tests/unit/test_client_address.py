"""The address that limits count: only a trusted proxy's word is taken, and none that a client chose."""

import pytest

from services.web.client_address import MAX_PROXIES, ClientAddresses

PROXY, CLIENT = "10.0.0.1", "192.0.2.9"
TRUSTED = ("10.0.0.0/8", "fd00::/8")


def client_of(peer: str, *headers: tuple[str, str]) -> str:
    encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    return ClientAddresses(TRUSTED).client_of({"client": (peer, 1) if peer else None, "headers": encoded})


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("2001:db8:1:2::7", "", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", "", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "", "fe80::/64"),
        ("::ffff:192.0.2.9", "", CLIENT),
        ("::ffff:10.0.0.1", CLIENT, CLIENT),
        (PROXY, "2001:db8:1:3::1, 10.0.0.2", "2001:db8:1:3::/64"),
        ("fd00::1", f"{CLIENT},fd00::2", CLIENT),
        (PROXY, f"{CLIENT}:51413", CLIENT),
        (PROXY, "[2001:db8:1:3::1]:443", "2001:db8:1:3::/64"),
        (PROXY, f" , {CLIENT}, ,", CLIENT),
        (PROXY, "10.0.0.7, 10.0.0.8", "10.0.0.7"),
        ("", CLIENT, ""),
    ],
)
def test_client_is_the_network_that_proxies_name(peer: str, forwarded: str, client: str) -> None:
    assert client_of(peer, *[("X-Forwarded-For", forwarded)][: bool(forwarded)]) == client


@pytest.mark.parametrize(
    "text", ["unknown", "_hidden", "198.51.100.1 x", "for=198.51.100.1", "é", "198.51.100.256", "::g"]
)
def test_what_is_no_address_is_not_believed(text: str) -> None:
    """Otherwise a client behind a proxy that forwards the header could choose a new address for each request."""
    assert client_of(PROXY, ("X-Forwarded-For", text)) == PROXY
    assert client_of(PROXY, ("X-Forwarded-For", f"198.51.100.1, {text}")) == PROXY


def test_untrusted_client_cannot_choose_its_address() -> None:
    for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Client-IP", "True-Client-IP", "CF-Connecting-IP"):
        for value in ("198.51.100.1", "for=198.51.100.1", "127.0.0.1", PROXY):
            assert client_of(CLIENT, (name, value), (name, value)) == CLIENT
            if name != "X-Forwarded-For":
                assert client_of(PROXY, (name, value)) == PROXY


def test_client_behind_a_proxy_cannot_put_addresses_before_its_own() -> None:
    spoofed = [("X-Forwarded-For", f"198.51.100.{number}, 10.0.0.9") for number in range(50)]
    assert client_of(PROXY, *spoofed, ("X-Forwarded-For", CLIENT)) == CLIENT
    assert client_of(PROXY, ("X-Forwarded-For", "198.51.100.1," * 2_000 + CLIENT)) == CLIENT
    assert client_of(PROXY, ("X-Forwarded-For", "," * 30_000)) == PROXY
    assert client_of(PROXY, ("X-Forwarded-For", "9" * 30_000)) == PROXY


def test_only_so_many_proxies_are_followed() -> None:
    hops = [f"10.0.1.{number}" for number in range(100)]
    assert client_of(PROXY, ("X-Forwarded-For", ",".join([CLIENT, *hops]))) == hops[-MAX_PROXIES]
    assert client_of(PROXY, ("X-Forwarded-For", ",".join([CLIENT, *hops[1:MAX_PROXIES]]))) == CLIENT


def test_without_trusted_proxies_no_header_counts() -> None:
    scope = {"client": (PROXY, 1), "headers": [(b"x-forwarded-for", CLIENT.encode())]}
    assert ClientAddresses(()).client_of(scope) == PROXY
