"""Where the lake is and how large a file may be: the order of the sources, and what each wrong setting says."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from api_support import run_powerless

from dreamlake import Session, config, open_lake
from dreamlake.errors import InvalidInput, InvalidType, NotFound


@pytest.fixture(autouse=True)
def clean(tmp_path, monkeypatch):
    """An empty current folder, an empty home, no settings."""
    for name in list(os.environ):
        if name.startswith("DREAMLAKE_"):
            monkeypatch.delenv(name)
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.chdir(tmp_path / "here")


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_default_is_experiments_in_the_current_folder(tmp_path):
    assert config.local_path() == str(tmp_path / "here/experiments")
    with Session("s", "w") as session:
        session.files().upload(b"x", filename="x")
    assert (tmp_path / "here/experiments/w/s/session.json").is_file()
    assert os.listdir(tmp_path / "here") == ["experiments"]


def test_each_source_beats_the_ones_after_it(tmp_path, monkeypatch):
    write(tmp_path / "home/.config/dreamlake/config.toml", f'local_path = "{tmp_path}/file"')
    assert config.local_path() == f"{tmp_path}/file"
    monkeypatch.setenv("DREAMLAKE_LOCAL_PATH", f"{tmp_path}/variable")
    assert config.local_path() == f"{tmp_path}/variable"
    assert config.local_path(tmp_path / "argument") == f"{tmp_path}/argument"
    assert config.local_path("argument") == f"{tmp_path}/here/argument"


def test_empty_variables_count_as_unset(tmp_path, monkeypatch):
    for name in ("DREAMLAKE_LOCAL_PATH", "DREAMLAKE_CONFIG", "DREAMLAKE_MAX_FILE_BYTES"):
        monkeypatch.setenv(name, "")
    assert config.local_path() == str(tmp_path / "here/experiments")
    assert config.max_file_bytes() is None


@pytest.mark.parametrize("source", ["argument", "variable", "file"])
def test_tilde_is_expanded(source, tmp_path, monkeypatch):
    given = "~/data" if source == "argument" else None
    if source == "variable":
        monkeypatch.setenv("DREAMLAKE_LOCAL_PATH", "~/data")
    if source == "file":
        write(tmp_path / "home/.config/dreamlake/config.toml", 'local_path = "~/data"')
    assert config.local_path(given) == f"{tmp_path}/home/data"


def test_location_is_fixed_when_the_session_is_made(tmp_path, monkeypatch):
    session = Session("s", "w")
    monkeypatch.chdir(tmp_path)
    with session:
        assert session.local_path == str(tmp_path / "here/experiments")
    assert not (tmp_path / "experiments").exists()


def test_places_of_the_file(tmp_path, monkeypatch):
    assert config.config_file() == f"{tmp_path}/home/.config/dreamlake/config.toml"
    monkeypatch.setenv("XDG_CONFIG_HOME", f"{tmp_path}/xdg")
    assert config.config_file() == f"{tmp_path}/xdg/dreamlake/config.toml"
    monkeypatch.setenv("DREAMLAKE_CONFIG", "~/mine.toml")
    assert config.config_file() == f"{tmp_path}/home/mine.toml"
    assert config.local_path() == f"{tmp_path}/here/experiments"  # no such file
    write(tmp_path / "home/mine.toml", 'local_path = "/somewhere"')
    assert config.local_path() == "/somewhere"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("local_path = ", "config.toml is not valid TOML"),
        ("\x00", "config.toml is not valid TOML"),
        ("locl_path = 'x'", "config.toml: unknown setting 'locl_path'; known are .*local_path"),
        ("local_path = 5", "config.toml: local_path must be text, not 5"),
        ("local_path = ['a']", "config.toml: local_path must be text"),
        ("local_path = ''", "local_path '' is not a folder path"),
    ],
)
def test_bad_file(text, message, tmp_path):
    write(tmp_path / "home/.config/dreamlake/config.toml", text)
    with pytest.raises(InvalidInput, match=message):
        Session("s", "w")
    assert os.listdir(tmp_path / "here") == []


def test_file_that_is_no_text(tmp_path):
    path = write(tmp_path / "home/.config/dreamlake/config.toml", "")
    path.write_bytes(b"local_path = '\xff'")
    with pytest.raises(InvalidInput, match=r"config\.toml is not valid TOML"):
        config.local_path()


def test_file_that_cannot_be_read(tmp_path):
    (tmp_path / "home/.config/dreamlake/config.toml").mkdir(parents=True)
    with pytest.raises(InvalidInput, match=r"configuration file .*config\.toml cannot be read: Is a directory"):
        config.local_path()


def test_home_of_another_user_counts_as_empty(tmp_path):
    """``su`` keeps HOME; nobody may look into it."""
    write(tmp_path / "home/.config/dreamlake/config.toml", "local_path = '/somewhere'")
    os.chmod(tmp_path / "home", 0)
    try:
        printed = run_powerless("from dreamlake import config; print(config.local_path('/x'), config.read_file())")
    finally:
        os.chmod(tmp_path / "home", 0o700)
    assert printed == "/x {}\n"


def test_own_file_that_may_not_be_read(tmp_path):
    path = write(tmp_path / "home/.config/dreamlake/config.toml", "local_path = '/somewhere'")
    os.chmod(path, 0)
    printed = run_powerless(
        """
        from dreamlake import config
        try:
            config.local_path()
        except ValueError as error:
            print(error)
        """
    )
    assert printed == f"the configuration file {path} cannot be read: Permission denied\n"


@pytest.mark.parametrize("given", [5, b"/x", True, ["x"], 1.5])
def test_location_of_another_type(given):
    with pytest.raises(InvalidType, match=f"local_path must be text or a path of text, not {type(given).__name__}"):
        Session("s", "w", local_path=given)


@pytest.mark.parametrize("given", ["", "a\0b"])
def test_location_that_is_none(given):
    with pytest.raises(InvalidInput, match="is not a folder path"):
        Session("s", "w", local_path=given)


def test_limit_sources(tmp_path, monkeypatch):
    assert config.max_file_bytes() is None
    assert open_lake("x", create=True).store.max_file_bytes == 5 * 1024**3
    write(tmp_path / "home/.config/dreamlake/config.toml", "max_file_bytes = 30")
    assert config.max_file_bytes() == 30
    monkeypatch.setenv("DREAMLAKE_MAX_FILE_BYTES", "20")
    assert config.max_file_bytes() == 20
    assert config.max_file_bytes(10) == 10
    assert config.max_file_bytes(np.int64(10)) == 10
    with Session("s", "w", max_file_bytes=3) as session:
        session.files().upload(b"abc", filename="fits")
        with pytest.raises(ValueError, match=r"/over has 4 bytes; the limit is 3\. Raise it with max_file_bytes"):
            session.files().upload(b"abcd", filename="over")
    with Session("s", "w") as session:
        session.files().upload(b"x" * 20, filename="fits")
        with pytest.raises(ValueError, match="21 bytes; the limit is 20"):
            session.files().upload(b"x" * 21, filename="over")


@pytest.mark.parametrize("given", [0, -1, 1.5, 1e9, True, "many", "", [], "1.5"])
def test_bad_limit(given):
    with pytest.raises(InvalidInput, match=r"max_file_bytes=.* is not a positive number of bytes"):
        Session("s", "w", max_file_bytes=given)


@pytest.mark.parametrize(("text", "name"), [("0", "0"), ("'x'", "'x'"), ("1.5", "1.5"), ("true", "True")])
def test_bad_limit_in_the_file(text, name, tmp_path):
    write(tmp_path / "home/.config/dreamlake/config.toml", f"max_file_bytes = {text}")
    with pytest.raises(InvalidInput, match=rf"config\.toml: max_file_bytes={name} is not a positive number"):
        config.max_file_bytes()


def test_bad_limit_in_the_environment(monkeypatch):
    monkeypatch.setenv("DREAMLAKE_MAX_FILE_BYTES", "5GB")
    with pytest.raises(InvalidInput, match="DREAMLAKE_MAX_FILE_BYTES='5GB' is not a positive number"):
        config.max_file_bytes()


def test_open_lake_creates_only_on_request(tmp_path):
    with pytest.raises(NotFound, match=f"no lake in {tmp_path}/here/experiments"):
        open_lake()
    assert os.listdir(tmp_path / "here") == []
