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
RESULT_TYPES = {
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
    """Draw the pictures and write the page. Return 2 without results."""
    try:
        found = {name: _read(results / f"{name}.json", kind) for name, kind in RESULT_TYPES.items()}
    except FileNotFoundError as missing:
        print(f"{missing.filename} does not exist: run make bench and make load first", file=sys.stderr)
        return 2
    (docs / "pictures").mkdir(parents=True, exist_ok=True)
    for name, draw in pictures.DRAWN.items():
        draw(found["courses"], found["load"], docs / "pictures" / name)
    (docs / "performance.md").write_text(page(found))
    return 0


def _read(path: Path, kind: Any) -> Any:
    return msgspec.json.decode(path.read_bytes(), type=kind)


def page(found: Mapping[str, Any]) -> str:
    """Fill the figures into the page."""
    load: LoadResult = found["load"]
    bench, total = found["courses"], load.request_kinds[-1]
    parts = {name: part for name, part in found.items() if name != "load"}
    return Template(PAGE.read_text()).substitute(
        **{f"{name}_rows": rows(part) for name, part in parts.items()},
        **{f"{name}_targets": target_lines(part.targets) for name, part in found.items()},
        load_rows="\n".join(
            f"| {kind.name} | {kind.requests:,} | {kind.failures} | {kind.rate:,.0f} | {kind.percentiles['50%']:g} | "
            f"{kind.percentiles['95%']:g} | {kind.percentiles['99%']:g} | {kind.percentiles['100%']:g} |"
            for kind in load.request_kinds
        ),
        streams_aims=target_lines(found["streams"].aims),
        ticks_aims=target_lines(found["ticks"].aims),
        machine=machine_sentence(bench.machine),
        load_date=load.machine.date,
        rate=f"{total.rate:,.0f}",
        requests=f"{total.requests:,}",
        failures=total.failures or "no",
        p99=f"{total.percentiles['99%']:g}",
        **{name: f"{target.value:.2f}" for name, target in zip(RATIOS, bench.targets, strict=False)},
    )


RATIOS = ("direct", "direct_304", "through", "through_304")


def rows(part: PeerBench | FigureBench | StreamBench) -> str:
    """Format the figures of a part as rows of a table."""
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
    """Format each target as a line."""
    return "\n".join(f"- {target}" for target in targets)


def machine_sentence(machine: MachineInfo) -> str:
    """Describe the machine and the date in a sentence."""
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return f"{machine.date}, one {machine.system} machine with {machine.cores} cores; {versions}"


if __name__ == "__main__":
    sys.exit(main())
