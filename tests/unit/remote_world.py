"""The tests of the public API, run on a remote lake: they say ``local_path=...``, and get a database and a bucket.

A folder stands for the remote lake of that name. What looks behind the store's back (``stored``, ``scratch``,
``records``) looks into the fakes instead; tests that look at the files of a folder lake are listed here.
"""

from __future__ import annotations

import hashlib
import uuid
from functools import partial
from pathlib import Path
from typing import Any

from fakes.objects import MemoryObjects
from fakes.remote import FakeServers
from upkeep_support import World

from dreamlake import lake, session
from dreamlake.location import RemoteAddress, locate, location_of
from dreamlake.remote import indexes
from dreamlake.services.docs import Docs
from dreamlake.services.mongo import MongoDocs
from dreamlake.services.objects import Objects
from dreamlake.services.s3 import S3Objects
from dreamlake.services.s3_calling import S3Settings

MODULES = frozenset({"test_files_upload", "test_files_read", "test_files_tree", "test_files_retention"})
MODULES |= {"test_session", "test_legacy", "test_savers", "test_collect", "test_usage"}

SHARED = frozenset({"test_files_tree", "test_savers"})  # these also with their blobs in a shared folder

# What only a folder has: files that people see, rights and disks, names that file systems confuse, other processes.
_FOLDER_ONLY = {
    "damage to stored files, and rights on them; test_remote_upkeep damages objects": """
    test_damaged_content_never_reaches_the_user test_broken_mark_is_noticed_before_the_first_byte
    test_touched_but_whole_copy_is_read test_lost_content_names_the_file_and_the_rest_stays_readable
    test_uploading_again_heals test_copy_of_content_that_is_gone test_restore_of_content_that_is_gone
    test_reading_needs_no_right_to_write test_reading_without_session_json_needs_no_right_to_write
    test_destination_without_permission test_file_that_may_not_be_read
    """,
    "disks that fill up; what a remote does then is in integration/": """
    test_full_disk_at_every_step test_interrupted_at_every_step test_a_really_full_disk
    test_full_disk_at_every_step_of_opening test_full_disk_while_resuming_and_closing_is_no_obstacle_to_reading
    """,
    "session.json, session folders, checkpoints, and names that file systems confuse": """
    test_session_json test_session_json_is_strict_json test_session_json_is_only_a_view
    test_resuming_without_news_costs_no_record
    test_nonfinite_values_survive_and_the_manifest_stays_strict test_removed_session_folder_costs_what_was_in_it_only
    test_something_in_the_way test_location_that_is_a_file test_a_lake_may_be_anywhere test_the_lake_itself_is_refused
    test_names_that_differ_in_case_or_form_do_not_damage_each_other test_name_that_looks_like_a_way_out
    test_good_names_work_whatever_they_are test_protected_session_refuses_every_write_and_stays_readable
    test_protection_cannot_be_taken_back test_name_and_workspace_by_position_or_keyword
    test_everything_survives_reopening_and_a_checkpoint test_interrupted_download_leaves_nothing
    """,
    "claims, records, blobs and scratch as files, and the time stamps of the kernel; see test_remote_upkeep": """
    test_claims_of_the_dead_and_of_the_silent_are_revoked_and_cannot_commit
    test_an_unreadable_claim_stops_it_until_it_is_old test_a_claim_of_a_newer_format_stops_it_whatever_its_age
    test_scratch_of_the_dead_and_of_the_silent_is_removed test_an_uploader_whose_scratch_was_taken_starts_again
    test_a_condemned_copy_never_replaces_a_live_one test_a_log_that_does_not_read_stops_it
    test_a_log_that_breaks_while_it_runs_leaves_everything_readable test_large_sessions_are_released_and_still_synced
    test_on_a_network_file_system_it_waits_between_condemning_and_rechecking test_stats_agree_with_what_du_counts
    test_it_may_die_at_any_call_and_the_next_one_finishes test_content_that_is_missing_takes_no_space
    """,
    "other processes: the fakes are in this one; real servers have them in integration/": """
    test_killed_process_loses_nothing test_fork_in_the_middle test_processes_that_create_one_lake_at_once
    """,
}
FOLDER_ONLY = frozenset(name for names in _FOLDER_ONLY.values() for name in names.split())


class RemoteWorld(FakeServers):
    """Takes every folder for a remote lake. ``shared``: its blobs are in a folder all the same."""

    def __init__(self, monkeypatch: Any, cache: Path, module: Any, *, shared: bool) -> None:
        super().__init__()
        self._cache, self._shared = cache, shared
        self.install(monkeypatch)
        monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
        monkeypatch.setattr(session, "locate", lambda *args, **named: self.moved(locate(*args, **named)))
        monkeypatch.setattr(lake, "location_of", lambda *args, **named: self.moved(location_of(*args, **named)))
        if hasattr(module, "World"):
            monkeypatch.setattr(module, "World", partial(RemoteUpkeep, self))
        for helper in (self.stored, self.scratch, self.records):
            if hasattr(module, helper.__name__):
                monkeypatch.setattr(module, helper.__name__, helper)

    def moved(self, place: str | RemoteAddress) -> RemoteAddress:
        if isinstance(place, RemoteAddress):
            return place
        name = hashlib.sha256(place.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        blobs = str(self._cache / "shared" / name) if self._shared else S3Settings(f"bucket-{name}")
        return RemoteAddress(f"mongodb://fake/{name}", blobs, "ana")

    def lake(self, root: Path) -> tuple[Docs, Objects]:
        """Its database and its bucket, for looks behind the store's back."""
        address = self.moved(str(root))
        objects = MemoryObjects() if isinstance(address.blobs, str) else self.objects(address.blobs)
        return self.docs(address.mongodb), objects

    def stored(self, root: Path) -> list[Path]:
        """All stored copies of a lake, as files that show what is in the bucket."""
        if self._shared:
            return sorted(self._cache.glob("shared/*/.dreamlake-blobs/blobs/*/*"))
        shown = []
        objects = self.lake(root)[1]
        for info in objects.list("blobs/"):
            path, data = self._cache / "shown" / info.key.split("/")[2], objects.read(info.key)
            path.parent.mkdir(exist_ok=True)
            if not path.exists() or path.read_bytes() != data:
                path.write_bytes(data)
            shown.append(path)
        return sorted(shown)

    def records(self, root: Path) -> int:
        """How many records all sessions have together."""
        return self.lake(root)[0].count("records", {"state": "committed"})

    def scratch(self, root: Path) -> list[str]:
        """What is left in the places where a lake prepares things: must be empty when nothing is under way."""
        docs, objects = self.lake(root)
        claims = [f"claim {doc['_id']}" for doc in docs.find("records", {"open": True})]
        copies = [f"copy {doc['_id']}" for doc in docs.find("copies", {"state": {"$in": ["uploading", "deleting"]}})]
        pieces = [str(path) for path in self._cache.rglob("tmp/*")]
        return claims + copies + [str(upload) for upload in objects.uploads()] + pieces


class ServerWorld(RemoteWorld):
    """The same on real servers: each lake has a database and a prefix of its own.

    Args:
        servers: where they are, see ``tests/conftest.py``.
    """

    def __init__(self, monkeypatch: Any, cache: Path, module: Any, servers: dict[str, str]) -> None:
        self._where, self._run = servers, uuid.uuid4().hex[:8]
        super().__init__(monkeypatch, cache, module, shared=False)

    def docs(self, url: str) -> Docs:
        name = f"test-{self._run}-{url.rpartition('/')[2]}"
        return MongoDocs(self._where["DREAMLAKE_TEST_MONGODB"].replace("/?", f"/{name}?"))

    def objects(self, settings: S3Settings) -> Objects:
        return S3Objects(
            S3Settings(
                bucket=self._where["DREAMLAKE_TEST_BUCKET"],
                prefix=f"test-{self._run}/{settings.bucket}",
                endpoint=self._where["DREAMLAKE_TEST_S3"],
                region="us-east-1",
                addressing="path",
                access_key_id=self._where["DREAMLAKE_TEST_ACCESS_KEY"],
                secret_access_key=self._where["DREAMLAKE_TEST_SECRET_KEY"],
            )
        )


class RemoteUpkeep(World):
    """What the tests of collection, usage and verification work on, with raw looks at the documents and objects."""

    def __init__(self, servers: RemoteWorld, root: Path, **ports: Any) -> None:
        self._servers = servers
        super().__init__(root, **ports)

    def names(self) -> list[str]:
        docs, objects = self._servers.lake(self.root)
        found = list(docs.find("copies", {"state": {"$in": ["live", "condemned"]}}))
        assert {doc["_id"] for doc in found} <= {info.key for info in objects.list("blobs/")}
        return sorted(doc["key"] + (f"~{doc['batch']}" if doc["state"] == "condemned" else "") for doc in found)

    def snapshot(self) -> dict[str, Any]:
        docs, objects = self._servers.lake(self.root)
        collections = {"meta", "sessions", "journals"} | {index.collection for index in indexes()}
        found = {name: list(docs.find(name, {}, sort=[("_id", 1)])) for name in sorted(collections)}
        return {"objects": list(objects.list()), **found}
