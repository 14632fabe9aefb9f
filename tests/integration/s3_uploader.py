"""A process that uploads one file as a blob until it is killed: ``s3_uploader.py SETTINGS(JSON) URL FILE SCRATCH``."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]


def main(settings: str, url: str, file: str, scratch: str) -> None:
    from dreamlake.blobs.objects import ObjectBlobs
    from dreamlake.ports import Ports
    from dreamlake.services.mongo import MongoDocs
    from dreamlake.services.s3 import S3Objects, S3Settings

    data = Path(file).read_bytes()
    blobs = ObjectBlobs(Ports(), MongoDocs(url), S3Objects(S3Settings(**json.loads(settings))), scratch)
    digest = hashlib.sha256(data).hexdigest()
    _, staged = blobs.stage_file(file, b"", len(data), digest)
    blobs.publish(digest, staged)
    print("published", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
