"""Materialize: the tree is exact, ours are told from the user's, nothing partial, nothing outside, nothing lost."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from materialize_fakes import CloningFs, FailingFs, FoldingFs, Killed, MortalFs, RigidFs, WatchedFs

from dreamlake import InvalidInput, NotFound, Session, open_lake
from dreamlake.content import frame
from dreamlake.lake import Lake
from dreamlake.model import SessionKey
from dreamlake.operations.commit import commit
from dreamlake.operations.materialize import Materialized, Options, Plan, execute, plan, sessions_of
from dreamlake.operations.survey import State
from dreamlake.ports import OsFs, Ports

KEY = SessionKey("ws", "run 1")
CONTENT = {"/a.txt": b"alpha", "/models/best.pth": b"weights" * 1000, "/models/deep/x.bin": b"", "/häß/ü.txt": b"text"}


class Tree:
    """A lake with one session, and its tree on disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = root / "ws" / "run 1" / "files"
        self.session = Session("run 1", "ws", local_path=root).open()
        for key, data in CONTENT.items():
            self.put(key, data)

    def put(self, key: str, data: bytes) -> dict[str, Any]:
        folder, _, name = key.rpartition("/")
        return self.session.files.upload(data, filename=name, path=folder or "/")

    def lake(self, ports: Ports | None = None) -> Lake:
        return open_lake(self.root, ports=ports)

    def plan(
        self, *, ports: Ports | None = None, to: Any = None, scope: Any = "ws", extras: bool = False, **options: Any
    ) -> Plan:
        lake = self.lake(ports)
        sessions = sessions_of(lake.store, scope)
        return plan(lake.store, sessions, Options(**options), to=to, folder_of=lake.session_folder, extras=extras)

    def run(self, *, ports: Ports | None = None, to: Any = None, scope: Any = "ws", **options: Any) -> Materialized:
        return execute(self.lake(ports).store, self.plan(ports=ports, to=to, scope=scope, **options))

    def forget(self) -> None:
        """Lose the memory of what was placed."""
        for path in (self.root / ".dreamlake" / "placed").iterdir():
            path.unlink()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Durability is not at stake here: no waiting for the disk."""
    for name in ("fsync", "fsync_dir", "sync"):
        monkeypatch.setattr(OsFs, name, lambda fs, path: None)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "lake")


def on_disk(folder: Path) -> dict[str, bytes]:
    """Logical path -> content of every file below a folder; links are shown as such."""
    found = {}
    for here, folders, names in os.walk(folder):
        for name in [*names, *(f for f in folders if os.path.islink(os.path.join(here, f)))]:
            path = os.path.join(here, name)
            found["/" + os.path.relpath(path, folder)] = (
                b"-> " + os.readlink(path).encode() if os.path.islink(path) else Path(path).read_bytes()
            )
    return found


def facts(folder: Path) -> dict[str, tuple[int, ...]]:
    out = {}
    for here, folders, names in os.walk(folder):
        for name in [*names, *folders]:
            s = os.lstat(os.path.join(here, name))
            out[os.path.join(here, name)] = (s.st_ino, s.st_mtime_ns, s.st_ctime_ns, s.st_size, s.st_mode)
    return out


def codes(result: Materialized | Plan) -> dict[str, str]:
    return {p.key: p.code for p in result.conflicts}


# ---- the tree ----------------------------------------------------------------------------------------------------


def test_builds_exactly_the_documented_tree(tree: Tree) -> None:
    result = tree.run()
    assert on_disk(tree.files) == CONTENT
    assert (result.placed, result.unchanged, result.removed, result.conflicts, result.missing) == (4, 0, 0, [], [])
    assert result.bytes == sum(map(len, CONTENT.values()))
    assert sum(result.links.values()) == 4 and result.complete
    assert not [name for name in os.listdir(tree.files / "models") if name.startswith(".")]


def test_copies_are_ordinary_writable_files_that_carry_their_upload_time(tree: Tree) -> None:
    mask = os.umask(0o027)
    try:
        tree.run(link="copy")
    finally:
        os.umask(mask)
    record = tree.session.files.get("/a.txt")
    found = os.stat(tree.files / "a.txt")
    assert stat.S_IMODE(found.st_mode) == 0o640
    uploaded = datetime.fromisoformat(record["uploadedAt"].replace("Z", "+00:00"))
    assert found.st_mtime_ns // 1000 == round(uploaded.timestamp() * 1_000_000)


@pytest.mark.parametrize("link", ["auto", "copy", "hardlink", "symlink"])
def test_a_second_run_changes_nothing_and_reads_no_content(tree: Tree, link: str) -> None:
    tree.run(link=link)
    before = facts(tree.files)
    fs, opened = WatchedFs(), []
    fs.before = lambda name, *args: opened.append(args[0]) if name == "open" else None  # type: ignore[method-assign]
    result = tree.run(ports=Ports(fs=fs), link=link)
    assert (result.placed, result.unchanged) == (0, 4)
    assert facts(tree.files) == before
    assert fs.changes == 0
    assert not [path for path in opened if "/files/" in path or (link != "symlink" and "/blobs/" in path)]


def test_plan_changes_nothing_and_prints_what_would_be_done(tree: Tree) -> None:
    before = facts(tree.root)
    todo = tree.plan()
    assert sorted(todo.actions()) == sorted(("place", f"ws/run 1/files{key}") for key in CONTENT)
    assert todo.bytes == sum(map(len, CONTENT.values()))
    assert facts(tree.root) == before


def test_new_versions_replace_untouched_files(tree: Tree) -> None:
    tree.run()
    tree.put("/a.txt", b"alpha 2")
    todo = tree.plan()
    assert list(todo.actions()) == [("replace", "ws/run 1/files/a.txt")]
    assert tree.run().placed == 1
    assert on_disk(tree.files) == CONTENT | {"/a.txt": b"alpha 2"}


def test_scope_is_a_session_a_workspace_or_the_lake(tree: Tree, tmp_path: Path) -> None:
    for name, workspace in (("run 2", "ws"), ("run 1", "other")):
        with Session(name, workspace, local_path=tree.root) as session:
            session.files.upload(name.encode(), filename="n.txt")
    assert tree.run(scope="ws/run 1", to=tmp_path / "one").placed == 4
    assert tree.run(scope="ws", to=tmp_path / "two").placed == 5
    assert tree.run(scope=None, to=tmp_path / "three").placed == 6
    assert sorted(os.listdir(tmp_path / "three")) == ["other", "ws"]
    assert (tmp_path / "three/ws/run 2/files/n.txt").read_bytes() == b"run 2"
    for unknown in ("ws/none", "none"):
        with pytest.raises(NotFound, match="none"):
            sessions_of(tree.lake().store, unknown)


def test_path_limits_what_is_placed_and_removed(tree: Tree) -> None:
    assert tree.run(path="/models/**").placed == 2
    assert set(on_disk(tree.files)) == {"/models/best.pth", "/models/deep/x.bin"}
    tree.run()
    for key in ("/a.txt", "/models/best.pth"):
        tree.session.files.delete(key)
    assert tree.run(path="*.txt", delete=True).removed == 1
    assert set(on_disk(tree.files)) == set(CONTENT) - {"/a.txt"}


def test_another_root_gets_the_same_tree(tree: Tree, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "out"
    assert tree.run(to=target).placed == 4
    assert on_disk(target / "ws" / "run 1" / "files") == CONTENT
    assert not tree.files.exists()
    assert tree.run(to=target).unchanged == 4


def test_roots_that_cannot_be(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InvalidInput, match="not a folder"):
        tree.plan(to=tmp_path / "file")
    with pytest.raises(InvalidInput, match="inside the store"):
        tree.plan(to=tree.root / ".dreamlake" / "x")
    with pytest.raises(InvalidInput, match="use auto, reflink"):
        Options(link="magic")


# ---- local edits -------------------------------------------------------------------------------------------------


def edit_longer(path: Path) -> None:
    path.write_bytes(b"my own work, longer than it was")


def edit_same_size(path: Path) -> None:
    path.write_bytes(b"ALPHA")


def edit_and_restore_the_times(path: Path) -> None:
    was = path.stat()
    path.write_bytes(b"ALPHA")
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))


def replace_by_another(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"ALPHA")
    os.utime(other, ns=(path.stat().st_mtime_ns, path.stat().st_mtime_ns))
    other.rename(path)


def cut_short(path: Path) -> None:
    path.write_bytes(b"al")


def replace_by_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname")


EDITS = [edit_longer, edit_same_size, edit_and_restore_the_times, replace_by_another, cut_short, replace_by_link]


@pytest.mark.parametrize("upload", [False, True], ids=["same version", "new version"])
@pytest.mark.parametrize("memory", [True, False], ids=["remembered", "memory lost"])
@pytest.mark.parametrize("edit", EDITS, ids=lambda f: f.__name__)
def test_a_local_edit_is_reported_and_left_alone_unless_forced(
    tree: Tree, edit: Any, memory: bool, upload: bool
) -> None:
    tree.run(link="copy")
    edit(tree.files / "a.txt")
    edited = on_disk(tree.files)
    newest = tree.put("/a.txt", b"alpha 2") and b"alpha 2" if upload else b"alpha"
    if not memory:
        tree.forget()
    result = tree.run()
    assert codes(result) == {"/a.txt": "edited"} and not result.complete
    assert "force" in result.conflicts[0].reason and str(tree.files / "a.txt") in result.conflicts[0].reason
    assert on_disk(tree.files) == edited
    assert tree.run(force=True).placed == 1
    assert on_disk(tree.files) == CONTENT | {"/a.txt": newest}
    assert tree.run().unchanged == 4


def test_without_memory_content_decides(tree: Tree) -> None:
    tree.run(link="copy")
    tree.put("/a.txt", b"alpha 2")
    tree.forget()
    before = facts(tree.files / "models")
    result = tree.run()
    assert (result.placed, result.unchanged, result.conflicts) == (1, 3, [])  # an older version of /a.txt is no edit
    assert facts(tree.files / "models") == before
    fs = WatchedFs()
    assert tree.run(ports=Ports(fs=fs)).unchanged == 4
    assert fs.changes == 0  # what was compared is known again


def test_with_memory_an_older_version_put_back_by_hand_is_an_edit(tree: Tree) -> None:
    tree.put("/a.txt", b"alpha 2")
    tree.run()
    (tree.files / "a.txt").write_bytes(b"alpha")
    tree.put("/a.txt", b"alpha 3")
    assert codes(tree.run()) == {"/a.txt": "edited"}


@pytest.mark.parametrize("link", ["hardlink", "symlink"])
@pytest.mark.parametrize("edit", [edit_longer, edit_same_size, replace_by_another, replace_by_link])
def test_an_edit_in_the_place_of_a_link_is_reported_too(tree: Tree, link: str, edit: Any) -> None:
    tree.run(link=link)
    path = tree.files / "a.txt"
    stamp = os.lstat(path).st_mtime_ns
    if edit in (edit_longer, edit_same_size):  # as editors do: a new file in the place of the old
        path.unlink()
    edit(path)
    if not path.is_symlink():
        os.utime(path, ns=(stamp, stamp))
    edited = on_disk(tree.files)
    tree.put("/a.txt", b"alpha 2")
    assert codes(tree.run(link=link)) == {"/a.txt": "edited"}
    assert on_disk(tree.files) == edited


def test_a_touched_file_is_no_edit(tree: Tree) -> None:
    tree.run(link="copy")
    os.utime(tree.files / "a.txt")
    os.chmod(tree.files / "models/best.pth", 0o600)
    assert tree.run().unchanged == 4
    tree.put("/a.txt", b"alpha 2")
    os.utime(tree.files / "a.txt")
    assert tree.run().placed == 1


def test_the_memory_may_be_torn_or_nonsense(tree: Tree) -> None:
    tree.run(link="copy")
    (memory,) = (tree.root / ".dreamlake" / "placed").iterdir()
    data = memory.read_bytes()
    memory.write_bytes(data[: len(data) // 2])
    assert tree.run().unchanged == 4
    memory.write_bytes(b'\n["file","/a.txt",1,2]\n["what"]\n{"x":1}\n["file","/a.txt","d",1,1,1,1,"copy"\n\xff\n')
    assert tree.run().unchanged == 4
    (tree.files / "a.txt").write_bytes(b"mine")
    memory.write_bytes(b"[[[[")
    assert codes(tree.run()) == {"/a.txt": "edited"}


def test_the_memory_does_not_grow_for_ever(tree: Tree) -> None:
    (memory,) = (tree.run(), *(tree.root / ".dreamlake" / "placed").iterdir())[1:]
    size = memory.stat().st_size
    for number in range(400):
        tree.put("/a.txt", b"%d" % number)
        tree.run(path="/a.txt")
    assert memory.stat().st_size < size + 300 * 400 * 0.7
    assert tree.run().unchanged == 4


def test_an_edit_between_plan_and_execute_survives(tree: Tree) -> None:
    tree.run()
    tree.put("/a.txt", b"alpha 2")
    tree.session.files.delete("/models/best.pth")
    tree.put("/new.txt", b"new")
    todo = tree.plan(delete=True)
    (tree.files / "a.txt").write_bytes(b"mine")
    (tree.files / "models/best.pth").write_bytes(b"mine too")
    (tree.files / "new.txt").write_bytes(b"mine as well")
    result = execute(tree.lake().store, todo)
    assert codes(result) == {"/a.txt": "changed", "/models/best.pth": "edited", "/new.txt": "changed"}
    assert {k: v for k, v in on_disk(tree.files).items() if v.startswith(b"mine")}.keys() == codes(result).keys()


def test_what_another_run_placed_meanwhile_is_right(tree: Tree) -> None:
    todo = tree.plan()
    tree.run()
    before = {key: os.stat(tree.files / key[1:]).st_ino for key in CONTENT}
    result = execute(tree.lake().store, todo)
    assert (result.placed, result.unchanged, result.conflicts) == (0, 4, [])
    assert {key: os.stat(tree.files / key[1:]).st_ino for key in CONTENT} == before


@pytest.mark.parametrize("memory", [True, False])
def test_a_file_cut_short_by_a_power_loss_is_no_edit(tree: Tree, memory: bool) -> None:
    tree.run(link="copy")
    path = tree.files / "models/best.pth"
    was = path.stat()
    os.truncate(path, 0)
    os.utime(path, ns=(was.st_mtime_ns, was.st_mtime_ns))
    if not memory:
        tree.forget()
    assert tree.run().placed == 1
    assert on_disk(tree.files) == CONTENT


# ---- check and delete --------------------------------------------------------------------------------------------


def disorder(tree: Tree) -> None:
    """One of everything that can be wrong."""
    tree.run(link="copy")
    (tree.files / "a.txt").write_bytes(b"edited")
    tree.put("/models/best.pth", b"better")
    (tree.files / "häß/ü.txt").unlink()
    (tree.files / "models/own.txt").write_bytes(b"the user's")
    (tree.files / "own").mkdir()
    (tree.files / "own/x.txt").write_bytes(b"the user's")
    tree.session.files.delete("/models/deep/x.bin")


def test_check_tells_missing_edited_stale_and_extra_and_changes_nothing(tree: Tree) -> None:
    assert not tree.plan(extras=True).in_order
    disorder(tree)
    before = facts(tree.root)
    todo = tree.plan(extras=True)
    assert facts(tree.root) == before
    assert todo.files(State.ABSENT) == [(KEY, "/häß/ü.txt")]
    assert todo.files(State.STALE) == [(KEY, "/models/best.pth")]
    assert codes(todo) == {"/a.txt": "edited"}
    (one,) = todo.trees
    assert one.extra == ["/models/own.txt", "/own/x.txt"]
    assert [key for key, _ in one.obsolete] == ["/models/deep/x.bin"]
    assert not todo.in_order


def test_check_of_a_tree_in_order(tree: Tree) -> None:
    tree.run()
    assert tree.plan(extras=True).in_order


def test_delete_removes_only_what_was_placed_and_not_edited(tree: Tree) -> None:
    disorder(tree)
    kept = tree.run()
    assert (kept.removed, kept.obsolete) == (0, 1)
    assert (tree.files / "models/deep/x.bin").exists()
    result = tree.run(delete=True)
    assert (result.removed, result.obsolete) == (1, 0)
    assert not (tree.files / "models/deep").exists()
    assert on_disk(tree.files) == {
        "/a.txt": b"edited", "/models/best.pth": b"better", "/häß/ü.txt": b"text",
        "/models/own.txt": b"the user's", "/own/x.txt": b"the user's",
    }  # fmt: skip


def test_delete_leaves_an_edited_file_and_says_so(tree: Tree) -> None:
    tree.run()
    tree.session.files.delete("/a.txt")
    (tree.files / "a.txt").write_bytes(b"edited")
    for force in (False, True):
        result = tree.run(delete=True, force=force)
        assert codes(result) == {"/a.txt": "edited"} and result.removed == 0
        assert (tree.files / "a.txt").read_bytes() == b"edited"


def test_delete_empties_folders_it_made_and_no_others(tree: Tree, tmp_path: Path) -> None:
    target = tmp_path / "out"
    (target / "ws").mkdir(parents=True)
    tree.run(to=target)
    (target / "ws/run 1/files/user").mkdir()
    for key in CONTENT:
        tree.session.files.delete(key)
    assert tree.run(to=target, delete=True).removed == 4
    assert sorted(p.relative_to(target).as_posix() for p in target.rglob("*")) == [
        "ws", "ws/run 1", "ws/run 1/files", "ws/run 1/files/user",
    ]  # fmt: skip
    (target / "ws/run 1/files/user").rmdir()
    tree.run(to=target, delete=True)
    assert os.listdir(target) == ["ws"] and not os.listdir(target / "ws")


def test_delete_without_memory_removes_nothing(tree: Tree) -> None:
    tree.run()
    tree.session.files.delete("/a.txt")
    tree.forget()
    assert tree.run(delete=True).removed == 0
    assert (tree.files / "a.txt").exists()
    assert tree.plan(extras=True).trees[0].extra == ["/a.txt"]


def test_a_dropped_session_goes_with_its_workspace(tree: Tree) -> None:
    tree.run()
    commit(tree.lake().store, KEY, [{"op": "drop"}])
    assert tree.run(delete=True).removed == 4
    assert not tree.files.exists()


def test_a_file_moved_in_the_tree_moves_on_disk(tree: Tree) -> None:
    tree.run()
    tree.session.files.move("/models/best.pth", "/final/best.pth")
    result = tree.run(delete=True)
    assert (result.placed, result.removed) == (1, 1)
    assert on_disk(tree.files) == {k.replace("/models/best", "/final/best"): v for k, v in CONTENT.items()}


def test_a_file_becomes_a_folder_and_a_folder_a_file(tree: Tree) -> None:
    tree.run()
    files = tree.session.files
    for key in ("/a.txt", "/models/deep/x.bin"):
        files.delete(key)
    tree.put("/a.txt/inside.txt", b"inside")
    tree.put("/models/deep", b"a file now")
    result = tree.run()
    assert codes(result) == {"/a.txt/inside.txt": "file-in-the-way", "/models/deep": "folder"}
    assert on_disk(tree.files) == CONTENT
    result = tree.run(delete=True)
    assert (result.conflicts, result.removed, result.placed) == ([], 2, 2)
    wanted = {k: v for k, v in CONTENT.items() if k not in ("/a.txt", "/models/deep/x.bin")}
    assert on_disk(tree.files) == wanted | {"/a.txt/inside.txt": b"inside", "/models/deep": b"a file now"}


# ---- in the way --------------------------------------------------------------------------------------------------


def test_nothing_is_written_through_a_symbolic_link(tree: Tree, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    tree.files.mkdir(parents=True)
    (tree.files / "models").symlink_to(outside)
    for options in ({}, {"force": True}, {"delete": True}):
        result = tree.run(**options)
        assert codes(result) == {"/models/best.pth": "symlink", "/models/deep/x.bin": "symlink"}
        assert os.listdir(outside) == []
    assert (tree.files / "models").is_symlink()


def test_a_session_folder_that_is_a_link_blocks_all_of_it(tree: Tree, tmp_path: Path) -> None:
    target, outside = tmp_path / "out", tmp_path / "outside"
    for folder in (target, outside):
        folder.mkdir()
    (target / "ws").symlink_to(outside)
    assert set(codes(tree.run(to=target)).values()) == {"symlink"}
    assert os.listdir(outside) == []


def test_a_folder_replaced_by_a_link_after_the_plan(tree: Tree, tmp_path: Path) -> None:
    tree.run()
    tree.put("/models/new.bin", b"new")
    todo = tree.plan()
    os.rename(tree.files / "models", tmp_path / "moved")
    (tree.files / "models").symlink_to(tmp_path / "moved")
    assert codes(execute(tree.lake().store, todo)) == {"/models/new.bin": "symlink"}
    assert not (tmp_path / "moved/new.bin").exists()


def test_folders_and_pipes_in_the_way_are_left_alone(tree: Tree) -> None:
    (tree.files / "a.txt").mkdir(parents=True)
    (tree.files / "models").mkdir()
    os.mkfifo(tree.files / "models/best.pth")
    for force in (False, True):
        result = tree.run(force=force)
        assert codes(result) == {"/a.txt": "folder", "/models/best.pth": "not-a-file"}
    assert stat.S_ISFIFO((tree.files / "models/best.pth").stat().st_mode)


@pytest.mark.parametrize(
    "names", [("/A.txt",), ("/Models/other.bin", "/MODELS/best.pth"), ("/ha\u0308ß/ü.txt", "/häss/ü.txt")]
)
def test_names_that_the_file_system_takes_for_one_do_not_damage_each_other(tree: Tree, names: tuple[str, ...]) -> None:
    for name in names:
        tree.put(name, name.encode())
    ports = Ports(fs=FoldingFs(str(tree.root / "ws")))
    result = tree.run(ports=ports)
    assert codes(result) == dict.fromkeys(names, "same-name")
    assert on_disk(tree.files) == CONTENT
    before = facts(tree.files)
    again = tree.run(ports=ports)
    assert codes(again) == dict.fromkeys(names, "same-name") and again.unchanged == 4
    assert facts(tree.files) == before
    tree.forget()
    assert codes(tree.run(ports=ports, force=True)) == dict.fromkeys(names, "same-name")
    assert on_disk(tree.files) == CONTENT
    assert tree.run().placed == len(names)  # where they are different names, all have their place


def test_a_change_of_case_on_a_folding_file_system(tree: Tree) -> None:
    ports = Ports(fs=FoldingFs(str(tree.root / "ws")))
    tree.run(ports=ports)
    tree.session.files.move("/a.txt", "/A.TXT")
    assert codes(tree.run(ports=ports)) == {"/A.TXT": "same-name"}
    result = tree.run(ports=ports, delete=True)
    assert (result.conflicts, result.removed, result.placed) == ([], 1, 1)
    assert (tree.files / "A.TXT").read_bytes() == b"alpha"


# ---- links -------------------------------------------------------------------------------------------------------


def stored(tree: Tree, key: str) -> Path:
    digest = tree.session.files.get(key)["checksum"]
    return next((tree.root / ".dreamlake" / "blobs").glob(f"*/{digest}"))


def test_hard_links_share_the_stored_copy_and_are_read_only(tree: Tree) -> None:
    assert tree.run(link="hardlink").links == {"hardlink": 4}
    found = os.stat(tree.files / "a.txt")
    assert found.st_ino == os.stat(stored(tree, "/a.txt")).st_ino
    assert stat.S_IMODE(found.st_mode) == 0o444
    tree.put("/a.txt", b"alpha 2")
    assert tree.run(link="hardlink").placed == 1
    tree.session.files.delete("/a.txt")
    assert tree.run(delete=True).removed == 1
    assert tree.session.files.read_bytes("/models/best.pth") == CONTENT["/models/best.pth"]


def test_files_of_one_content_share_an_inode_as_hard_links_and_are_still_told_apart(tree: Tree) -> None:
    tree.put("/same.txt", b"alpha")
    tree.run(link="hardlink")
    assert tree.run(link="copy").placed == 5
    tree.run(link="hardlink")
    for key in ("/a.txt", "/same.txt"):
        tree.session.files.delete(key)
    assert tree.run(delete=True).removed == 2


def test_symbolic_links_are_relative_so_that_a_lake_can_be_moved(tree: Tree, tmp_path: Path) -> None:
    assert tree.run(link="symlink").links == {"symlink": 4}
    tree.session.close()
    tree.root.rename(tmp_path / "moved")
    moved = tmp_path / "moved/ws/run 1/files"
    assert {key: (moved / key[1:]).read_bytes() for key in CONTENT} == CONTENT
    lake = open_lake(tmp_path / "moved")
    todo = plan(lake.store, [KEY], Options(link="symlink"), extras=True)
    assert todo.in_order  # the memory moves along


def test_symbolic_links_elsewhere_are_absolute(tree: Tree, tmp_path: Path) -> None:
    tree.run(link="symlink", to=tmp_path / "out")
    link = os.readlink(tmp_path / "out/ws/run 1/files/a.txt")
    assert link == str(stored(tree, "/a.txt"))


def test_links_without_memory_are_known_by_where_they_point(tree: Tree) -> None:
    tree.run(link="symlink")
    tree.put("/a.txt", b"alpha 2")
    tree.forget()
    result = tree.run(link="symlink")
    assert (result.placed, result.unchanged, result.conflicts) == (1, 3, [])


def test_another_kind_of_link_replaces_our_own_files_once(tree: Tree) -> None:
    tree.run(link="copy")
    (tree.files / "a.txt").write_bytes(b"edited")
    for link in ("hardlink", "symlink", "copy"):
        result = tree.run(link=link)
        assert (result.placed, codes(result)) == (3, {"/a.txt": "edited"})
        assert tree.run(link=link).placed == 0
        assert tree.run(link="auto").placed == 0
    assert on_disk(tree.files) == CONTENT | {"/a.txt": b"edited"}


def test_reflinks_where_there_are_some_and_copies_elsewhere(tree: Tree, tmp_path: Path) -> None:
    assert tree.run(ports=Ports(fs=CloningFs()), to=tmp_path / "1").links == {"reflink": 4}
    assert on_disk(tmp_path / "1/ws/run 1/files") == CONTENT
    record = tree.session.files.get("/a.txt")["uploadedAt"]
    when = datetime.fromtimestamp((tmp_path / "1/ws/run 1/files/a.txt").stat().st_mtime, timezone.utc)
    assert when.strftime("%Y-%m-%dT%H:%M:%S") == record[:19]
    assert tree.run(ports=Ports(fs=RigidFs()), to=tmp_path / "2").links == {"copy": 4}


@pytest.mark.parametrize("link", ["reflink", "hardlink"])
def test_links_that_cannot_be_made_are_refused_before_anything_is_done(tree: Tree, tmp_path: Path, link: str) -> None:
    with pytest.raises(InvalidInput, match=f"no {link} .*use copy"):
        tree.run(ports=Ports(fs=RigidFs()), to=tmp_path / "out", link=link)
    assert on_disk(tmp_path / "out") == {}


@pytest.mark.parametrize("link", ["reflink", "hardlink", "symlink", "auto"])
def test_content_that_is_not_stored_as_it_is_gets_copied(tree: Tree, link: str) -> None:
    odd = frame.MAGIC + b"content that begins like a frame"
    tree.put("/odd.bin", odd)
    result = tree.run(link=link, ports=Ports(fs=CloningFs()))
    assert result.links["copy"] == 1
    assert on_disk(tree.files)["/odd.bin"] == odd
    assert tree.run(link=link, ports=Ports(fs=CloningFs())).placed == 0


def test_a_link_to_content_that_was_coded_meanwhile_becomes_a_copy(tree: Tree) -> None:
    tree.run(link="symlink")
    blob = stored(tree, "/a.txt")
    blob.unlink()
    blob.write_bytes(frame.raw_header() + b"alpha")
    result = tree.run(link="symlink")
    assert result.links == {"copy": 1}
    assert (tree.files / "a.txt").read_bytes() == b"alpha"


# ---- content that is not there -----------------------------------------------------------------------------------


@pytest.mark.parametrize("link", ["auto", "copy", "hardlink", "symlink"])
def test_missing_and_damaged_content_is_reported_for_each_file(tree: Tree, link: str) -> None:
    stored(tree, "/a.txt").unlink()
    bad = stored(tree, "/models/best.pth")
    bad.chmod(0o644)
    bad.write_bytes(b"damaged" * 1000)
    result = tree.run(link=link)
    assert {p.key: p.code for p in result.missing} == {"/a.txt": "gone", "/models/best.pth": "damaged"}
    assert set(on_disk(tree.files)) == {"/models/deep/x.bin", "/häß/ü.txt"}
    assert result.placed == 2 and not result.complete


def test_large_content_is_verified_too_and_a_damaged_copy_cannot_fill_the_disk(tree: Tree) -> None:
    data = os.urandom(5 << 20)
    tree.put("/big.bin", data)
    assert tree.run(path="/big.bin").placed == 1
    assert (tree.files / "big.bin").read_bytes() == data
    (tree.files / "big.bin").unlink()
    bad = stored(tree, "/big.bin")
    bad.chmod(0o644)
    for wrong in (data[:-1] + b"\0", data + data, data[:-7]):
        bad.write_bytes(wrong)
        result = tree.run(path="/big.bin", link="copy")
        assert [p.code for p in result.missing] == ["damaged"]
        assert set(on_disk(tree.files)) == set()


def test_claims_over_the_content_are_held_while_it_is_read_and_never_committed(tree: Tree) -> None:
    fs = WatchedFs()
    seen: list[tuple[str, ...]] = []
    catalog = tree.lake().store.catalog

    def look(name: str, *args: Any) -> None:
        if name == "create" and "/files/" in args[0]:
            seen.extend(p.record.needs for p in catalog.pending() if p.record.entries == ({"op": "read"},))

    fs.before = look  # type: ignore[method-assign]
    records = catalog.view(KEY).n
    tree.run(ports=Ports(fs=fs), link="copy")
    digests = {r["checksum"] for r in tree.session.files.list()}
    assert len(seen) == 4 and all(set(needs) == digests for needs in seen)
    assert list(catalog.pending()) == [] and catalog.view(KEY).n == records


# ---- as it was ---------------------------------------------------------------------------------------------------


def test_the_tree_as_it_was(tree: Tree, tmp_path: Path) -> None:
    files = tree.session.files
    first = files.get("/häß/ü.txt")["uploadedAt"]  # the last of the first uploads
    tree.put("/a.txt", b"alpha 2")
    second = files.get("/a.txt")["uploadedAt"]
    files.move("/models/best.pth", "/final.pth")
    files.delete("/models/deep/x.bin")
    tree.put("/a.txt", b"alpha 3")
    tree.put("/late.txt", b"late")

    def at(moment: Any) -> dict[str, bytes]:
        target = tmp_path / str(len(os.listdir(tmp_path)))
        tree.run(to=target, at=moment)
        return on_disk(target / "ws/run 1/files")

    assert at(first) == CONTENT
    assert at(second) == CONTENT | {"/a.txt": b"alpha 2"}
    assert at(datetime(2001, 1, 1)) == {}
    now = {"/a.txt": b"alpha 3", "/final.pth": CONTENT["/models/best.pth"], "/häß/ü.txt": b"text", "/late.txt": b"late"}
    assert at(None) == now == at(datetime.now(timezone.utc).isoformat())
    assert at(1) == now | {"/a.txt": b"alpha"} == at("v1") == at("1")
    assert at(2) == now | {"/a.txt": b"alpha 2"}
    assert at(99) == now
    for bad in ("yesterday", 1.5, True, "v1.5"):
        with pytest.raises(InvalidInput):
            at(bad)


def test_going_back_and_forth_in_time_follows_with_delete(tree: Tree) -> None:
    before = datetime.now(timezone.utc)
    tree.put("/a.txt", b"alpha 2")
    tree.put("/late.txt", b"late")
    now = on_disk(tree.files) if tree.run() else {}
    tree.run(at=before, delete=True)
    assert on_disk(tree.files) == CONTENT
    tree.run(delete=True)
    assert on_disk(tree.files) == now


# ---- crashes and errors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("link", ["copy", "hardlink"])
def test_a_crash_at_any_call_leaves_nothing_partial_and_the_next_run_tidies_up(tmp_path: Path, link: str) -> None:
    tree = Tree(tmp_path / "lake")
    target = tmp_path / "out"
    files = target / "ws/run 1/files"
    tree.run(to=target, link=link)
    old = dict(CONTENT)
    for last in range(60):
        new = {key: data + b"%d" % last for key, data in CONTENT.items() if key != "/a.txt"}
        for key, data in new.items():
            tree.put(key, data)
        died = False
        try:
            tree.run(ports=Ports(fs=MortalFs(str(target), last)), to=target, link=link, delete=True)
        except Killed:
            died = True
        for key, data in on_disk(files).items():
            if not key.rpartition("/")[2].startswith(".dreamlake-"):
                assert data in (old[key], new.get(key)), (last, key)
        result = tree.run(ports=Ports(is_dead=lambda owner: True), to=target, link=link, delete=True)
        assert result.complete
        old = CONTENT | new
        assert on_disk(files) == old  # scratch of the dead run is gone, too
        if not died:
            break
    assert not died and last > 5


def test_a_crash_while_removing(tree: Tree) -> None:
    for last in range(30):
        for key, data in CONTENT.items():
            tree.put(key, data)
        tree.run()
        for key in CONTENT:
            tree.session.files.delete(key)
        died = False
        try:
            tree.run(ports=Ports(fs=MortalFs(str(tree.files), last)), delete=True)
        except Killed:
            died = True
        assert on_disk(tree.files).items() <= CONTENT.items()
        assert tree.run(delete=True).complete
        assert not tree.files.exists()
        if not died:
            break
    assert not died and last > 4


@pytest.mark.parametrize("name", ["create", "rename_new"])
def test_a_full_disk_is_the_users_error_and_leaves_no_scratch(tree: Tree, name: str) -> None:
    fs = FailingFs(28, (name,), "/models/")  # ENOSPC
    with pytest.raises(OSError, match="No space left"):
        tree.run(ports=Ports(fs=fs))
    assert all(CONTENT[key] == data for key, data in on_disk(tree.files).items())
    assert list(tree.lake().store.catalog.pending()) == []
    assert tree.run().complete and on_disk(tree.files) == CONTENT


def test_a_name_that_the_file_system_refuses_is_reported_and_the_rest_placed(tree: Tree) -> None:
    result = tree.run(ports=Ports(fs=FailingFs(36, ("rename_new",), "best.pth")))  # ENAMETOOLONG
    assert codes(result) == {"/models/best.pth": "name"} and result.placed == 3


def test_a_store_that_cannot_be_written_to_can_still_be_read(tree: Tree, tmp_path: Path) -> None:
    fs = FailingFs(30, ("write", "append", "rename"), ".dreamlake/")  # EROFS
    for placed, unchanged in ((4, 0), (0, 4)):
        result = tree.run(ports=Ports(fs=fs), to=tmp_path / "out")
        assert (result.placed, result.unchanged) == (placed, unchanged)
    (tmp_path / "out/ws/run 1/files/a.txt").write_bytes(b"edited")
    assert codes(tree.run(ports=Ports(fs=fs), to=tmp_path / "out")) == {"/a.txt": "edited"}


# ---- executors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [None, ThreadPoolExecutor, ProcessPoolExecutor])
def test_any_executor_can_do_the_work(tree: Tree, kind: Any) -> None:
    with Session("many", "ws", local_path=tree.root) as session:
        for number in range(150):
            session.files.upload(b"%d" % number * 50, filename=f"{number}.txt", path=f"/d{number % 7}")
    lake = tree.lake()
    todo = plan(lake.store, sessions_of(lake.store, "ws/many"), Options())
    done: list[int] = []
    if kind is None:
        result = execute(lake.store, todo, workers=2, progress=done.append)
    else:
        import multiprocessing

        options = {"mp_context": multiprocessing.get_context("spawn")} if kind is ProcessPoolExecutor else {}
        with kind(2, **options) as executor:
            result = execute(lake.store, todo, executor=executor, progress=done.append)
    assert result.placed == 150 and sum(done) == result.bytes == todo.bytes
    tree_on_disk = on_disk(tree.root / "ws/many/files")
    assert tree_on_disk == {f"/d{n % 7}/{n}.txt": b"%d" % n * 50 for n in range(150)}


def test_an_interrupted_run_stops_soon_and_knows_what_it_placed(tree: Tree) -> None:
    with Session("many", "ws", local_path=tree.root) as session:
        for number in range(300):
            session.files.upload(b"%d" % number, filename=f"{number}.txt")
    lake = tree.lake()
    todo = plan(lake.store, sessions_of(lake.store, "ws/many"), Options())

    class Interrupted(BaseException):
        pass

    def progress(amount: int) -> None:
        if len(os.listdir(tree.root / "ws/many/files")) > 100:
            raise Interrupted

    with pytest.raises(Interrupted):
        execute(lake.store, todo, workers=2, progress=progress)
    left = on_disk(tree.root / "ws/many/files")
    assert 90 < len(left) < 300 and not [k for k in left if "dreamlake" in k]
    assert list(lake.store.catalog.pending()) == []
    again = plan(lake.store, sessions_of(lake.store, "ws/many"), Options())
    assert again.trees[0].unchanged == len(left) and not again.conflicts
