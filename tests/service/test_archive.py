"""Files of candles: Binance's public dumps in, CSV and Parquet out, and edits that nobody announced found."""

import csv
import io
import zipfile
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec.structs import replace

from services import runtime
from services.adapters import sql
from services.archive import COMMANDS
from services.core.candles import traded
from services.core.errors import BadFile, KursError, UnknownName
from services.core.model import Candle, Instrument, Origin, Series, Trade
from services.core.seals import GENESIS, sealed
from services.core.timeframes import DAY, MINUTE
from services.meter import Meter
from services.settings import Settings

START = 1_704_067_200_000  # 2024-01-01
HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
)
SERIES = Series("binance", Instrument("PEPE", "USDT"), "1m")


async def kurs(folder: Path, *words: object) -> int:
    """One command, on SQLite in that folder."""
    settings = Settings(_env_file=None, data_dir=folder)
    return await runtime.carried_out(settings, COMMANDS[str(words[0])]([str(word) for word in words[1:]]))


def row(minute: int, scale: int = 1) -> str:
    """A line of a dump; `scale` 1000: in microseconds."""
    opened = START + minute * MINUTE
    price = f"0.0000{1000 + minute}0"
    values = [opened * scale, price, "0.00020000", "0.00000001", price, "1000.00", (opened + MINUTE) * scale - 1]
    return ",".join(map(str, [*values, "0.12345678", 7, "1.0", "1.0", "0"]))


def dump(folder: Path, name: str, lines: Sequence[str]) -> Path:
    """A file of these lines, packed if its name says so."""
    path, text = folder / name, "".join(f"{line}\n" for line in lines)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{path.stem}.csv", text)
    else:
        path.write_text(text)
    return path


def left_over(folder: Path) -> list[str]:
    return [path.name for path in folder.glob(".*")]


async def exported(folder: Path, *words: str) -> list[dict[str, str]]:
    file = folder / "out.csv"
    assert await kurs(folder, "export", *words, file) == 0
    return list(csv.DictReader(io.StringIO(file.read_text())))


@pytest.mark.parametrize(
    ("name", "header", "scale"),
    [
        ("PEPEUSDT-1m-2024-01-01.csv", False, 1),
        ("PEPEUSDT-1m-2024-01-01.zip", True, 1),
        ("PEPEUSDT-1m-2024-01.zip", False, 1000),
        ("PEPEUSDT-1m-2024-01.csv", True, 1000),
    ],
)
async def test_a_dump_in_any_form_comes_in_and_goes_out_with_every_digit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, header: bool, scale: int
) -> None:
    lines = [HEADER] * header + [row(minute, scale) for minute in range(1440)]
    assert await kurs(tmp_path, "import", dump(tmp_path, name, lines)) == 0
    assert f"{name}: 1440 candles of PEPE-USDT 1m" in capsys.readouterr().out
    rows = await exported(tmp_path, "PEPEUSDT", "1m")
    assert [int(each["timestamp"]) for each in rows] == [START + minute * MINUTE for minute in range(1440)]
    first = rows[0]
    assert (first["open"], first["low"], first["volume"], first["quote_volume"]) == (
        "0.000010000",
        "0.00000001",
        "1000.00",
        "0.12345678",
    )
    assert (first["trades"], first["kind"], first["source"], first["revision"]) == ("7", "traded", "import", "0")
    (day,) = await exported(tmp_path, "binance:pepe-usdt", "1d")
    assert (Decimal(day["volume"]), day["trades"], day["source"]) == (Decimal(1_440_000), str(7 * 1440), "rollup")
    some = await exported(tmp_path, "PEPEUSDT", "1m", "--from", "2024-01-01T01:00:00Z", "--to", "2024-01-01T01:59:59Z")
    assert some == rows[60:120]


async def test_a_file_may_come_twice_and_beside_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = [row(minute) for minute in range(120)]
    files = [dump(tmp_path, f"PEPEUSDT-1m-2024-01-0{day}.csv", both[60 * (day - 1) : 60 * day]) for day in (1, 2)]
    assert await kurs(tmp_path, "import", files[1], files[0], files[1]) == 0
    assert len(await exported(tmp_path, "PEPEUSDT", "1m")) == 120
    assert len(await exported(tmp_path, "PEPEUSDT", "1h")) == 2
    assert capsys.readouterr().err == "", "no progress bar where nobody looks"


async def test_minutes_are_built_from_trades_as_the_writer_does_it(tmp_path: Path) -> None:
    """The second hour begins with some minutes in which nothing is traded."""
    seconds = [*range(0, 3600, 7), *range(3600 + 185, 7200, 11)]
    trades = [
        Trade(
            "binance", SERIES.instrument, 0, START + s * 1000, Decimal(1000 + s % 13), Decimal("0.5"), n, 2, n % 2 == 0
        )
        for n, s in enumerate(seconds, 5_000_000)
    ]
    lines = [
        f"{t.number},{t.price}.00,{t.size},{t.number * 2},{t.number * 2 + 1},{t.time * 1000},{t.buyer_made},True"
        for t in trades
    ]
    await kurs(tmp_path, "import", dump(tmp_path, "PEPEUSDT-aggTrades-2024-01-01.zip", lines))
    rows = await exported(tmp_path, "PEPEUSDT", "1m")
    assert [int(each["timestamp"]) for each in rows] == [START + minute * MINUTE for minute in range(120)]
    assert [each["kind"] for each in rows[60:64]] == ["empty", "empty", "empty", "traded"]
    for each in (rows[0], rows[59], rows[100]):
        bar = None
        for trade in trades:
            if trade.time // MINUTE * MINUTE == int(each["timestamp"]):
                bar = traded(bar, trade)
        assert bar
        found = tuple(
            Decimal(each[name]) for name in ("open", "high", "low", "close", "volume", "quote_volume", "trades")
        )
        assert found == (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.quote_volume, Decimal(bar.trades))


@pytest.mark.parametrize(
    ("name", "lines", "part"),
    [
        ("btc.csv", [row(0)], "the name must be as Binance writes it"),
        ("PEPEUSDT-1s-2024-01.csv", [row(0)], "the name must be as Binance writes it"),
        ("PEPEUSDT-7m-2024-01.csv", [row(0)], "7m is not a timeframe"),
        ("ABCDEF-1m-2024-01.csv", [row(0)], "name the pair in KURS_SYMBOLS"),
        ("PEPEUSDT-1m-2024-01.csv", [row(0), "x" + row(1)], "line 2: "),
        ("PEPEUSDT-1m-2024-01.csv", [HEADER, row(0).replace("1000.00", "NaN")], "line 2: 'NaN' is not an amount"),
        ("PEPEUSDT-1m-2024-01.csv", [row(0).replace("0.00000001", "1")], "line 1: a bar whose prices leave its range"),
        ("PEPEUSDT-1m-2024-01.csv", [row(0), row(0)], "line 2: it is not later"),
        ("PEPEUSDT-1h-2024-01.csv", [row(0), row(1)], "line 2: no 1h opens at"),
        ("PEPEUSDT-1m-2024-01.csv", [row(0)[:40]], "columns, at least 9"),
        ("PEPEUSDT-1m-2024-01.csv", ["é" * 30], "line 1: "),
        (
            "PEPEUSDT-aggTrades-2024-01.csv",
            ["5,1,1,5,5,1704067200000,True,True", "7,1,1,7,7,1704067200000,True,True"],
            "trade 7 follows 5",
        ),
        (
            "PEPEUSDT-aggTrades-2024-01.csv",
            ["5,1,1,5,5,1704067260000,True,True", "6,1,1,6,6,1704067200000,True,True"],
            "line 2: it is of an earlier minute",
        ),
        ("PEPEUSDT-aggTrades-2024-01.csv", ["5,1,1,5,5,4102444800000,True,True"], "its minute is not over yet"),
        ("PEPEUSDT-1m-2100-01.csv", [row(0).replace(str(START), "4102444800000")], "this candle is not over yet"),
    ],
)
async def test_what_is_wrong_with_a_file_is_told_with_its_line(
    tmp_path: Path, name: str, lines: list[str], part: str
) -> None:
    with pytest.raises(BadFile) as told:
        await kurs(tmp_path, "import", dump(tmp_path, name, lines))
    assert name in str(told.value)
    assert part in str(told.value)


async def test_what_is_no_file_is_told_before_anything_is_read(tmp_path: Path) -> None:
    good = dump(tmp_path, "PEPEUSDT-1m-2024-01.csv", [row(0)])
    (tmp_path / "PEPEUSDT-1m-2024-02.zip").write_bytes(b"PK no zip")
    with pytest.raises(BadFile, match="no such file"):
        await kurs(tmp_path, "import", good, tmp_path / "PEPEUSDT-1m-2024-03.zip")
    with pytest.raises(UnknownName, match="symbol 'PEPEUSDT' does not exist"):
        await kurs(tmp_path, "export", "PEPEUSDT", "1m", tmp_path / "out.csv")
    with pytest.raises(BadFile, match=r"2024-02\.zip"):
        await kurs(tmp_path, "import", tmp_path / "PEPEUSDT-1m-2024-02.zip")


async def test_a_failed_export_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    await kurs(tmp_path, "import", dump(tmp_path, "PEPEUSDT-1m-2024-01.csv", [row(0)]))
    (tmp_path / "out.csv").write_text("mine")
    for words in (["PEPEUSDT", "1m", "--from", "2024-02-01", "--to", "2024-01-01"], ["PEPUSDT", "1m"]):
        with pytest.raises(KursError):
            await kurs(tmp_path, "export", *words, tmp_path / "out.csv")
    with pytest.raises(BadFile, match="No such file or directory"):
        await kurs(tmp_path, "export", "PEPEUSDT", "1m", tmp_path / "no" / "such" / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "mine"
    assert left_over(tmp_path) == []


async def test_parquet_holds_the_same(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    await kurs(tmp_path, "import", dump(tmp_path, "PEPEUSDT-1m-2024-01.csv", [row(minute) for minute in range(10)]))
    assert await kurs(tmp_path, "export", "PEPEUSDT", "1m", tmp_path / "out.parquet") == 0
    table, rows = parquet.read_table(tmp_path / "out.parquet"), await exported(tmp_path, "PEPEUSDT", "1m")
    assert table.column_names == list(rows[0])
    assert [Decimal(each["close"]) for each in rows] == table["close"].to_pylist()
    assert [int(each["timestamp"]) for each in rows] == table["timestamp"].cast("int64").to_pylist()


async def test_an_edit_that_nobody_announced_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [row(minute) for minute in range(3 * 1440)]
    await kurs(tmp_path, "import", dump(tmp_path, "PEPEUSDT-1m-2024-01.csv", lines))
    store = await sql.connect(f"sqlite+aiosqlite:///{tmp_path}/kurs.db")
    previous, seals = GENESIS, []
    for day in (START, START + DAY, START + 2 * DAY):
        seals.append(sealed(SERIES, day, await store.candles(SERIES, day, day + DAY - 1), previous, day + DAY))
        previous = seals[-1].digest
    await store.save(*seals)
    assert await kurs(tmp_path, "verify") == 0
    assert "binance PEPE-USDT 1m: 3 days as sealed" in capsys.readouterr().out

    (before,) = await store.candles(SERIES, START + DAY + MINUTE, START + DAY + MINUTE)
    edits: dict[str, Callable[[], Candle]] = {
        "2024-01-02: a candle is not as it was sealed": lambda: _edited(before, volume=Decimal("1000.01")),
        "2024-01-02: 1439 candles, sealed were 1440": lambda: Candle(SERIES, before.bar, False, Origin.TICKS),
    }
    for told, edit in edits.items():
        await store.save(edit())
        assert await kurs(tmp_path, "verify", "PEPEUSDT") == 1
        assert told in capsys.readouterr().out
    await store.save(before)
    assert await kurs(tmp_path, "verify") == 0
    await store.save(sealed(SERIES, START, [], GENESIS, 0))
    assert await kurs(tmp_path, "verify") == 1
    assert "2024-01-01: 1440 candles, sealed were 0" in capsys.readouterr().out
    with pytest.raises(UnknownName, match="did you mean PEPE-USDT"):
        await kurs(tmp_path, "verify", "PEPE-USDC")
    await store.close()


def _edited(candle: Candle, volume: Decimal) -> Candle:
    return replace(candle, bar=replace(candle.bar, volume=volume))


def test_progress_is_drawn_on_a_terminal_only() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        with Meter("history", 200, stream) as meter:
            meter.at(100, "100 candles")
    assert "history ███████████████░░░░░░░░░░░░░░░  50% 100 candles" in terminal.getvalue()
    assert file.getvalue() == ""
