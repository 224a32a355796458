"""The pictures of the report: SVG with real text, which is the same for the same figures."""

from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loadtest.results import LoadResult, PeerBench, PeerResult

OURS, PEER, LINES = "#1f6feb", "#c3c9d1", ("#1f6feb", "#e3872d", "#c93c37")
mpl.rcParams.update(
    {
        "svg.fonttype": "none",
        "svg.hashsalt": "kurs",
        "font.family": "sans-serif",
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.grid": True,
        "grid.color": "#e6e8eb",
        "figure.facecolor": "white",
    }
)


def save(figure: Figure, path: Path) -> None:
    """Save a figure as SVG without a date."""
    figure.savefig(path, format="svg", metadata={"Date": None}, bbox_inches="tight")


def draw_bench(result: PeerBench, _load: LoadResult, path: Path) -> None:
    """Draw the responses a second of all peers."""
    rows = [row for row in result.rows if row.connections == result.rows[0].connections]
    figure = Figure(figsize=(8, 4.2))
    for axes, title, some_rows in zip(
        figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": _height_ratios(rows)}),
        ("without ETag: 200", "if changed: 304"),
        ([row for row in rows if not row.unchanged], [row for row in rows if row.unchanged]),
        strict=True,
    ):
        _draw_bars(axes, some_rows)
        axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel(f"responses a second, {rows[0].connections} connections")
    figure.tight_layout()
    save(figure, path)


def _height_ratios(rows: list[PeerResult]) -> list[int]:
    unchanged = sum(row.unchanged for row in rows)
    return [len(rows) - unchanged, unchanged]


def _draw_bars(axes: Axes, rows: list[PeerResult]) -> None:
    colours = [OURS if row.name.startswith("/v1") else PEER for row in rows]
    bars = axes.barh([row.name for row in rows], [row.rate for row in rows], color=colours)
    axes.bar_label(bars, labels=[f"{row.rate:,.0f}" for row in rows], padding=3, fontsize=9)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.12)
    axes.xaxis.set_major_formatter("{x:,.0f}")


def draw_load(_bench: PeerBench, result: LoadResult, path: Path) -> None:
    """Draw the minute of load: the rate_axes of responses, their latency, and the age of the rates in them."""
    figure = Figure(figsize=(8, 6))
    rate_axes, latency_axes, age_axes = figure.subplots(3, 1, sharex=True)
    times = [second.at for second in result.seconds]
    rate_axes.plot(times, [second.rate for second in result.seconds], color=OURS)
    rate_axes.set_ylabel("requests/s")
    for colour, name in zip(LINES, ("p50", "p95", "p99"), strict=True):
        latency_axes.plot(times, [getattr(second, f"{name}_ms") for second in result.seconds], color=colour, label=name)
    latency_axes.set_ylabel("response time, ms")
    latency_axes.legend(ncols=3, frameon=False, loc="upper right")
    age_axes.plot([sample.at for sample in result.samples], [sample.age_ms for sample in result.samples], color=OURS)
    age_axes.set_ylabel("age of the rates, ms")
    age_axes.set_xlabel("seconds")
    for axes in (rate_axes, latency_axes, age_axes):
        axes.set_ylim(bottom=0)
    figure.align_ylabels()
    figure.tight_layout()
    save(figure, path)


def draw_latency(_bench: PeerBench, result: LoadResult, path: Path) -> None:
    """Draw the distribution of the response times of each kind of request."""
    figure = Figure(figsize=(8, 3.4))
    axes = figure.subplots()
    for kind in result.request_kinds[:-1]:
        axes.plot(list(kind.percentiles), list(kind.percentiles.values()), marker="o", label=kind.name)
    axes.set_ylabel("response time, ms")
    axes.set_xlabel("share of the responses")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, loc="upper left")
    figure.tight_layout()
    save(figure, path)


DRAWN: Mapping[str, Callable[[PeerBench, LoadResult, Path], None]] = {
    "bench.svg": draw_bench,
    "load.svg": draw_load,
    "latency.svg": draw_latency,
}
