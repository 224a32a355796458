"""`kurs [SERVICE | EXCHANGE] …`: run these services in one process; with no name, all of them."""

import os
import sys
from io import TextIOWrapper

from services import runtime
from services.core.errors import AccessRefused, BadFile, BadRange, BadRequest, Misconfigured, Unavailable, UnknownName
from services.exchanges import EXCHANGES

USAGE = """kurs                      every service in one process, on memory and SQLite unless told otherwise
kurs SERVICE …            these services: collector pricer writer analyst api simulator
kurs collector EXCHANGE … a collector for these exchanges: {exchanges}
kurs import FILE …        candles from Binance's public files (klines, aggTrades or trades; CSV or ZIP)
kurs export SYMBOL TIMEFRAME FILE   candles into a CSV or Parquet file; --help tells more
kurs verify [SYMBOL]      check that no sealed day of candles was changed
kurs dead [list]          messages that could not be kept; show ID, replay ID…, drop ID…
kurs watch [CHANNEL …]    rates and candles live, of the API on this machine or at --url; --help tells more
kurs migrate              bring the database to the newest schema, and end
kurs openapi              print the API's description, and end
kurs passwords FOLDER     accounts for each container at the servers, as files; --rotate: with new passwords

Settings come from the environment and .env; .env.example describes each."""


def main() -> None:
    """The console script. Exit codes: 0 stopped, 1 a job failed or a command found a server away,
    2 wrong configuration, words or files, 130 interrupted, 141 nobody reads the output.
    """
    words = sys.argv[1:]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what a console of ASCII cannot show ends no command
    try:
        if {"-h", "--help", "help"} & set(words[:1]) or (words and words[0] in runtime.SERVICES and "--help" in words):
            print(USAGE.format(exchanges=" ".join(EXCHANGES)))  # noqa: T201  this is the answer
            code = 0
        else:
            code = runtime.main(words)
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # `kurs verify | head`: the reader has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python fails to flush at its end
        sys.exit(141)
    except (BadFile, BadRange, BadRequest, Misconfigured, AccessRefused, UnknownName) as error:
        print(f"kurs: {error}", file=sys.stderr)  # noqa: T201  for the person who typed it
        sys.exit(2)
    except Unavailable as error:  # a service waits for its servers; a command may find one away
        print(f"kurs: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    sys.exit(code)


if __name__ == "__main__":
    main()
