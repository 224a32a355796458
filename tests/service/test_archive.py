"""Files of candles: import of Binance's public dumps, export to CSV and Parquet, and verification of seals."""

import csv
import io
import os
import sys
import zipfile
from collections.abc import Callable, Sequence
from decimal import Decimal
from io import TextIOWrapper
from pathlib import Path

import pytest
from msgspec.structs import replace

from services.adapters import sql
from services.command_line import parse_command, run_command
from services.core.candles import add_trade
from services.core.errors import BadFile, BadRange, KursError, Misconfigured, UnknownName
from services.core.model import Candle, CandleSource, Instrument, Series, Trade
from services.core.seals import GENESIS, new_seal
from services.core.timeframes import DAY_MS, MINUTE_MS
from services.progress_bar import ProgressBar
from services.settings import Settings
from services.writer.batch_processor import BatchProcessor
from tests.api import ReplicaSet

START_MS = 1_704_067_200_000  # 2024-01-01
HEADER = (
    "Open time,Open,High,Low,Close,Volume,Close time,Quote asset volume,Number of trades,Taker base,Taker quote,Ignore"
)
FUTURES_HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
)
SERIES = Series("binance", Instrument("PEPE", "USDT"), "1m")


async def run_kurs(folder: Path, *arguments: object) -> int:
    """Run a command of Kurs on SQLite in `folder`."""
    settings = Settings(_env_file=None, data_dir=folder)
    return await run_command(settings, parse_command(str(arguments[0]), [str(word) for word in arguments[1:]]))


def dump_line(minute: int, scale: int = 1) -> str:
    """Return a line of a dump, with times in ms, or in microseconds if `scale` is 1000."""
    opened = START_MS + minute * MINUTE_MS
    price = f"0.0000{1000 + minute}0"
    values = [opened * scale, price, "0.00020000", "0.00000001", price, "1000.00", (opened + MINUTE_MS) * scale - 1]
    return ",".join(map(str, [*values, "0.12345678", 7, "1.0", "1.0", "0"]))


def write_dump(folder: Path, name: str, lines: Sequence[str]) -> Path:
    """Write a file of lines, compressed if its name ends with .zip."""
    path, text = folder / name, "".join(f"{line}\n" for line in lines)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{path.stem}.csv", text)
    else:
        path.write_text(text)
    return path


def leftover_files(folder: Path) -> list[str]:
    return [path.name for path in folder.glob(".*")]


async def export_rows(folder: Path, *arguments: str) -> list[dict[str, str]]:
    file = folder / "out.csv"
    assert await run_kurs(folder, "export", *arguments, file) == 0
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
async def test_dump_in_any_form_is_imported_and_exported_with_every_digit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, header: bool, scale: int
) -> None:
    lines = [HEADER] * header + [dump_line(minute, scale) for minute in range(1440)]
    assert await run_kurs(tmp_path, "import", write_dump(tmp_path, name, lines)) == 0
    assert f"{name}: 1440 candles of PEPE-USDT 1m" in capsys.readouterr().out
    rows = await export_rows(tmp_path, "PEPEUSDT", "1m")
    assert [int(each["timestamp"]) for each in rows] == [START_MS + minute * MINUTE_MS for minute in range(1440)]
    first = rows[0]
    assert (first["open"], first["low"], first["volume"], first["quote_volume"]) == (
        "0.000010000",
        "0.00000001",
        "1000.00",
        "0.12345678",
    )
    assert (first["trades"], first["kind"], first["source"], first["revision"]) == ("7", "traded", "import", "0")
    (day,) = await export_rows(tmp_path, "binance:pepe-usdt", "1d")
    assert (Decimal(day["volume"]), day["trades"], day["source"]) == (Decimal(1_440_000), str(7 * 1440), "rollup")
    some = await export_rows(
        tmp_path, "PEPEUSDT", "1m", "--from", "2024-01-01T01:00:00Z", "--to", "2024-01-01T01:59:59Z"
    )
    assert some == rows[60:120]


async def test_files_are_imported_in_any_order_and_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = [dump_line(minute) for minute in range(1380, 1500)]
    files = [write_dump(tmp_path, f"PEPEUSDT-1m-2024-01-0{day}.csv", both[60 * (day - 1) : 60 * day]) for day in (1, 2)]
    assert await run_kurs(tmp_path, "import", files[1], files[0], files[1]) == 0
    assert len(await export_rows(tmp_path, "PEPEUSDT", "1m")) == 120
    assert len(await export_rows(tmp_path, "PEPEUSDT", "1h")) == 2
    assert capsys.readouterr().err == "", "there is no progress bar without a terminal"


async def test_minutes_are_built_from_a_dump_of_trades(tmp_path: Path) -> None:
    """The second hour begins with some minutes without trades."""
    seconds = [*range(0, 3600, 7), *range(3600 + 185, 7200, 11)]
    trades = [
        Trade(
            "binance",
            SERIES.instrument,
            0,
            START_MS + s * 1000,
            Decimal(1000 + s % 13),
            Decimal("0.5"),
            n,
            2,
            n % 2 == 0,
        )
        for n, s in enumerate(seconds, 5_000_000)
    ]
    lines = [
        f"{t.trade_id},{t.price}.00,{t.size},{t.trade_id * 2},{t.trade_id * 2 + 1},"
        f"{t.time * 1000},{t.buyer_is_maker},True"
        for t in trades
    ]
    await run_kurs(tmp_path, "import", write_dump(tmp_path, "PEPEUSDT-aggTrades-2024-01-01.zip", lines))
    rows = await export_rows(tmp_path, "PEPEUSDT", "1m")
    assert [int(each["timestamp"]) for each in rows] == [START_MS + minute * MINUTE_MS for minute in range(119)]
    assert [each["kind"] for each in rows[60:64]] == ["empty", "empty", "empty", "traded"]
    for each in (rows[0], rows[59], rows[100]):
        bar = None
        for trade in trades:
            if trade.time // MINUTE_MS * MINUTE_MS == int(each["timestamp"]):
                bar = add_trade(bar, trade)
        assert bar
        found = tuple(
            Decimal(each[name]) for name in ("open", "high", "low", "close", "volume", "quote_volume", "trades")
        )
        assert found == (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.quote_volume, Decimal(bar.trades))


def trade_line(number: int, second: float, price: str = "1") -> str:
    """Return a line of a dump of aggregate trades."""
    return f"{number},{price},1,{number},{number},{START_MS + int(second * 1000)},True,True"


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("btc.csv", "use the name that Binance gave it"),
        ("PEPEUSDT-1m-2024-13.csv", "there is no such date"),
        ("PEPEUSDT-1m-9999-12.csv", "there is no such date"),
        ("PEPEUSDT-1s-2024-01.csv", "the shortest timeframe of Kurs is 1m"),
        ("PEPEUSDT-7m-2024-01.csv", "7m is not a timeframe"),
        ("PEPEUSDT-bookTicker-2024-01.csv", "bookTicker is not a supported kind of file"),
        ("BTCUSD_PERP-1m-2024-01.csv", "these are futures"),
        ("BTCUSDT_240329-1m-2024-01.csv", "these are futures"),
        ("futures/um/BTCUSDT-1m-2024-01.csv", "these are futures"),
        ("ABCDEF-1m-2024-01.csv", "has no known quote currency: name its pair, as in --symbol BASE-QUOTE"),
        ("ADAEUR-1m-2024-01.csv", "ADAEUR may be ADA-EUR or AD-AEUR: name the pair, for example --symbol ADA-EUR"),
    ],
)
async def test_ambiguous_file_name_is_refused_before_reading(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, part: str
) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    good = write_dump(tmp_path, "PEPEUSDT-1m-2024-01.csv", [dump_line(0)])
    with pytest.raises(BadFile) as refused:
        await run_kurs(tmp_path, "import", good, write_dump(tmp_path, name, [dump_line(0)]))
    assert part in str(refused.value)
    assert name.rpartition("/")[2] in str(refused.value)
    assert "1 candles" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "lines", "count", "part"),
    [
        ("PEPEUSDT-1m-2024-01.csv", [dump_line(0), "x" + dump_line(1), dump_line(2)], 2, "line 2: 'x170"),
        (
            "PEPEUSDT-1m-2024-01.csv",
            [HEADER, dump_line(0).replace("1000.00", "NaN"), dump_line(1)],
            1,
            "line 2: 'NaN' is not an",
        ),
        ("PEPEUSDT-1m-2024-01.csv", [dump_line(0).replace("1000.00", "1e400000000")], 0, "line 1: "),
        (
            "PEPEUSDT-1m-2024-01.csv",
            [dump_line(0), dump_line(1).replace("1000.00", "1_000")],
            1,
            "line 2: '1_000' is not a number",
        ),
        (
            "PEPEUSDT-1m-2024-01.csv",
            [dump_line(0).replace("0.00000001", "1")],
            0,
            "line 1: a bar whose prices leave its",
        ),
        (
            "PEPEUSDT-1m-2024-01.csv",
            ["1.70407E+12" + dump_line(0)[13:]],
            0,
            "line 1: a spreadsheet has rounded the time",
        ),
        ("PEPEUSDT-1m-2024-01.csv", ["Name" + dump_line(0)[13:]], 0, "line 1: 'Name' is not a time"),
        ("PEPEUSDT-1h-2024-01.csv", [dump_line(0), dump_line(1), dump_line(60)], 2, "line 2: no 1h opens at"),
        ("PEPEUSDT-1m-2024-01.csv", [dump_line(0), dump_line(1)[:-4]], 1, "line 2: 11 columns, where a row has 12"),
        ("PEPEUSDT-1m-2024-01.csv", [dump_line(0), "é" * 30, "x" * 9_000, dump_line(1)], 2, "line 2: 1 columns"),
        ("PEPEUSDT-1m-2024-01.csv", [HEADER], 0, "the file has no rows"),
        ("PEPEUSDT-1m-2024-01.csv", [], 0, "the file has no rows"),
        ("PEPEUSDT-1m-2024-01.csv", ["\ufeff" + dump_line(0), "bad"], 1, "line 2: 1 columns"),
        (
            "PEPEUSDT-1m-2024-01-01.csv",
            [dump_line(0), dump_line(1440)],
            1,
            "line 2: 2024-01-02T00:00:00Z is not in the period of",
        ),
        (
            "PEPEUSDT-1m-2024-01.csv",
            [*map(dump_line, range(500)), *[""] * 1001],
            500,
            "line 1501: more than 1,000 empty lines in a row",
        ),
        (
            "PEPEUSDT-1m-2100-01.csv",
            [dump_line(0).replace(str(START_MS), "4102444800000")],
            0,
            "this candle is not over yet",
        ),
        (
            "PEPEUSDT-aggTrades-2024-01-01.csv",
            [trade_line(5, 86_390), trade_line(6, 86_400)],
            1,
            "is not in the period of the",
        ),
        (
            "PEPEUSDT-aggTrades-2024-01.csv",
            [
                trade_line(5, 1),
                trade_line(6, 61),
                trade_line(8, 121),
                trade_line(9, 125),
                trade_line(10, 241),
                trade_line(11, 301),
            ],
            3,
            "line 3: trade 8 follows 6: 2024-01-01T00:01:00Z to 2024-01-01T00:02:00Z are left out",
        ),
        (
            "PEPEUSDT-aggTrades-2024-01.csv",
            [trade_line(5, 1), trade_line(6, 80_000), trade_line(7, 2), trade_line(8, 61), trade_line(9, 121)],
            1,
            "line 2: its time, 2024-01-01T22:13:20Z, is later than that of the next trade",
        ),
    ],
)
async def test_wrong_row_is_reported_and_all_others_are_imported(  # noqa: PLR0913, PLR0917
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, lines: list[str], count: int, part: str
) -> None:
    assert await run_kurs(tmp_path, "import", write_dump(tmp_path, name, lines)) == 1
    output = capsys.readouterr().out
    assert f"{name}: {count} candles of PEPE-USDT" in output
    assert part in output


@pytest.mark.parametrize(
    ("name", "lines", "part"),
    [
        ("PEPEUSDT-1m-2024-01.csv", [FUTURES_HEADER, dump_line(0)], "the header is that of a futures file"),
        ("PEPEUSDT-aggTrades-2024-01.csv", [trade_line(5, 0)[:-5]], "these are the columns of a futures file"),
        ("PEPEUSDT-1m-2024-01.zip", [""] * 1001, "line 1001: more than 1,000 empty lines in a row"),
    ],
)
async def test_file_of_another_kind_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, lines: list[str], part: str
) -> None:
    assert await run_kurs(tmp_path, "import", write_dump(tmp_path, name, lines)) == 1
    assert f"{name}: refused:\n  {part}" in capsys.readouterr().out


async def test_up_to_1000_empty_lines_in_a_row_are_ignored(tmp_path: Path) -> None:
    lines = [dump_line(0), *[""] * 1000, dump_line(1), *[" "] * 1000]
    assert await run_kurs(tmp_path, "import", write_dump(tmp_path, "PEPEUSDT-1m-2024-01.csv", lines)) == 0
    assert len(await export_rows(tmp_path, "PEPEUSDT", "1m")) == 2


async def test_week_is_accepted_in_the_files_of_both_its_months(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The week of 29 January extends into February, the one of 22 January does not."""
    lines = [dump_line(day * 1440) for day in (21, 28, 35)]
    assert await run_kurs(tmp_path, "import", write_dump(tmp_path, "PEPEUSDT-1w-2024-02.csv", lines)) == 1
    assert "2 candles of PEPE-USDT 1w, 1 left out:\n  line 1: 2024-01-22T00:00:00Z is not" in capsys.readouterr().out


async def test_broken_file_does_not_stop_the_import_of_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [dump_line(minute) for minute in range(2_000)]
    good, other = (
        write_dump(tmp_path, f"PEPEUSDT-1m-2024-01{part}.csv", lines[since : since + 500])
        for part, since in (("", 0), ("-02", 1_440))
    )
    cut = write_dump(tmp_path, "PEPEUSDT-1m-2024-02.zip", lines)
    packed = cut.read_bytes()
    cut.write_bytes(packed[:200] + b"no zip" + packed[206:])
    (tmp_path / "PEPEUSDT-1m-2024-04.zip").write_bytes(b"PK no zip")
    assert await run_kurs(tmp_path, "import", good, cut, other, tmp_path / "PEPEUSDT-1m-2024-04.zip") == 1
    output = capsys.readouterr().out
    assert "PEPEUSDT-1m-2024-02.zip: refused:\n  it cannot be read" in output
    assert "PEPEUSDT-1m-2024-04.zip: refused:\n  it cannot be read" in output
    assert len(await export_rows(tmp_path, "PEPEUSDT", "1m")) == 1_000


async def test_last_minute_of_trades_is_missing_until_the_next_file_is_imported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second day continues with the next trade id, the third one does not."""
    first = write_dump(tmp_path, "PEPEUSDT-aggTrades-2024-01-01.csv", [trade_line(5, 80_000), trade_line(6, 80_061)])
    second = write_dump(tmp_path, "PEPEUSDT-aggTrades-2024-01-02.csv", [trade_line(7, 86_520), trade_line(8, 86_581)])
    third = write_dump(
        tmp_path, "PEPEUSDT-aggTrades-2024-01-03.csv", [trade_line(20, 172_800), trade_line(21, 2 * 86_400 + 86_399)]
    )
    assert await run_kurs(tmp_path, "import", first) == 1
    assert "2024-01-01T22:14:00Z, the minute of the last trade: only the next file" in capsys.readouterr().out
    assert len(await export_rows(tmp_path, "PEPEUSDT", "1m")) == 1
    assert await run_kurs(tmp_path, "import", second, third, first) == 1
    output = capsys.readouterr().out
    assert (
        "PEPEUSDT-aggTrades-2024-01-03.csv: 1440 candles of PEPE-USDT 1m, 1 left out:\n  2024-01-02T00:03:00Z" in output
    )
    openings = [int(each["timestamp"]) for each in await export_rows(tmp_path, "PEPEUSDT", "1m")]
    whole = [START_MS // MINUTE_MS + minute for minute in (*range(1_333, 1_443), *range(2_880, 4_320))]
    assert [opening // MINUTE_MS for opening in openings] == whole


async def test_single_trades_count_as_one_fill_each(tmp_path: Path) -> None:
    lines = [f"{n},2.5,2,5.0,{(START_MS + n * 1000) * 1000},True,True" for n in range(60, 181)]
    assert (
        await run_kurs(
            tmp_path, "import", write_dump(tmp_path, "PEPEUSDT-trades-2024-01-01.csv", ["id,price", *lines][1:])
        )
        == 1
    )
    rows = await export_rows(tmp_path, "PEPEUSDT", "1m")
    assert [(each["trades"], each["volume"], each["quote_volume"]) for each in rows] == [("60", "120", "300.0")] * 2


async def test_pair_of_a_file_name_is_that_of_the_option_or_of_an_earlier_import(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, name, pair in (
        (("--symbol", "ADA-EUR"), "ADAEUR-1m-2024-01.csv", "ADA-EUR"),
        ((), "ADAEUR-1m-2024-01.csv", "ADA-EUR"),
        ((), "BTCRLUSD-1m-2024-01.csv", "BTC-RLUSD"),
        ((), "币安人生USDT-1m-2024-01.csv", "币安人生-USDT"),
    ):
        assert await run_kurs(tmp_path, "import", *arguments, write_dump(tmp_path, name, [dump_line(0)])) == 0
        assert f"1 candles of {pair} 1m\n" in capsys.readouterr().out
    assert len(await export_rows(tmp_path, "币安人生USDT", "1m")) == 1


async def test_export_without_candles_names_the_stored_range_and_leaves_no_file(tmp_path: Path) -> None:
    await run_kurs(tmp_path, "import", write_dump(tmp_path, "PEPEUSDT-1m-2024-01.csv", [dump_line(0), dump_line(2)]))
    for since, until in (("2023-01-01", "2023-02-01"), ("2024-01-01T00:01:00Z", "2024-01-01T00:01:30Z")):
        with pytest.raises(BadRange, match=r"there are candles from 2024-01-01T00:00:00Z to 2024-01-01T00:02:00Z"):
            await run_kurs(tmp_path, "export", "PEPEUSDT", "1m", tmp_path / "no.csv", "--from", since, "--to", until)
    assert not (tmp_path / "no.csv").exists()
    assert leftover_files(tmp_path) == []


async def test_missing_file_is_refused_before_any_import(tmp_path: Path) -> None:
    good = write_dump(tmp_path, "PEPEUSDT-1m-2024-01.csv", [dump_line(0)])
    with pytest.raises(BadFile, match="no such file"):
        await run_kurs(tmp_path, "import", good, tmp_path / "PEPEUSDT-1m-2024-03.zip")
    with pytest.raises(UnknownName, match="symbol 'PEPEUSDT' does not exist"):
        await run_kurs(tmp_path, "export", "PEPEUSDT", "1m", tmp_path / "out.csv")


async def test_failed_export_leaves_the_old_file(tmp_path: Path) -> None:
    await run_kurs(tmp_path, "import", write_dump(tmp_path, "PEPEUSDT-1m-2024-01.csv", [dump_line(0)]))
    (tmp_path / "out.csv").write_text("mine")
    for arguments in (["PEPEUSDT", "1m", "--from", "2024-02-01", "--to", "2024-01-01"], ["PEPUSDT", "1m"]):
        with pytest.raises(KursError):
            await run_kurs(tmp_path, "export", *arguments, tmp_path / "out.csv")
    with pytest.raises(BadFile, match="No such file or directory"):
        await run_kurs(tmp_path, "export", "PEPEUSDT", "1m", tmp_path / "no" / "such" / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "mine"
    assert leftover_files(tmp_path) == []


async def test_export_replaces_only_a_regular_file(tmp_path: Path) -> None:
    await run_kurs(tmp_path, "import", write_dump(tmp_path, "PEPEUSDT-1m-2024-01.csv", [dump_line(0)]))
    (tmp_path / "mine").write_text("mine")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link.csv").symlink_to("mine")
    (tmp_path / ".out.csv.part").symlink_to("mine")  # which an earlier version wrote to
    before = sorted(path.name for path in tmp_path.iterdir())
    for name, part in (
        (tmp_path / "pipe", "is not a regular file: name another one, or write to standard output"),
        (tmp_path / "link.csv", "is a link: name its target"),
        ("", "is a folder: add the name of a file"),
        ("/", "is a folder: add the name of a file"),
        (tmp_path / ("x" * 260), "File name too long"),
        (tmp_path / "mine" / "out.csv", "Not a directory"),
    ):
        with pytest.raises(BadFile, match=part):
            await run_kurs(tmp_path, "export", "PEPEUSDT", "1m", name)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert (tmp_path / "pipe").is_fifo()
    assert (tmp_path / "link.csv").is_symlink()
    assert len(await export_rows(tmp_path, "PEPEUSDT", "1m")) == 1
    assert (tmp_path / "mine").read_text() == "mine"
    assert await run_kurs(tmp_path, "export", "PEPEUSDT", "1m", tmp_path / ("x" * 255)) == 0


async def test_parquet_export_equals_the_csv_export(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    await run_kurs(
        tmp_path, "import", write_dump(tmp_path, "PEPEUSDT-1m-2024-01.csv", [dump_line(minute) for minute in range(10)])
    )
    assert await run_kurs(tmp_path, "export", "PEPEUSDT", "1m", tmp_path / "out.parquet") == 0
    table, rows = parquet.read_table(tmp_path / "out.parquet"), await export_rows(tmp_path, "PEPEUSDT", "1m")
    assert table.column_names == list(rows[0])
    assert [Decimal(each["close"]) for each in rows] == table["close"].to_pylist()
    assert [int(each["timestamp"]) for each in rows] == table["timestamp"].cast("int64").to_pylist()


@pytest.mark.parametrize("ending", ["csv", "parquet"])
async def test_export_to_standard_output_equals_the_file(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes], ending: str
) -> None:
    await run_kurs(
        tmp_path, "import", write_dump(tmp_path, "PEPEUSDT-1m-2024-01.csv", [dump_line(minute) for minute in range(10)])
    )
    assert await run_kurs(tmp_path, "export", "PEPEUSDT", "1m", tmp_path / f"out.{ending}") == 0
    capsysbinary.readouterr()
    assert await run_kurs(tmp_path, "export", "PEPEUSDT", "1m", "-", "--format", ending) == 0
    printed = capsysbinary.readouterr()
    assert printed.out == (tmp_path / f"out.{ending}").read_bytes()
    assert b"10 candles of binance PEPE-USDT 1m" in printed.err
    with pytest.raises(BadRange):
        await run_kurs(tmp_path, "export", "PEPEUSDT", "1m", "-", "--from", "2023-01-01", "--to", "2023-02-01")
    assert capsysbinary.readouterr().out == b""


async def test_export_to_a_closed_pipe_is_no_file_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await run_kurs(
        tmp_path, "import", write_dump(tmp_path, "PEPEUSDT-1m-2024-01.csv", [dump_line(minute) for minute in range(10)])
    )
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb", buffering=0) as raw, TextIOWrapper(raw, write_through=True) as out:  # noqa: ASYNC230, PTH123
        monkeypatch.setattr(sys, "stdout", out)
        with pytest.raises(BrokenPipeError):
            await run_kurs(tmp_path, "export", "PEPEUSDT", "1m", "-")


async def test_parquet_export_without_pyarrow_names_the_extra_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    await run_kurs(tmp_path, "import", write_dump(tmp_path, "PEPEUSDT-1m-2024-01.csv", [dump_line(0)]))
    with pytest.raises(Misconfigured, match=r"install kurs\[parquet\], in containers set KURS_EXTRAS=parquet"):
        await run_kurs(tmp_path, "export", "PEPEUSDT", "1m", tmp_path / "out.parquet")
    assert leftover_files(tmp_path) == []


async def test_verify_finds_candles_that_differ_from_their_seal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [dump_line(minute) for minute in range(3 * 1440)]
    await run_kurs(tmp_path, "import", write_dump(tmp_path, "PEPEUSDT-1m-2024-01.csv", lines))
    store = await sql.connect(f"sqlite+aiosqlite:///{tmp_path}/kurs.db")
    previous, seals = GENESIS, []
    for day in (START_MS, START_MS + DAY_MS, START_MS + 2 * DAY_MS):
        seals.append(new_seal(SERIES, day, await store.candles(SERIES, day, day + DAY_MS - 1), previous, day + DAY_MS))
        previous = seals[-1].digest
    await store.save(*seals)
    assert await run_kurs(tmp_path, "verify") == 0
    assert "binance PEPE-USDT 1m: 3 days as sealed" in capsys.readouterr().out

    (before,) = await store.candles(SERIES, START_MS + DAY_MS + MINUTE_MS, START_MS + DAY_MS + MINUTE_MS)
    edits: dict[str, Callable[[], Candle]] = {
        "2024-01-02: a candle is not as it was sealed": lambda: _with_volume(before, volume=Decimal("1000.01")),
        "2024-01-02: 1439 candles, sealed were 1440": lambda: Candle(SERIES, before.bar, False, CandleSource.TRADES),
    }
    for message, edit in edits.items():
        await store.save(edit())
        assert await run_kurs(tmp_path, "verify", "PEPEUSDT") == 1
        assert message in capsys.readouterr().out
    await store.save(before)
    assert await run_kurs(tmp_path, "verify") == 0
    await store.save(new_seal(SERIES, START_MS, [], GENESIS, 0))
    assert await run_kurs(tmp_path, "verify") == 1
    assert "2024-01-01: 1440 candles, sealed were 0" in capsys.readouterr().out
    with pytest.raises(UnknownName, match="did you mean PEPE-USDT"):
        await run_kurs(tmp_path, "verify", "PEPE-USDC")
    await store.close()


def hour_lines(day: int, *those: int) -> list[str]:
    """Return lines of a dump of hours, each with another price."""
    opened = [START_MS + (24 * day + hour) * 60 * MINUTE_MS for hour in those]
    return [
        f"{o},{p},{p}.5,{p - 1}.5,{p}.2,100.0,{o + 60 * MINUTE_MS - 1},1000.0,7,50,500,0"
        for o, p in ((o, 10 + (o - START_MS) // 3_600_000) for o in opened)
    ]


async def test_day_with_missing_hours_is_partial_or_missing_everywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second day has no hours from noon to six. Chart data, coverage, UDF and verify agree on it."""
    lines = [
        *hour_lines(0, *range(24)),
        *hour_lines(1, *range(12), *range(18, 24)),
        *hour_lines(2, *range(24)),
        *hour_lines(3, 0, 1),
    ]
    await run_kurs(tmp_path, "import", write_dump(tmp_path, "HALTUSDT-1h-2024-01.csv", lines))
    assert [int(each["timestamp"]) for each in await export_rows(tmp_path, "HALTUSDT", "1d")] == [
        START_MS,
        START_MS + 2 * DAY_MS,
    ]
    store = await sql.connect(f"sqlite+aiosqlite:///{tmp_path}/kurs.db")
    await seal_complete_days(store)
    assert await run_kurs(tmp_path, "verify") == 0
    output = capsys.readouterr().out
    assert "HALT-USDT 1h: 2 days as sealed; 68 of 74 candles\n  2024-01-02: 18 of 24 candles, not sealed\n" in output
    assert "HALT-USDT 1d: 2 days as sealed; 2 of 3 candles\n  2024-01-02: 0 of 1 candles, not sealed\n" in output

    replica = ReplicaSet(store).replica()
    chart, span = "/api/chart-data?symbol=HALTUSDT&timeframe=1d", f"&from={START_MS}&to={START_MS + 4 * DAY_MS}"
    for more in ("", "&limit=9", "&fill=none"):
        rows = await replica.get_candles(f"{chart}{span}{more}")
        assert [(each["timestamp"], each["kind"]) for each in rows] == [
            (START_MS, "traded"),
            (START_MS + 2 * DAY_MS, "traded"),
        ]
    part = {
        "timestamp": START_MS + DAY_MS,
        "open": Decimal(34),
        "high": Decimal("57.5"),
        "low": Decimal("33.5"),
        "close": Decimal("57.2"),
        "volume": Decimal(1800),
        "closed": True,
        "kind": "partial",
        "source": "rollup",
        "revision": 0,
    }
    for more in (span, "", f"{span}&fill=prev"):
        rows = [each for each in await replica.get_candles(f"{chart}{more}&partial=true") if each["kind"] != "missing"]
        assert rows[1] == part
        assert [each["kind"] for each in rows] == ["traded", "partial", "traded", "partial"], (
            "the last day has two hours"
        )
    assert (await replica.get_candles(f"{chart}&limit=2&partial=true"))[0]["timestamp"] == START_MS + 2 * DAY_MS
    assert (await replica.get_candles(f"{chart}&from={START_MS}&limit=2&partial=true"))[1] == part
    for name in ("indicators", "analysis"):
        url = f"{chart}&partial=true".replace("chart-data", name) + "&indicators=sma:2" * (name == "indicators")
        assert (await replica.get(url)).status_code == 400, "a partial candle is no input of a computation"
    bars = (
        await replica.get(f"/udf/history?symbol=HALTUSDT&resolution=1D&from=0&to={START_MS // 1000 + 400_000}")
    ).json()
    assert bars["t"] == [START_MS // 1000, (START_MS + 2 * DAY_MS) // 1000]
    for name, candles in (("1h", (74, 68)), ("1d", (3, 2)), ("12h", (6, 5))):
        last = START_MS + 3 * DAY_MS + 60 * MINUTE_MS if name == "1h" else START_MS + 3 * DAY_MS - 1
        url = f"/api/candles/coverage?symbol=HALTUSDT&timeframe={name}&from={START_MS}&to={last}"
        found = (await replica.get(url)).json()
        assert (found["expected"], found["present"]) == candles
        assert found["missing"] == sum(gap["candles"] for gap in found["gaps"]) == candles[0] - candles[1]
        assert f"HALT-USDT {name}: 2 days as sealed; {candles[1]} of {candles[0]} candles" in output
    await store.close()


async def seal_complete_days(store: sql.SqlStore) -> None:
    """Seal all days of the store as the writer does."""
    processor = BatchProcessor(store)
    await processor.load()
    for series, ends in (await store.series()).items():
        await (await processor.seal_days(series, *ends, START_MS + 9 * DAY_MS)).commit()


@pytest.mark.parametrize("runs", [[[0, 1]], [[0], [1]], [[1], [0]]])
async def test_imported_candles_do_not_depend_on_order_or_batches(tmp_path: Path, runs: list[list[int]]) -> None:
    """The third minute is in no file."""
    files = [
        write_dump(tmp_path, "PEPEUSDT-1m-2024-01.csv", [dump_line(0), dump_line(1)]),
        write_dump(tmp_path, "PEPEUSDT-1m-2024-01-01.csv", [dump_line(minute) for minute in (3, 4, 5, 6, 7, 8, 9, 10)]),
    ]
    for numbers in runs:
        await run_kurs(tmp_path, "import", *(files[number] for number in numbers))
    store = await sql.connect(f"sqlite+aiosqlite:///{tmp_path}/kurs.db")
    stored = {series.timeframe: await store.candles(series, 0, START_MS + DAY_MS) for series in await store.series()}
    await store.close()
    minutes = {name: [(c.bar.open_time - START_MS) // MINUTE_MS for c in candles] for name, candles in stored.items()}
    assert minutes == {"1m": [0, 1, 3, 4, 5, 6, 7, 8, 9, 10], "3m": [3, 6], "5m": [5]}
    assert all(candle.closed for candles in stored.values() for candle in candles)
    assert stored["5m"][0].bar.volume == 5000


def _with_volume(candle: Candle, volume: Decimal) -> Candle:
    return replace(candle, bar=replace(candle.bar, volume=volume))


def test_progress_bar_is_drawn_on_a_terminal_only() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        with ProgressBar("history", 200, stream) as bar:
            bar.update(100, "100 candles")
    assert "history ███████████████░░░░░░░░░░░░░░░  50% 100 candles" in terminal.getvalue()
    assert file.getvalue() == ""
