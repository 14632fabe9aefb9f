"""A process that commits to one session until it is told to stop: ``committer.py URL NAME COUNT``.

Says ``name number`` on a line of its own for every commit that was acknowledged, at once. Goes on over outages of the
server, as a training run would that is asked to upload again.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]


def main(url: str, name: str, count: int) -> None:
    from conformance.test_catalog import KEY, put

    from dreamlake.catalog.documents import DocumentCatalog
    from dreamlake.errors import LakeError
    from dreamlake.ports import Ports
    from dreamlake.services.mongo import MongoDocs

    docs = MongoDocs(url)
    catalog = DocumentCatalog(Ports(), docs)
    for i in range(count):
        while True:
            token = f"{name}-{i}"
            try:
                done = catalog.commit(catalog.claim(KEY, [], [put(f"/{token}", f"{token}-{time.monotonic_ns()}")]))
                break
            except LakeError as error:
                print(f"! {type(error).__name__}: {error}", file=sys.stderr, flush=True)
                time.sleep(0.1)
        print(token, done.number, flush=True)
    docs.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
