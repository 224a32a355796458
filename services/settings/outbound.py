"""Settings of connections to other machines: proxies and certificate authorities."""

from pydantic import AliasChoices, BaseModel, Field, SecretStr, field_validator

from services.core.proxies import parse_proxy
from services.settings.parsing import unprefixed


class OutboundSettings(BaseModel):
    """Proxies and certificate authorities, by the names that other programs use."""

    https_proxy: SecretStr = Field(
        SecretStr(""),
        validation_alias=unprefixed("HTTPS_PROXY"),
        description="The proxy to the exchanges: http, https, socks4(a) or socks5(h)://user:password@host:port",
    )
    http_proxy: SecretStr = Field(
        SecretStr(""), validation_alias=unprefixed("HTTP_PROXY"), description="The proxy to addresses without TLS"
    )
    all_proxy: SecretStr = Field(
        SecretStr(""), validation_alias=unprefixed("ALL_PROXY"), description="The proxy where the other two are empty"
    )
    no_proxy: str = Field(
        "",
        validation_alias=unprefixed("NO_PROXY"),
        description="What is reached without a proxy: names with all names below them, addresses, networks; a "
        "comma list",
    )
    ssl_cert_file: str = Field(
        "",
        validation_alias=AliasChoices("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        description="The certificate authorities that are trusted instead of the system's, in a PEM file; or",
    )
    ssl_cert_dir: str = Field("", validation_alias=unprefixed("SSL_CERT_DIR"), description="in a folder")

    @field_validator("https_proxy", "http_proxy", "all_proxy")
    @classmethod
    def _check_proxy(cls, value: SecretStr) -> SecretStr:
        parse_proxy(value.get_secret_value())
        return value
