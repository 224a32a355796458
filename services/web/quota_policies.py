"""Quota policies: which requests are counted together, as those of what, and by which setting.

An endpoint names its policy (`Endpoint(limit=SIGN_IN, …)`). Headers and errors name it to clients, and the description
of the API and docs/limits.md are made from these values.
"""

from dataclasses import dataclass
from enum import StrEnum

from services.settings import Settings
from services.settings.sources import environment_name


class Subject(StrEnum):
    """What a policy counts the requests of."""

    ADDRESS = "address"  # IPv4, or the /64 of an IPv6 address
    PERSON = "person"


@dataclass(frozen=True, kw_only=True)
class QuotaPolicy:
    """The requests that are counted together.

    `setting`: the field of `Settings` with the number a minute. `strict`: all replicas decide together before the
    request is served, and failed requests make the next one wait; otherwise a replica decides at once and the replicas
    add up their counts twice a second.
    """

    name: str
    setting: str
    covers: str
    subject: Subject = Subject.ADDRESS
    strict: bool = False

    def limit(self, settings: Settings) -> int:
        """Return how many requests a minute are allowed; 0: any number."""
        return int(getattr(settings, self.setting))

    @property
    def variable(self) -> str:
        """The environment variable of its setting."""
        return environment_name(self.setting, Settings)

    @property
    def default(self) -> int:
        """The number a minute where its setting is not set."""
        return int(Settings.model_fields[self.setting].default)


API = QuotaPolicy(
    name="api",
    setting="api_rate_limit",
    covers="`/api/…`, and the same under `/v1`: candles, indicators, analysis, symbols; "
    "`/v1/instruments`, `/v1/tickers`",
)
COURSES = QuotaPolicy(
    name="courses",
    setting="courses_rate_limit",
    covers="`/v1/courses`, `/courses`, `/v2/courses`, `/v1/directions`, `/v1/exchanges`",
)
UDF = QuotaPolicy(name="udf", setting="udf_rate_limit", covers="`/udf/…`")
STREAMS = QuotaPolicy(
    name="streams",
    setting="stream_rate_limit",
    covers="opening `/v1/stream` or `/ws/chart-data`; `/v1/stream/history`",
)
PAGES = QuotaPolicy(
    name="pages",
    setting="page_rate_limit",
    covers="`/docs`, `/openapi.json`, `/.well-known/jwks.json`, files of pages, and paths that do not exist",
)
PERSON = QuotaPolicy(
    name="person",
    setting="person_rate_limit",
    subject=Subject.PERSON,
    covers="endpoints for people, and with a valid token all of the above that have a limit",
)
SIGN_IN = QuotaPolicy(name="sign-in", setting="sign_in_rate_limit", strict=True, covers="signing in")
PASSWORD = QuotaPolicy(
    name="password",
    setting="sign_in_rate_limit",
    subject=Subject.PERSON,
    strict=True,
    covers="confirming the password: to change it, to delete oneself",
)
REGISTRATION = QuotaPolicy(name="registration", setting="registration_rate_limit", strict=True, covers="registration")
REFRESH = QuotaPolicy(name="refresh", setting="refresh_rate_limit", strict=True, covers="renewing a sign-in")
TICKETS = QuotaPolicy(
    name="tickets", setting="ticket_rate_limit", subject=Subject.PERSON, strict=True, covers="getting a stream ticket"
)
UNAUTHENTICATED = QuotaPolicy(
    name="unauthenticated",
    setting="unauthenticated_rate_limit",
    covers="requests with a token that is not valid, or without the one that they need",
)
POLICIES = (
    *(API, COURSES, UDF, STREAMS, PAGES),
    *(PERSON, SIGN_IN, PASSWORD, REGISTRATION, REFRESH, TICKETS, UNAUTHENTICATED),
)


def policy_table() -> str:
    """Return a table of all policies, in Markdown."""
    rows = [f"| `{each.name}` | {_limit(each)} | {each.subject.value} | {each.covers} |" for each in POLICIES]
    return "\n".join(["| policy | requests a minute | of one | for |", "| --- | --- | --- | --- |", *rows])


def _limit(policy: QuotaPolicy) -> str:
    return f"`{policy.variable}`: {policy.default or 'no limit'}"
