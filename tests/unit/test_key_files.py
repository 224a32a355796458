"""The keys of people: given by settings, or made at the first start of one process."""

import asyncio
import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from services.core.accounts.secret_keys import format_key, parse_keys
from services.core.errors import Misconfigured
from services.key_files import MASTER_KEY, TOKEN_KEY, KeyKind, key_file, load_keys, new_key, prepare_keys, write_keys
from services.settings import Settings, load

SPLIT = "amqp://kurs:kurs@broker/"
EVERYTHING = ("accounts", "api")


def settings_of(folder: Path, **given: Any) -> Settings:
    return Settings(_env_file=None, data_dir=folder, **given)


def test_one_process_makes_each_key_once_and_only_its_user_may_read_them(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "data")
    texts = prepare_keys(settings, EVERYTHING)
    assert prepare_keys(settings, EVERYTHING) == texts
    assert len(set(texts)) == 2
    files = sorted((tmp_path / "data").glob("*.key"))
    assert [file.name for file in files] == ["master.key", "token.key"]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert load_keys(settings, MASTER_KEY) == parse_keys(texts[0])


def test_services_without_people_need_no_key(tmp_path: Path) -> None:
    assert prepare_keys(settings_of(tmp_path), ("collector", "pricer", "writer", "analyst")) == []
    assert prepare_keys(settings_of(tmp_path, RABBITMQ_URL=SPLIT), ("pricer",)) == []
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("kind", "other"), [(MASTER_KEY, TOKEN_KEY), (TOKEN_KEY, MASTER_KEY)])
def test_split_services_need_their_own_key(tmp_path: Path, kind: KeyKind, other: KeyKind) -> None:
    settings = settings_of(tmp_path, RABBITMQ_URL=SPLIT)
    with pytest.raises(Misconfigured, match=rf"^{kind.variable} is missing: .*makes one$"):
        prepare_keys(settings, [kind.service])
    given = settings_of(tmp_path, RABBITMQ_URL=SPLIT, **{kind.setting: format_key(new_key())})
    assert len(prepare_keys(given, [kind.service])) == 1
    with pytest.raises(Misconfigured, match="is missing"):
        prepare_keys(given, [other.service])
    assert not list(tmp_path.iterdir())


def test_keys_of_settings_come_before_those_of_files(tmp_path: Path) -> None:
    keys = new_key(), new_key()
    settings = settings_of(tmp_path, master_key=",".join(map(format_key, keys)))
    assert load_keys(settings, MASTER_KEY) == keys
    assert key_file(settings, MASTER_KEY) is None


START = """
import sys
from pathlib import Path
from typing import Any
from services.key_files import prepare_keys
from services.settings import Settings
settings = Settings(_env_file=None, data_dir=Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
print(*prepare_keys(settings, ("accounts", "api")))
"""


async def test_processes_that_start_at_once_use_the_same_keys(tmp_path: Path) -> None:
    pipe = asyncio.subprocess.PIPE
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", START, str(tmp_path), stdin=pipe, stdout=pipe)
        for _ in range(6)
    ]
    for process in processes:
        assert process.stdout
        await process.stdout.readline()
    results = await asyncio.gather(*(process.communicate(b"\n") for process in processes))
    printed = {stdout for stdout, _ in results}
    assert len(printed) == 1
    assert len(printed.pop().split()) == 2
    assert sorted(file.name for file in tmp_path.iterdir()) == ["keys.lock", "master.key", "token.key"]


def test_file_that_others_may_read_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = settings_of(tmp_path)
    with caplog.at_level(logging.INFO, "services.key_files"):
        texts = prepare_keys(settings, ["api"])
        assert "copy it to a safe place" in caplog.text
        caplog.clear()
        (tmp_path / "token.key").chmod(0o640)
        prepare_keys(settings, ["api"])
    assert f"chmod 600 {tmp_path / 'token.key'}" in caplog.text
    assert texts[0] not in caplog.text


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"\xff\xfe", "it is not text"),
        (b"hunter2", "32 random bytes"),
        (b"A" * 43, "repeats itself"),
        (None, "is missing"),
    ],
)
def test_damaged_file_ends_the_start_with_a_line(tmp_path: Path, content: bytes | None, why: str) -> None:
    settings = settings_of(tmp_path)
    if content is not None:
        (tmp_path / "master.key").write_bytes(content)
    with pytest.raises(Misconfigured, match=why) as refused:
        load_keys(settings, MASTER_KEY)
    assert str(tmp_path / "master.key") in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Misconfigured, match=r"cannot be made .* choose another KURS_DATA_DIR"):
        prepare_keys(settings_of(tmp_path / "file"), ["api"])


def test_replaced_file_keeps_its_mode_and_its_keys_in_order(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    prepare_keys(settings, ["accounts"])
    file = key_file(settings, MASTER_KEY)
    assert file
    keys = new_key(), *load_keys(settings, MASTER_KEY)
    write_keys(file, keys)
    assert load_keys(settings, MASTER_KEY) == keys
    assert file.stat().st_mode & 0o777 == 0o600
    assert sorted(file.name for file in tmp_path.iterdir()) == ["keys.lock", "master.key"]


def test_weak_setting_is_refused_and_good_ones_are_hidden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KURS_MASTER_KEY", "hunter2")
    with pytest.raises(Misconfigured, match=r"^KURS_MASTER_KEY: a key is 32 random bytes") as refused:
        load()
    assert "hunter2" not in str(refused.value)
    keys = format_key(new_key()), format_key(new_key())
    monkeypatch.setenv("KURS_MASTER_KEY", ", ".join(keys))
    (tmp_path / "token").write_text(format_key(new_key()) + "\n")
    monkeypatch.setenv("KURS_TOKEN_KEY_FILE", str(tmp_path / "token"))
    settings = load()
    assert {*keys, (tmp_path / "token").read_text().strip()} <= set(settings.secrets)
    assert not [key for key in keys if key in repr(settings)]
