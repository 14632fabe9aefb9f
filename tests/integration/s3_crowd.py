"""One of many clients at once: ``s3_crowd.py SETTINGS(JSON) URL NUMBER``. Looks for and publishes contents that others
want, too, and reads each back; says how many it has sent."""

from __future__ import annotations

import hashlib
import json
import random
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

CONTENTS = 12
ROUNDS = 10


def content(number: int) -> bytes:
    """The same for every client."""
    return random.Random(number).randbytes(3000 + 1000 * number)


def main(settings: str, url: str, number: int) -> None:
    from dreamlake.blobs.objects import ObjectBlobs
    from dreamlake.ports import Ports
    from dreamlake.services.mongo import MongoDocs
    from dreamlake.services.s3 import S3Objects, S3Settings

    blobs = ObjectBlobs(Ports(), MongoDocs(url), S3Objects(S3Settings(**json.loads(settings))))
    draw, sent = random.Random(number), 0
    for _ in range(ROUNDS):
        data = content(draw.randrange(CONTENTS))
        digest = hashlib.sha256(data).hexdigest()
        if not blobs.look(digest, len(data), lambda stream: False):
            item = blobs.stage()
            item.write(data)
            sent += blobs.publish(digest, item.finish(), replace=draw.random() < 0.5)
        with blobs.open(digest) as stream:
            assert stream.read() == data
    print(sent, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
