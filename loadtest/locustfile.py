"""The requests of clients: the rates, the rates if they changed, some of them, and v2.

An answer whose rates are older than five seconds is a failure, whatever its status.
"""

import time

from locust import FastHttpUser, constant_throughput, task
from locust.contrib.fasthttp import ResponseContextManager
from locust.exception import ResponseError

from loadtest.results import MAX_RATE_AGE_MS

REQUESTS_PER_SECOND = 20  # requests a second of one user: an open model while answers are quick
FILTERS = ("direction=BTC-USD", "direction=BTC-USD,ETH-RUB", "base=BTC", "quote=RUB", "exchanger=binance")


class RatesUser(FastHttpUser):
    """A client that keeps a connection open and remembers the last ETag."""

    wait_time = constant_throughput(REQUESTS_PER_SECOND)
    tag = ""
    turn = 0

    @task(4)
    def rates(self) -> None:
        """The rates."""
        self._ask("/v1/courses", "/v1/courses", {})

    @task(4)
    def rates_if_changed(self) -> None:
        """The rates if they are others than last time. What has changed and what has not are counted apart."""
        with self._send_request("/v1/courses", {"If-None-Match": self.tag or '"none"'}) as answer:
            answer.request_meta["name"] = f"/v1/courses if changed: {answer.status_code}"
            self.tag = header(answer, "etag")
            fail_if_stale(answer)

    @task(1)
    def some_rates(self) -> None:
        """Some of them."""
        self.turn = (self.turn + 1) % len(FILTERS)
        self._ask(f"/v1/courses?{FILTERS[self.turn]}", "/v1/courses?…", {})

    @task(1)
    def rates_v2(self) -> None:
        """With age and origin."""
        self._ask("/v2/courses", "/v2/courses", {})

    def _ask(self, url: str, name: str, headers: dict[str, str]) -> None:
        with self._send_request(url, headers) as answer:
            answer.request_meta["name"] = name
            fail_if_stale(answer)

    def _send_request(self, url: str, headers: dict[str, str]) -> ResponseContextManager:
        return self.client.get(url, headers=headers, catch_response=True)


def fail_if_stale(answer: ResponseContextManager) -> None:
    """Fail what is old; locust itself fails what is an error. Raises ResponseError."""
    if (
        answer.status_code in (200, 304)
        and time.time() * 1000 - int(header(answer, "kurs-as-of") or 0) > MAX_RATE_AGE_MS
    ):
        raise ResponseError("rates older than 5 s")


def header(answer: ResponseContextManager, name: str) -> str:
    """Empty where there was no answer."""
    headers = answer.headers
    return str(headers[name]) if headers and name in headers else ""
