"""The `kurs` command: run services in one process, or one command to its end."""

import os
import sys
from io import TextIOWrapper

from services import __version__, command_line
from services.core.errors import (
    AccessRefused,
    BadFile,
    BadRange,
    BadRequest,
    Conflict,
    Misconfigured,
    Unavailable,
    UnknownName,
)
from services.exchanges import EXCHANGES
from services.runtime import SERVICES

USAGE = """kurs                      run every service in one process, in memory and on SQLite by default
kurs SERVICE …            run these services: collector pricer writer analyst accounts api simulator
kurs collector EXCHANGE … run a collector for these exchanges: {exchanges}
kurs import FILE …        import candles from Binance's public files (klines, aggTrades or trades; CSV or ZIP)
kurs export SYMBOL TIMEFRAME FILE   export candles to a CSV or Parquet file; options: kurs export --help
kurs verify [SYMBOL|audit]   check that no sealed day of candles and no entry of the audit log was changed
kurs dead [list]          list messages that could not be processed; also show ID, replay ID…, drop ID…
kurs persons list         list people; also add NAME [--admin], disable NAME, enable NAME, reset NAME, invite [--admin]
kurs tasks [list]         list tasks; also show ID, replay ID, cancel ID
kurs watch [CHANNEL …]    show rates and candles live, from the API on this machine or at --url
kurs keys [list]          list the keys that sign access tokens; kurs keys rotate: sign with a new one
kurs vault [list]         list the master keys; kurs vault rotate: protect what people entrusted with a new one
kurs migrate              upgrade the database to the newest schema
kurs openapi              print the API's OpenAPI description
kurs passwords FOLDER     write server accounts for each container as files; --rotate: with new passwords
kurs --version            print the version

Settings are read from the environment and .env; .env.example describes each."""


def main() -> None:
    """Run the console script.

    Exit codes: 0 stopped by a signal or done, 1 a job failed or a server is unavailable, 2 wrong configuration,
    arguments or files, 130 interrupted, 141 the reader of the output has closed it.
    """
    args = sys.argv[1:]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a console of ASCII must not end a command
    try:
        if {"-h", "--help", "help"} & set(args[:1]) or (args and args[0] in SERVICES and "--help" in args):
            print(USAGE.format(exchanges=" ".join(EXCHANGES)))  # noqa: T201
            code = 0
        elif args[:1] in (["-V"], ["--version"]):
            print(f"kurs {__version__}")  # noqa: T201
            code = 0
        else:
            code = command_line.main(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # `kurs verify | head` closes the pipe early
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # otherwise Python's flush at exit fails
        sys.exit(141)
    except (BadFile, BadRange, BadRequest, Conflict, Misconfigured, AccessRefused, UnknownName) as error:
        print(f"kurs: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except Unavailable as error:  # a service waits for its servers, a command does not
        print(f"kurs: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    sys.exit(code)


if __name__ == "__main__":
    main()
