"""The pictures: SVG whose text is text, and which changes only when the figures do."""

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
    """As SVG, without a date."""
    figure.savefig(path, format="svg", metadata={"Date": None}, bbox_inches="tight")


def draw_bench(found: PeerBench, _load: LoadResult, path: Path) -> None:
    """How many answers a second, everyone beside everyone."""
    rows = [row for row in found.rows if row.connections == found.rows[0].connections]
    figure = Figure(figsize=(8, 4.2))
    for axes, title, chosen in zip(
        figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": _heights(rows)}),
        ("without ETag: 200", "if changed: 304"),
        ([row for row in rows if not row.unchanged], [row for row in rows if row.unchanged]),
        strict=True,
    ):
        _bars(axes, chosen)
        axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel(f"answers a second, {rows[0].connections} connections")
    figure.tight_layout()
    save(figure, path)


def _heights(rows: list[PeerResult]) -> list[int]:
    unchanged = sum(row.unchanged for row in rows)
    return [len(rows) - unchanged, unchanged]


def _bars(axes: Axes, rows: list[PeerResult]) -> None:
    colours = [OURS if row.name.startswith("/v1") else PEER for row in rows]
    bars = axes.barh([row.name for row in rows], [row.rate for row in rows], color=colours)
    axes.bar_label(bars, labels=[f"{row.rate:,.0f}" for row in rows], padding=3, fontsize=9)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.12)
    axes.xaxis.set_major_formatter("{x:,.0f}")


def draw_load(_bench: PeerBench, found: LoadResult, path: Path) -> None:
    """The minute of load: how many answers, how late, and how old the rates in them."""
    figure = Figure(figsize=(8, 6))
    rate, late, old = figure.subplots(3, 1, sharex=True)
    at = [second.at for second in found.seconds]
    rate.plot(at, [second.rate for second in found.seconds], color=OURS)
    rate.set_ylabel("requests/s")
    for colour, name in zip(LINES, ("p50", "p95", "p99"), strict=True):
        late.plot(at, [getattr(second, f"{name}_ms") for second in found.seconds], color=colour, label=name)
    late.set_ylabel("answered within, ms")
    late.legend(ncols=3, frameon=False, loc="upper right")
    old.plot([sample.at for sample in found.samples], [sample.age_ms for sample in found.samples], color=OURS)
    old.set_ylabel("age of the rates, ms")
    old.set_xlabel("seconds")
    for axes in (rate, late, old):
        axes.set_ylim(bottom=0)
    figure.align_ylabels()
    figure.tight_layout()
    save(figure, path)


def draw_latency(_bench: PeerBench, found: LoadResult, path: Path) -> None:
    """Within what time which share of the answers came, per kind of kind."""
    figure = Figure(figsize=(8, 3.4))
    axes = figure.subplots()
    for kind in found.request_kinds[:-1]:
        axes.plot(list(kind.percentiles), list(kind.percentiles.values()), marker="o", label=kind.name)
    axes.set_ylabel("answered within, ms")
    axes.set_xlabel("share of the answers")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, loc="upper left")
    figure.tight_layout()
    save(figure, path)


DRAWN: Mapping[str, Callable[[PeerBench, LoadResult, Path], None]] = {
    "bench.svg": draw_bench,
    "load.svg": draw_load,
    "latency.svg": draw_latency,
}
