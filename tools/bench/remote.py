"""Benchmarks of remote mode, on servers of their own: the same bytes to and from the same S3 server by dreamlake, by
boto3's own transfer manager, and by rclone where it is installed.

The servers are those of ``tools.servers``. Their own speed is in every figure; only the ratios say something.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.bench import inputs
from tools.bench.harness import SUBJECT, Result, Room, Sample, Side, Target, child, command
from tools.servers.processes import ACCESS_KEY, BUCKET, SECRET_KEY, MongoServer, S3Server

MIB = 1 << 20
BOTO3 = "boto3 transfer"


class Place:
    """A pair of servers, and fresh places on them."""

    def __init__(self, s3: S3Server, mongo: MongoServer) -> None:
        self._s3, self._mongo = s3, mongo

    def s3(self, prefix: str) -> dict[str, Any]:
        where = {"bucket": BUCKET, "prefix": prefix, "endpoint": self._s3.endpoint, "region": "us-east-1"}
        return {**where, "access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY}

    def lake(self) -> dict[str, Any]:
        """A new lake, as ``remote=`` takes it."""
        name = uuid.uuid4().hex[:12]
        return {"mongodb": self._mongo.database(name), "s3": self.s3(name)}

    def made(self) -> dict[str, Any]:
        """A new lake that is there already: the bucket of the others is, too."""
        lake = self.lake()
        child("subject", "upload", {"remote": lake, "sources": []})
        return lake

    def rclone(self, prefix: str) -> str:
        """As rclone calls a folder in the bucket."""
        keys = f"access_key_id={ACCESS_KEY},secret_access_key={SECRET_KEY}"
        return f":s3,provider=Other,endpoint='{self._s3.endpoint}',{keys}:{BUCKET}/{prefix}"


@contextmanager
def _servers(room: Room) -> Iterator[Place]:
    folder = room.fresh("servers")
    os.environ["XDG_CACHE_HOME"] = str(room.fresh("cache"))
    s3, mongo = S3Server(folder / "s3"), MongoServer(folder / "mongo")
    with s3, mongo:
        yield Place(s3, mongo)


def _sides(
    place: Place, source: Path, verb: str, prefix: Callable[[], str], dest: Callable[[], Path]
) -> dict[str, Side]:
    """The others, moving a file or a folder up or down."""

    def boto3() -> Sample:
        request = {"s3": place.s3(prefix()), "source": str(source), "dest": str(dest())}
        return child("remote_plain", verb, request)

    def rclone() -> Sample:
        remote, target = place.rclone(prefix()), dest()
        pair = [str(source), remote] if verb == "upload" else [remote, str(target)]
        return command([str(found), "copy", *pair, "--s3-no-check-bucket", "--config", os.devnull])

    found = shutil.which("rclone")
    return {BOTO3: boto3, **({"rclone": rclone} if found else {})}


def _upload(room: Room, name: str, work: str, source: Path, again: bool) -> Result:
    """Upload of a file or folder to a fresh place, or once more to the same."""
    result = Result(name, work, Target("ratio", 1.3))
    with _servers(room) as place:
        lake, kept = place.lake(), uuid.uuid4().hex
        sides = _sides(place, source, "upload", lambda: kept if again else uuid.uuid4().hex, lambda: room.folder)

        def dreamlake() -> Sample:
            request = {"remote": lake if again else place.made(), "sources": [str(source)], "encoding": "raw"}
            return child("subject", "upload", request)

        sides = {**sides, SUBJECT: dreamlake}
        if again:
            for side in sides.values():
                side()
            result.target = Target("ratio", 0.3)
        return room.alternate(result, sides)


def remote_upload(room: Room) -> Result:
    """One large new file to S3, raw."""
    size = room.size(512, 40) * MIB
    source = inputs.large_file(room.fresh("input") / "large.bin", size, room.seed)
    return _upload(room, "remote-upload", f"upload one new file of {size // MIB} MiB to S3", source, False)


def remote_again(room: Room) -> Result:
    """The same unchanged file to S3 again."""
    size = room.size(512, 40) * MIB
    source = inputs.large_file(room.fresh("input") / "large.bin", size, room.seed)
    return _upload(room, "remote-again", f"the same unchanged file of {size // MIB} MiB to S3 again", source, True)


def remote_folder(room: Room) -> Result:
    """Many small new files to S3."""
    count, folder = room.size(2000, 100), room.fresh("input")
    inputs.text_folder(folder, count, room.seed)
    result = _upload(room, "remote-folder", f"upload a folder of {count:,} files of 1 to 50 KB to S3", folder, False)
    result.target = Target("ratio", 1.5)
    return result


def remote_download(room: Room) -> Result:
    """One large file from S3, verified."""
    size = room.size(512, 40) * MIB
    source = inputs.large_file(room.fresh("input") / "large.bin", size, room.seed)
    result = Result(
        "remote-download", f"download one file of {size // MIB} MiB from S3, verified", Target("ratio", 1.3)
    )
    with _servers(room) as place:
        lake, prefix = place.lake(), uuid.uuid4().hex
        child("subject", "upload", {"remote": lake, "sources": [str(source)], "encoding": "raw"})
        child("remote_plain", "upload", {"s3": place.s3(prefix), "source": str(source), "dest": ""})

        def dreamlake() -> Sample:
            request = {"remote": lake, "paths": [f"/{source.name}"], "dest": str(room.fresh("tree"))}
            return child("subject", "download", request)

        sides = _sides(place, source, "download", lambda: prefix, lambda: room.fresh("plain"))
        return room.alternate(result, {**sides, SUBJECT: dreamlake})
