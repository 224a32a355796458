"""A thousand people sign in at once and go on trying: what that costs a client that requests rates.

The crowd is a process of its own, so that its work delays no measurement: `python -m loadtest.sign_in_crowd HOST PORT`.
"""

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from loadtest.results import Target

CROWD = 1_000
CALM_SECONDS, CROWDED_SECONDS = 5, 15
PROBE_SECONDS = 0.01
MAX_P99_MS = 50
ROOT = Path(__file__).parents[1]
# The crowd has as many addresses, as one proxy says, and as many names.
CROWD_SETTINGS = {"KURS_SIGN_IN_RATE_LIMIT": "0", "KURS_TRUSTED_PROXIES": "127.0.0.1"}


def sign_in_targets(replica: str) -> list[Target]:
    """What a replica's rates cost before the crowd comes, and while it is there."""
    url = f"{replica}/v1/courses"
    calm = p99_ms(url, CALM_SECONDS)
    with crowd(replica):
        crowded, hashed = p99_ms(url, CROWDED_SECONDS), hashes(replica)
    print(f"sign-ins: 99 % of the rates within {calm} ms before, {crowded} ms while {CROWD} sign in", file=sys.stderr)
    return [
        Target(f"99 % of the rates while {CROWD:,} sign in, ms", crowded, at_most=MAX_P99_MS),
        Target("passwords hashed meanwhile", hashed, at_least=1),
    ]


def p99_ms(url: str, seconds: float) -> float:
    """Request rates one after the other for so many seconds. Raises HTTPError when one fails."""
    taken, end = list[float](), time.monotonic() + seconds
    with httpx.Client(timeout=10) as client:
        while time.monotonic() < end:
            began = time.perf_counter()
            client.get(url).raise_for_status()
            taken.append((time.perf_counter() - began) * 1000)
            time.sleep(PROBE_SECONDS)
    return round(sorted(taken)[int(len(taken) * 0.99)], 1)


def hashes(replica: str) -> float:
    """How many passwords a replica has hashed since its start."""
    lines = httpx.get(f"{replica}/metrics", timeout=60).text.splitlines()
    return next((float(line.split()[1]) for line in lines if line.startswith("kurs_password_hash_seconds_count")), 0)


@contextmanager
def crowd(replica: str) -> Iterator[None]:
    """Let the crowd sign in until the block ends."""
    where = urlsplit(replica)
    command = [sys.executable, "-m", "loadtest.sign_in_crowd", str(where.hostname), str(where.port)]
    running = subprocess.Popen(command, cwd=ROOT)  # noqa: S603  our own program
    try:
        before = hashes(replica)
        while hashes(replica) == before:
            time.sleep(0.1)
        time.sleep(CALM_SECONDS)  # until all have connected, and wait for their turn or as long as they were bidden
        yield
    finally:
        running.terminate()
        running.wait()


async def sign_in_again_and_again(host: str, port: int, number: int) -> None:
    """Send wrong passwords of one person from one address. Wait as long as a response says."""
    body = b'{"name":"person%d","password":"wrong horse, wrong battery"}' % number
    head = (
        f"POST /v1/sign-in HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-For: 10.0.{number // 256}.{number % 256}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    while True:
        with suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection(host, port)
            while True:
                writer.write(head.encode() + body)
                answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                fields = dict(line.split(": ", 1) for line in answer.splitlines()[1:] if ": " in line)
                await reader.readexactly(int(fields["content-length"]))
                await asyncio.sleep(float(fields.get("retry-after", 0)) + random.random())
        await asyncio.sleep(1)


async def main(host: str, port: int) -> None:
    """Run the crowd until it is ended."""
    await asyncio.gather(*(sign_in_again_and_again(host, port, number) for number in range(CROWD)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
