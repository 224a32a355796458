"""The requests of the load test: all rates, rates with an ETag, filtered rates, and v2.

A response whose rates are older than five seconds is a failure, whatever its status.
"""

import time

from locust import FastHttpUser, constant_throughput, task
from locust.contrib.fasthttp import ResponseContextManager
from locust.exception import ResponseError

from loadtest.results import MAX_RATE_AGE_MS

REQUESTS_PER_SECOND = 20  # of one user; the arrival rate is constant while responses are fast
FILTERS = ("direction=BTC-USD", "direction=BTC-USD,ETH-RUB", "base=BTC", "quote=RUB", "exchanger=binance")


class RatesUser(FastHttpUser):
    """A client that keeps a connection open and remembers the last ETag."""

    wait_time = constant_throughput(REQUESTS_PER_SECOND)
    etag = ""
    turn = 0

    @task(4)
    def rates(self) -> None:
        """Request all rates."""
        self._request_rates("/v1/courses", "/v1/courses", {})

    @task(4)
    def rates_if_changed(self) -> None:
        """Request the rates with the last ETag. Responses 200 and 304 are counted separately."""
        with self._send_request("/v1/courses", {"If-None-Match": self.etag or '"none"'}) as response:
            response.request_meta["name"] = f"/v1/courses if changed: {response.status_code}"
            self.etag = header(response, "etag")
            fail_if_stale(response)

    @task(1)
    def some_rates(self) -> None:
        """Request filtered rates."""
        self.turn = (self.turn + 1) % len(FILTERS)
        self._request_rates(f"/v1/courses?{FILTERS[self.turn]}", "/v1/courses?…", {})

    @task(1)
    def rates_v2(self) -> None:
        """Request the rates of v2."""
        self._request_rates("/v2/courses", "/v2/courses", {})

    def _request_rates(self, url: str, name: str, headers: dict[str, str]) -> None:
        with self._send_request(url, headers) as response:
            response.request_meta["name"] = name
            fail_if_stale(response)

    def _send_request(self, url: str, headers: dict[str, str]) -> ResponseContextManager:
        return self.client.get(url, headers=headers, catch_response=True)


def fail_if_stale(response: ResponseContextManager) -> None:
    """Count a response with old rates as failed; locust itself counts errors. Raises ResponseError."""
    if (
        response.status_code in (200, 304)
        and time.time() * 1000 - int(header(response, "kurs-as-of") or 0) > MAX_RATE_AGE_MS
    ):
        raise ResponseError("rates older than 5 s")


def header(response: ResponseContextManager, name: str) -> str:
    """Return a header, or "" without a response."""
    headers = response.headers
    return str(headers[name]) if headers and name in headers else ""
