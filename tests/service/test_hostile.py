"""Hostile clients beside an honest one, which is served without delay. The hostile ones leave nothing behind."""

import asyncio
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx

from services.adapters import sql
from services.core.timeframes import MINUTE_MS
from tests.api import ServedReplica, candle, connect_client, serve_replica, store_factory
from tests.stream_messages import BTC, rate
from tests.waiting import eventually

ATTACK_SECONDS = float(os.environ.get("KURS_HOSTILE_SECONDS", "15"))
SEED = os.environ.get("KURS_HOSTILE_SEED", "5")
MAX_STALL_SECONDS = 1.0  # of CPU time between two turns of the loop, so that other processes do not count
MAX_BLOCKED_SECONDS = 15.0  # between two turns of the loop, on a busy machine
MAX_RESPONSE_SECONDS = 15.0  # on a busy machine
MAX_GROWTH_BYTES = 150_000_000
STORED_CANDLES = 5_000  # minutes


async def test_attacks_delay_no_other_client_and_leave_no_memory(tmp_path: Path) -> None:
    async with store_factory(tmp_path) as stores:
        store = await stores()
        now = time.time_ns() // 1_000_000 // MINUTE_MS * MINUTE_MS
        await store.save(*(candle(now - number * MINUTE_MS) for number in range(STORED_CANDLES)))
        async with serve_replica(store=store, stream_address_connections=10) as replica:
            await replica.publish(rate(BTC, "1"))
            await _attack_replica(replica, store)


async def _attack_replica(replica: ServedReplica, store: sql.SqlStore) -> None:
    await eventually(lambda: replica.deps.hub.rates)
    async with httpx.AsyncClient() as http:
        for path in ("/v1/courses?direction=BTC-USD", "/openapi.json", "/api/symbols"):
            (await http.get(f"http://{replica.address}{path}")).raise_for_status()
    tasks, memory = len(asyncio.all_tasks()), _resident_bytes()
    stalls = asyncio.create_task(_measure_stalls())
    honest = asyncio.create_task(_honest_client(replica))
    attackers = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "loadtest.hostile.attacks",
            str(ATTACK_SECONDS),
            SEED,
            replica.address.partition(":")[2],
        ),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(ATTACK_SECONDS + 60):
            (attacks, _) = await attackers.communicate()
    finally:
        with suppress(ProcessLookupError):
            attackers.kill()
        for task in (stalls, honest):
            task.cancel()
    worked, late = (await asyncio.gather(stalls, honest))[0]
    slowest, answers = honest.result()
    assert int(attacks) > ATTACK_SECONDS, "hardly anything was attacked"
    assert answers > ATTACK_SECONDS
    assert worked < MAX_STALL_SECONDS, f"the loop worked on one thing for {worked:.2f} s"
    assert late < MAX_BLOCKED_SECONDS, f"the loop stalled for {late:.2f} s"
    assert slowest < MAX_RESPONSE_SECONDS, f"a response took {slowest:.2f} s"
    await eventually(lambda: not replica.stream_clients and len(asyncio.all_tasks()) <= tasks, 60)
    assert _resident_bytes() - memory < MAX_GROWTH_BYTES
    async with connect_client(replica) as client:
        await client.next("welcome")


def _resident_bytes() -> int:
    """Return the bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def _measure_stalls() -> tuple[float, float]:
    """Until cancelled, measure the most seconds that the loop computed and was late between two turns."""
    worked, late, loop = 0.0, 0.0, asyncio.get_running_loop()
    with suppress(asyncio.CancelledError):
        while True:
            due, used = loop.time() + 0.01, time.thread_time()
            await asyncio.sleep(0.01)
            worked, late = max(worked, time.thread_time() - used), max(late, loop.time() - due)
    return worked, late


async def _honest_client(replica: ServedReplica) -> tuple[float, int]:
    """Until cancelled, send ten requests a second and follow a rate. Return the slowest response and their number."""
    slowest, count = 0.0, 0
    async with httpx.AsyncClient(timeout=20) as http, connect_client(replica) as client:
        await client.send(action="subscribe", channels=["btc_usd"])
        await client.next("snapshot")
        with suppress(asyncio.CancelledError):
            while True:
                started = time.monotonic()
                await replica.publish(rate(BTC, str(count + 2)))
                assert (await client.next("courses_update"))["data"]["value"] == str(count + 2)
                (await http.get(f"http://{replica.address}/v1/courses?direction=BTC-USD")).raise_for_status()
                slowest, count = max(slowest, time.monotonic() - started), count + 1
                await asyncio.sleep(0.1)
    return slowest, count
