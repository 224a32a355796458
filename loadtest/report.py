"""Pictures and a page from the last `make bench` and `make load`: docs/pictures/, docs/performance.md.

python -m loadtest.report
"""

import sys
from pathlib import Path
from string import Template

import msgspec

from loadtest import pictures
from loadtest.outcome import RESULTS, Bench, Load, Machine, Target

DOCS = Path(__file__).parents[1] / "docs"
PAGE = Path(__file__).with_name("performance.md")


def main(results: Path = RESULTS, docs: Path = DOCS) -> int:
    """Draw and write."""
    try:
        bench = msgspec.json.decode((results / "bench.json").read_bytes(), type=Bench)
        load = msgspec.json.decode((results / "load.json").read_bytes(), type=Load)
    except FileNotFoundError as missing:
        print(f"{missing.filename} is not there: run make bench and make load first", file=sys.stderr)
        return 2
    (docs / "pictures").mkdir(parents=True, exist_ok=True)
    for name, draw in pictures.DRAWN.items():
        draw(bench, load, docs / "pictures" / name)
    (docs / "performance.md").write_text(page(bench, load))
    return 0


def page(bench: Bench, load: Load) -> str:
    """The page, figures filled in."""
    everything = load.questions[-1]
    return Template(PAGE.read_text()).substitute(
        bench_rows="\n".join(
            f"| {row.name}{', 304' * row.unchanged} | {row.connections} | {row.rate:,.0f} | {row.p50_ms:g} | "
            f"{row.p99_ms:g} | {row.failed} |"
            for row in bench.rows
        ),
        load_rows="\n".join(
            f"| {q.name} | {q.requests:,} | {q.failures} | {q.rate:,.0f} | {q.percentiles['50%']:g} | "
            f"{q.percentiles['95%']:g} | {q.percentiles['99%']:g} | {q.percentiles['100%']:g} |"
            for q in load.questions
        ),
        bench_targets=promised(bench.targets),
        load_targets=promised(load.targets),
        machine=described(bench.machine),
        load_date=load.machine.date,
        rate=f"{everything.rate:,.0f}",
        requests=f"{everything.requests:,}",
        failures=everything.failures or "no",
        p99=f"{everything.percentiles['99%']:g}",
        **{name: f"{target.value:.2f}" for name, target in zip(RATIOS, bench.targets, strict=False)},
    )


RATIOS = ("direct", "direct_304", "through", "through_304")


def promised(targets: list[Target]) -> str:
    """What was to be reached, one line each."""
    return "\n".join(f"- {target}" for target in targets)


def described(machine: Machine) -> str:
    """Where and when, in a sentence."""
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return f"{machine.date}, one {machine.system} machine with {machine.cores} cores; {versions}"


if __name__ == "__main__":
    sys.exit(main())
