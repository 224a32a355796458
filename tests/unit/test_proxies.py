"""Which connections go through a proxy, for every form of the environment variables."""

import ssl
from pathlib import Path

import httpx
import pytest

from services.core.errors import Misconfigured
from services.core.proxies import Proxies, parse_exemptions, parse_proxy
from services.outbound import failure_text, proxy_for, tls_context, websocket_options
from services.settings import load

PROXY = "http://proxy.example:3128"
PASSWORD = "hunter2-very-secret"


@pytest.fixture(autouse=True)
def _without_proxy_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://proxy.example:3128", "http://proxy.example:3128"),
        ("proxy.example:3128", "http://proxy.example:3128"),
        ("proxy.example", "http://proxy.example:80"),
        ("HTTPS://Proxy.Example/", "https://proxy.example:443"),
        ("socks5://proxy.example", "socks5://proxy.example:1080"),
        ("socks5h://[::1]:9050", "socks5h://[::1]:9050"),
        ("socks4a://10.0.0.1", "socks4a://10.0.0.1:1080"),
        ("socks://127.0.0.1:7891/", "socks5://127.0.0.1:7891"),
        ("http://user:p%40ss%2Fw@proxy.example:3128", "http://user:p%40ss%2Fw@proxy.example:3128"),
        ("http://user:p@ss@proxy.example:3128", "http://user:p%40ss@proxy.example:3128"),
        ("http://user@proxy.example:3128", "http://user:@proxy.example:3128"),
        ("http://bücher.example:3128", "http://xn--bcher-kva.example:3128"),
        ("  http://proxy.example:3128 ", "http://proxy.example:3128"),
        ("", None),
    ],
)
def test_proxy_setting_is_parsed(text: str, url: str | None) -> None:
    proxy = parse_proxy(text)
    assert (proxy.url if proxy else None) == url


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (f"ftp://kurs:{PASSWORD}@proxy.example", "http://, https://, socks4://, socks4a://, socks5://, socks5h://"),
        (f"http://kurs:{PASSWORD}/1@proxy.example", "%2F for /"),
        (f"http://kurs:{PASSWORD}#1@proxy.example", "%23 for #"),
        ("http://", "write http://user:password@proxy.example:3128"),
        ("http://proxy.example/path", "write http://user"),
        ("http://[::1", "write http://user"),
        ("http://proxy.example:eight", "write http://user"),
    ],
)
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "http_proxy", "ALL_PROXY"])
def test_invalid_proxy_setting_is_refused_without_its_password(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, part: str
) -> None:
    monkeypatch.setenv(name, text)
    with pytest.raises(Misconfigured) as refused:
        load()
    assert str(refused.value).startswith(f"{name.upper()}: ")
    assert part in str(refused.value)
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize(
    ("env", "http", "https"),
    [
        ({"HTTPS_PROXY": "a"}, None, "a"),
        ({"HTTP_PROXY": "a"}, "a", None),
        ({"ALL_PROXY": "a"}, "a", "a"),
        ({"all_proxy": "a", "https_proxy": "b"}, "a", "b"),
        ({"HTTPS_PROXY": "a", "https_proxy": "b"}, None, "b"),
        ({"https_proxy": "b", "HTTPS_PROXY": "a"}, None, "b"),
        ({"HTTPS_PROXY": "a", "https_proxy": ""}, None, None),
        ({"HTTPS_PROXY": "a", "no_proxy": "*"}, None, None),
        ({"HTTPS_PROXY": "a", "NO_PROXY": "*", "no_proxy": "other.example"}, None, "a"),
    ],
)
def test_http_and_websocket_use_the_same_proxy(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], http: str | None, https: str | None
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, (value and not name.lower().startswith("no") and f"{value}.example:1") or value)
    settings = load()
    for scheme, expected in (("http", http), ("ws", http), ("https", https), ("wss", https)):
        url = f"{scheme}://stream.exchange.example/ws"
        proxy = proxy_for(settings, url)
        assert (proxy and proxy.host) == (expected and f"{expected}.example")
        assert websocket_options(settings, url)["proxy"] == (proxy and proxy.url)


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("exchange.example", "https://exchange.example", True),
        ("exchange.example", "https://api.exchange.example", True),
        ("exchange.example", "https://myexchange.example", False),
        (".exchange.example", "https://api.exchange.example", True),
        (".exchange.example", "https://exchange.example", True),
        ("*.exchange.example", "https://api.exchange.example", True),
        ("EXCHANGE.example.", "wss://api.Exchange.EXAMPLE.", True),
        ("api?.exchange.example", "https://api3.exchange.example", True),
        ("exchange.example:443", "https://exchange.example", True),
        ("exchange.example:443", "wss://exchange.example:9443", False),
        ("exchange.example:9443", "wss://exchange.example:9443", True),
        ("https://exchange.example/", "https://exchange.example", True),
        ("bücher.example", "https://xn--bcher-kva.example", True),
        ("xn--bcher-kva.example", "https://bücher.example", True),
        ("*", "https://exchange.example", True),
        ("*", "https://192.0.2.1", True),
        ("a.example, ,,exchange.example ,", "https://exchange.example", True),
        ("a.example exchange.example", "https://exchange.example", True),
        ("192.0.2.1", "https://192.0.2.1", True),
        ("192.0.2.1:8443", "https://192.0.2.1", False),
        ("192.0.2.1:8443", "https://192.0.2.1:8443", True),
        ("192.0.2.0/24", "https://192.0.2.99", True),
        ("192.0.2.7/24", "https://192.0.2.99", True),
        ("192.0.2.0/24", "https://192.0.3.99", False),
        ("192.0.2.*", "https://192.0.2.99", True),
        ("2.1", "https://192.0.2.1", False),
        ("192.0.2.0/24", "https://[::ffff:192.0.2.99]", True),
        ("2001:db8::1", "https://[2001:DB8:0::1]", True),
        ("[2001:db8::1]", "https://[2001:db8::1]", True),
        ("[2001:db8::1]:443", "https://[2001:db8::1]", True),
        ("[2001:db8::1]:444", "https://[2001:db8::1]", False),
        ("2001:db8::/32", "https://[2001:db8::1]", True),
        ("[2001:db8::]/32", "https://[2001:db8::1]", True),
        ("2001:db8::/33", "https://[2001:db9::1]", False),
        ("192.0.2.0/99, [, ], :, ::, [::1, .., %, http://, a:b:c, <local>", "https://exchange.example", False),
        ("", "https://exchange.example", False),
        ("", "http://localhost:8000", True),
        ("", "https://app.localhost", True),
        ("", "http://127.0.0.1:8000", True),
        ("", "ws://127.8.9.10:8000", True),
        ("", "http://[::1]:8000", True),
        ("", "http://[::ffff:127.0.0.1]:8000", True),
        ("", "http://0.0.0.0:8000", True),
        ("", "http://simulator:8000", True),
        ("", "http://10.0.0.1:8000", False),
    ],
)
def test_addresses_in_no_proxy_are_reached_directly(no_proxy: str, url: str, direct: bool) -> None:
    scheme, _, rest = url.partition("://")
    host, port = (rest, "") if rest.endswith("]") or ":" not in rest else rest.rsplit(":", 1)
    proxies = Proxies(parse_proxy(PROXY), parse_proxy(PROXY), parse_exemptions(no_proxy))
    assert (proxies.choose(scheme, host, int(port) if port else None) is None) == direct


def test_own_address_is_reached_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5h://proxy.example")
    for host, url in (
        ("192.0.2.7", "http://192.0.2.7:8000"),
        ("[2001:db8::7]", "http://[2001:db8::7]:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
    ):
        monkeypatch.setenv("KURS_HOST", host)
        settings = load()
        assert settings.own_url(8000) == url
        assert proxy_for(settings, url) is None
        assert proxy_for(settings, "http://192.0.2.8") is not None


def test_proxy_password_is_in_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"kurs:{PASSWORD}%2F1@proxy.example")
    settings = load()
    proxy = proxy_for(settings, "https://exchange.example")
    assert str(proxy) == "http://proxy.example:80"
    assert PASSWORD not in f"{proxy!r} {settings!r} {settings.proxies!r}"
    assert {f"{PASSWORD}%2F1", f"{PASSWORD}/1"} <= set(settings.secrets)


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_DIR"])
@pytest.mark.parametrize(("path", "part"), [("nowhere.pem", "No such file"), ("empty.pem", "no certificate")])
def test_unreadable_ca_certificates_are_refused_with_the_settings_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, path: str, part: str
) -> None:
    (tmp_path / "empty.pem").write_text("nothing\n")
    monkeypatch.setenv(name, path)
    with pytest.raises(Misconfigured, match=rf"^{name}: {path}: .*{part}"):
        tls_context(load())


@pytest.mark.parametrize(
    ("code", "message", "remedy"),
    [
        (19, "self-signed certificate in certificate chain", "SSL_CERT_FILE"),
        (20, "unable to get local issuer certificate", "SSL_CERT_FILE"),
        (10, "certificate has expired", "check this machine's clock"),
        (62, "Hostname mismatch", "another server responds in its place"),
    ],
)
def test_failure_text_of_a_rejected_certificate_says_what_to_do(code: int, message: str, remedy: str) -> None:
    refused = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] (_ssl.c:1006)")
    refused.verify_code, refused.verify_message = code, message
    error = httpx.ConnectError("an uninformative text")
    error.__cause__ = refused
    assert failure_text(error, None) == failure_text(refused, None)
    assert failure_text(error, None).startswith(f"its certificate cannot be verified: {message}: ")
    assert remedy in failure_text(error, None)
    assert failure_text(error, parse_proxy(PROXY)).endswith(f" (through the proxy {PROXY})")


def test_proxies_are_read_from_the_env_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"https_proxy=socks5h://kurs:{PASSWORD}@proxy.example\nNO_PROXY=.near.example\n")
    settings = load()
    assert str(proxy_for(settings, "https://exchange.example")) == "socks5h://proxy.example:1080"
    assert proxy_for(settings, "https://a.near.example") is None
