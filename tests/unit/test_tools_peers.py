"""tools.peers: what is measured is what was stored, wrong content and failures show, nothing is left out."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import time
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tools.peers import __main__ as peers
from tools.peers.base import Item, Peer, PeerError, run, tree_bytes
from tools.peers.borg import Borg
from tools.peers.casync import Casync
from tools.peers.lake import LakeRaw
from tools.peers.measure import Result, check, load, measure
from tools.peers.plain import Plain
from tools.peers.restic import Restic


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of series: three different files of 200 kB, the third like the first; names repeat in subfolders."""
    out, draw = tmp_path / "series", random.Random(0)
    contents = [draw.randbytes(200_000), draw.randbytes(200_000)]
    entries = []
    for number, data in enumerate([*contents, contents[0]]):
        file = out / "S" / f"epoch_{number}" / "model.bin"
        file.parent.mkdir(parents=True)
        file.write_bytes(data)
        name = file.relative_to(out).as_posix()
        entries.append({"file": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})
    (out / "series.json").write_text(json.dumps({"series": {"S": entries}}))
    return out


class Fake(Peer):
    """A store that keeps copies, and does wrong what `fault` says."""

    name = "fake"
    fault: ClassVar[str] = ""

    def version(self) -> str | None:
        return None if self.fault == "missing" else "1"

    def install(self) -> None:
        raise PeerError("no such package")

    def ingest(self, folder: Path, items: list[Item]) -> float:
        if self.fault == "crash":
            run(["sh", "-c", "echo disk full >&2; exit 3"])
        for number, item in enumerate(items):
            shutil.copyfile(item.source, folder / "store" / str(number))
        return 1.0

    def read_back(self, folder: Path, items: list[Item], dest: Path) -> float | None:
        if self.fault == "write-only":
            return None
        for number in range(len(items)):
            shutil.copyfile(folder / "store" / str(number), dest / str(number))
        if self.fault == "damage":
            with (dest / "1").open("r+b") as stream:
                stream.seek(1000)
                stream.write(b"!")
        if self.fault == "lose":
            (dest / "2").unlink()
        return 2.0


def fake(fault: str) -> Fake:
    kind: type[Fake] = type("Faulty", (Fake,), {"fault": fault})
    return kind(Path("unused"))


def test_plain_baseline_and_fake_are_measured_side_by_side(folder: Path, tmp_path: Path) -> None:
    result = measure(fake(""), "S", load(folder)["S"], runs=2, work=tmp_path)
    assert result.error is None
    assert (result.logical_bytes, result.stored_bytes, result.stored) == (600_000, 600_000, 1.0)
    assert len(result.ingest_s) == len(result.plain_ingest_s) == len(result.read_s) == len(result.plain_read_s) == 2
    assert result.read == pytest.approx(2.0 / ((result.plain_read_s[0] + result.plain_read_s[1]) / 2))
    assert not list(tmp_path.glob("peer-*"))


@pytest.mark.parametrize(("fault", "word"), [("damage", "1 of 3"), ("lose", "1 of 3"), ("crash", "disk full")])
def test_wrong_content_and_failures_are_errors(folder: Path, tmp_path: Path, fault: str, word: str) -> None:
    result = measure(fake(fault), "S", load(folder)["S"], runs=1, work=tmp_path)
    assert result.error is not None and word in result.error
    assert peers.cell(result, result.stored, 3) == "failed"
    assert word in peers.table([result], ["S"])
    assert not list(tmp_path.glob("peer-*"))


def test_a_store_that_cannot_read_back_keeps_its_other_figures(folder: Path, tmp_path: Path) -> None:
    result = measure(fake("write-only"), "S", load(folder)["S"], runs=1, work=tmp_path)
    assert result.error is None and result.read is None and result.stored == 1.0
    assert peers.table([result], ["S"]).splitlines()[-1].endswith(" / - |")


def test_missing_peer_is_a_row_that_says_so(folder: Path, tmp_path: Path) -> None:
    results = peers.compare([fake("missing"), fake("")], folder, [], 1, tmp_path)
    assert [result.error is None for result in results] == [False, True]
    assert "not installed" in peers.table(results, ["S"])


def test_install_reports_what_cannot_be_had(capsys: Any) -> None:
    assert peers.install([fake("missing"), Plain(Path("unused"))]) == 1
    said = capsys.readouterr()
    assert "fake: MISSING" in said.out and "plain copy + SHA-256: baseline" in said.out
    assert "no such package" in said.err


def test_plain_store_keeps_equal_content_once(folder: Path, tmp_path: Path) -> None:
    plain, items = Plain(tmp_path), load(folder)["S"]
    plain.create(tmp_path)
    plain.ingest(tmp_path, items)
    assert plain.stored_bytes(tmp_path) == 400_000
    assert sorted(os.listdir(tmp_path / "store")) == sorted({item.sha256 for item in items})


def test_plain_store_notices_damage(folder: Path, tmp_path: Path) -> None:
    plain, items = Plain(tmp_path), load(folder)["S"]
    plain.create(tmp_path)
    plain.ingest(tmp_path, items)
    (tmp_path / "store" / items[1].sha256).write_bytes(b"other")
    (tmp_path / "dest").mkdir()
    with pytest.raises(PeerError, match="is damaged"):
        plain.read_back(tmp_path, items, tmp_path / "dest")


@pytest.mark.parametrize("kind", [LakeRaw, Casync, *(pytest.param(k, marks=pytest.mark.slow) for k in (Borg, Restic))])
def test_real_peers_give_back_every_file(folder: Path, tmp_path: Path, kind: type[Peer]) -> None:
    peer = kind(tmp_path / "home")
    if peer.version() is None:
        pytest.skip(f"{peer.name} is not installed")
    result = measure(peer, "S", load(folder)["S"], runs=1, work=tmp_path)
    assert result.error is None
    assert result.stored is not None and 0.6 < result.stored < 1.0  # random bytes, one file of three twice
    assert result.ingest is not None and result.read is not None


def test_check_counts_copies(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"x").hexdigest()
    items = [Item(tmp_path / "a", "a", digest, 1), Item(tmp_path / "b", "b", digest, 1)]
    (tmp_path / "one").write_bytes(b"x")
    with pytest.raises(PeerError, match="1 of 2"):
        check(items, tmp_path)
    (tmp_path / "two").write_bytes(b"x")
    check(items, tmp_path)


def test_tree_bytes_counts_an_inode_once_and_no_links(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_bytes(b"12345")
    os.link(tmp_path / "sub" / "file", tmp_path / "again")
    (tmp_path / "link").symlink_to(tmp_path / "sub" / "file")
    assert tree_bytes(tmp_path) == 5


def test_changed_or_missing_series_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(PeerError, match=r"python -m tools\.series"):
        load(tmp_path)
    (folder / "S" / "epoch_1" / "model.bin").write_bytes(b"short")
    with pytest.raises(PeerError, match="missing or has changed"):
        load(folder)


def test_unknown_names_are_refused(folder: Path, capsys: Any) -> None:
    assert peers.main([str(folder), "--peers", "raw,nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err
    assert peers.main([str(folder), "--peers", "raw", "--series", "S9"]) == 2
    assert "no series S9" in capsys.readouterr().err
    assert peers.main([]) == 2


def test_json_holds_every_sample(folder: Path, tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "out.json"
    words = ["--peers", "raw", "--runs", "2", "--json", str(file), "--dir", str(tmp_path)]
    assert peers.main([str(folder), *words]) == 0
    (row,) = json.loads(file.read_text())["results"]
    assert row["peer"] == "dreamlake (raw)" and len(row["ingest_s"]) == 2
    assert f"| {row['stored']:.3f} |" in capsys.readouterr().out


def test_run_names_the_command_that_failed() -> None:
    with pytest.raises(PeerError, match=r"sh -c .* ended with 3: boom"):
        run(["sh", "-c", "echo boom >&2; exit 3"])
    with pytest.raises(PeerError, match="no-such-command"):
        run(["no-such-command"])
    assert run(["printf", "said"]) == "said"


def test_ratio_compares_medians() -> None:
    result = Result("p", "S", 100, 50, ingest_s=[9.0, 2.0, 4.0], plain_ingest_s=[1.0, 2.0, 50.0])
    assert (result.stored, result.ingest, result.read) == (0.5, 2.0, None)


def test_times_are_of_the_work(folder: Path, tmp_path: Path) -> None:
    plain = Plain(tmp_path)
    plain.create(tmp_path)
    start = time.perf_counter()
    seconds = plain.ingest(tmp_path, load(folder)["S"])
    assert 0 < seconds < time.perf_counter() - start  # the start of the interpreter is not in it
