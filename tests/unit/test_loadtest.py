"""The output of load generators is parsed, and the report contains it."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from loadtest import bench, bench_first, load, report, results, rounds, wrk
from loadtest.rate_probe import longest_unchanged
from loadtest.results import (
    FanoutResult,
    FigureBench,
    LoadResult,
    MachineInfo,
    PeerBench,
    PeerResult,
    RateProbeSample,
    StreamBench,
    Target,
)

STATS = """Type,Name,Request Count,Failure Count,Requests/s,50%,75%,90%,95%,99%,99.9%,100%
GET,/v1/courses,600,2,300.04,3,4,6,9,21,33,40
,Aggregated,600,2,300.04,3,4,6,9,21,33,40
"""
HISTORY = """Timestamp,Name,Total Request Count,Total Failure Count,50%,95%,99%
100,Aggregated,0,0,N/A,N/A,N/A
101,Aggregated,100,0,3,9,21
101,/v1/courses,100,0,3,9,21
102,Aggregated,400,2,4,10,22
"""
MACHINE = MachineInfo("2026-11-20", 2, "Linux x86_64", {"Python": "3.11.7"})


def bench_result() -> PeerBench:
    names = ("nginx, static file", "bare ASGI callable", "/v1/courses")
    rows = [PeerResult(name, unchanged, 64, [40_000], 40_000, 1, 3, 0) for unchanged in (False, True) for name in names]
    targets = [Target(name, 0.95, at_least=0.9) for name in ("direct", "direct 304", "through", "through 304")]
    return PeerBench(MACHINE, rows, targets)


def load_result(folder: Path) -> LoadResult:
    (folder / "run_stats.csv").write_text(STATS)
    (folder / "run_stats_history.csv").write_text(HISTORY)
    request_kinds, seconds = list(load.request_kinds(folder / "run")), list(load.load_seconds(folder / "run"))
    samples = [RateProbeSample(0.2, 700, '"a"'), RateProbeSample(0.4, 900, '"a"'), RateProbeSample(0.6, 300, '"b"')]
    return LoadResult(MACHINE, request_kinds, seconds, samples, load.load_targets(request_kinds[-1]))


def test_locusts_files_are_parsed_to_figures_and_targets(tmp_path: Path) -> None:
    found = load_result(tmp_path)
    assert [kind.name for kind in found.request_kinds] == ["/v1/courses", "Aggregated"]
    assert found.request_kinds[-1].percentiles["99%"] == 21
    (second,) = found.seconds
    assert (second.at, second.rate, second.failures, second.p99_ms) == (1, 300, 2, 22)
    assert [target.reached for target in found.targets] == [False, False, True]
    assert longest_unchanged(found.samples) == 0.2


def test_wrks_last_line_is_parsed_and_a_remote_host_is_refused() -> None:
    line = '{"requests":80000,"seconds":2.0,"p50_ms":1.5,"p99_ms":2.9,"statuses":0,"sockets":3}'
    assert wrk.parse_output(f"Running 2s test\n{line}\n").rate == 40_000
    with pytest.raises(msgspec.MsgspecError):
        wrk.parse_output("unable to connect")
    with pytest.raises(ValueError, match=r"127\.0\.0\.1 only"):
        wrk.measure("http://example.com/", 1, 1)


def test_report_of_equal_figures_is_the_same_byte_for_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert report.main(tmp_path, tmp_path / "none") == 2
    monkeypatch.setattr(results, "RESULTS_FOLDER", tmp_path)
    for name in ("courses", "charts"):
        assert results.save_and_exit_code(name, bench_result()) == 0
    for name in ("candles", "ticks", "indicators", "first"):
        assert (
            results.save_and_exit_code(
                name, FigureBench(MACHINE, {"save, new": 81_234.5}, [Target("of COPY", 0.5, at_least=0.85)])
            )
            == 1
        )
    fanout = FanoutResult("Kurs", 5_000, 0, 20, 50.5, 60, 12, 23.4, 1)
    assert (
        results.save_and_exit_code(
            "streams", StreamBench(MACHINE, [fanout], [Target("p99, of ws", 0.9, at_most=1)], [])
        )
        == 0
    )
    results.save_result("load", load_result(tmp_path))
    docs = [tmp_path / "first", tmp_path / "second"]
    for folder in docs:
        assert report.main(tmp_path, folder) == 0
    page = (docs[0] / "performance.md").read_text()
    assert "| /v1/courses, 304 | 64 | 40,000 | 1 | 3 | 0 |" in page
    assert "MISSED   failures: 2 (at most 0)" in page
    assert page.count("| save, new | 81,234.50 |") == page.count("MISSED   of COPY: 0.5 (at least 0.85)") == 4
    assert "| Kurs | 5,000 | 20.0 | 50.5 | 60.0 | 12.0 | 23.4 | 100% |" in page
    assert "$" not in page
    for name in ("performance.md", "pictures/bench.svg", "pictures/load.svg", "pictures/latency.svg"):
        assert (docs[0] / name).read_bytes() == (docs[1] / name).read_bytes()


def test_benchmark_runs_the_named_parts_in_turn_and_exits_with_the_worst_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ran = list[str]()

    def part(name: str, code: int) -> Callable[[], int]:
        return lambda: ran.append(name) or code  # type: ignore[func-returns-value]

    parts = {"good": part("good", 0), "slow": part("slow", 1), "quick": part("quick", 0)}
    assert bench.main([], parts) == 1
    assert ran == list(parts)
    assert bench.main(["good", "quick"], parts) == 0
    assert bench.main(["god"], parts) == 2
    assert "there are: good, slow, quick" in capsys.readouterr().err
    assert ran == [*parts, "good", "quick"]
    assert rounds.ratio(bench_result().rows, "/v1/courses", "nginx, static file") == 1


def test_target_of_the_first_minute_is_missed_without_a_figure() -> None:
    figures = {"a thousand hours, s, alone": 8.0, "all history, s, alone": 41.0, "longest stall, ms, alone": 30.0}
    met = {target.name: target.reached for target in bench_first.make_targets(figures)}
    assert met.pop("a thousand hours with a fifth of a core, s") is False, "it has no figure because it never ended"
    assert all(met.values())
    assert not bench_first.is_loaded(None)
    complete, part = {"history": {"expected": 9, "missing": 0}}, {"history": {"expected": 9, "missing": 1}}
    assert bench_first.is_loaded({"exchanges": [complete, complete]})
    assert not bench_first.is_loaded({"exchanges": [complete, part]})
    assert not bench_first.is_loaded({"exchanges": [complete, {"history": None}]})
