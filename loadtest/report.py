"""Pictures and a page from the last `make bench` and `make load`: docs/pictures/, docs/performance.md.

python -m loadtest.report
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

import msgspec

from loadtest import pictures
from loadtest.results import RESULTS_FOLDER, FigureBench, LoadResult, MachineInfo, PeerBench, StreamBench, Target

DOCS = Path(__file__).parents[1] / "docs"
PAGE = Path(__file__).with_name("performance.md")
KINDS = {  # that are on the page
    "courses": PeerBench,
    "charts": PeerBench,
    "candles": FigureBench,
    "ticks": FigureBench,
    "indicators": FigureBench,
    "streams": StreamBench,
    "first": FigureBench,
    "load": LoadResult,
}


def main(results: Path = RESULTS_FOLDER, docs: Path = DOCS) -> int:
    """Draw and write."""
    try:
        found = {name: _read(results / f"{name}.json", kind) for name, kind in KINDS.items()}
    except FileNotFoundError as missing:
        print(f"{missing.filename} is not there: run make bench and make load first", file=sys.stderr)
        return 2
    (docs / "pictures").mkdir(parents=True, exist_ok=True)
    for name, draw in pictures.DRAWN.items():
        draw(found["courses"], found["load"], docs / "pictures" / name)
    (docs / "performance.md").write_text(page(found))
    return 0


def _read(path: Path, kind: Any) -> Any:
    return msgspec.json.decode(path.read_bytes(), type=kind)


def page(found: Mapping[str, Any]) -> str:
    """The page, figures filled in."""
    load: LoadResult = found["load"]
    bench, everything = found["courses"], load.request_kinds[-1]
    parts = {name: part for name, part in found.items() if name != "load"}
    return Template(PAGE.read_text()).substitute(
        **{f"{name}_rows": rows(part) for name, part in parts.items()},
        **{f"{name}_targets": target_lines(part.targets) for name, part in found.items()},
        load_rows="\n".join(
            f"| {q.name} | {q.requests:,} | {q.failures} | {q.rate:,.0f} | {q.percentiles['50%']:g} | "
            f"{q.percentiles['95%']:g} | {q.percentiles['99%']:g} | {q.percentiles['100%']:g} |"
            for q in load.request_kinds
        ),
        streams_aims=target_lines(found["streams"].aims),
        ticks_aims=target_lines(found["ticks"].aims),
        machine=machine_sentence(bench.machine),
        load_date=load.machine.date,
        rate=f"{everything.rate:,.0f}",
        requests=f"{everything.requests:,}",
        failures=everything.failures or "no",
        p99=f"{everything.percentiles['99%']:g}",
        **{name: f"{target.value:.2f}" for name, target in zip(RATIOS, bench.targets, strict=False)},
    )


RATIOS = ("direct", "direct_304", "through", "through_304")


def rows(part: PeerBench | FigureBench | StreamBench) -> str:
    """A part's figures as lines of a table."""
    if isinstance(part, StreamBench):
        return "\n".join(
            f"| {row.name} | {row.sockets:,}{', one stalled' * row.stalled} | {row.p50_ms:.1f} | {row.p99_ms:.1f} | "
            f"{row.max_ms:.1f} | {row.cpu_us:.1f} | {row.kb:.1f} | {row.delivered:.0%} |"
            for row in part.rows
        )
    if isinstance(part, FigureBench):
        return "\n".join(f"| {name} | {value:,.2f} |" for name, value in part.figures.items())
    return "\n".join(
        f"| {row.name}{', 304' * row.unchanged} | {row.connections} | {row.rate:,.0f} | {row.p50_ms:g} | "
        f"{row.p99_ms:g} | {row.failed} |"
        for row in part.rows
    )


def target_lines(targets: list[Target]) -> str:
    """What was to be reached, one line each."""
    return "\n".join(f"- {target}" for target in targets)


def machine_sentence(machine: MachineInfo) -> str:
    """Where and when, in a sentence."""
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return f"{machine.date}, one {machine.system} machine with {machine.cores} cores; {versions}"


if __name__ == "__main__":
    sys.exit(main())
