"""Sixteen clients at once, and a collector beside them."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from dreamlake.blobs.objects import INDEXES, ObjectBlobs
from dreamlake.ports import Ports
from dreamlake.services.mongo import MongoDocs
from dreamlake.services.s3 import S3Objects, S3Settings
from integration.s3_crowd import CONTENTS, content


def test_sixteen_clients_and_a_collector(mongo_url: str, s3_place: dict[str, Any]):
    docs, objects = MongoDocs(mongo_url), S3Objects(S3Settings(**s3_place))
    docs.ensure(INDEXES)
    blobs = ObjectBlobs(Ports(), docs, objects)
    command = [sys.executable, str(Path(__file__).with_name("s3_crowd.py")), json.dumps(s3_place), mongo_url]
    clients = [subprocess.Popen([*command, str(n)], stdout=subprocess.PIPE, text=True) for n in range(16)]
    keys = {hashlib.sha256(content(n)).hexdigest(): content(n) for n in range(CONTENTS)}
    batch = 0
    while any(client.poll() is None for client in clients):
        batch += 1
        chosen = random.Random(batch).sample(sorted(keys), 4)
        for copy in blobs.condemn_all(chosen, f"b{batch}"):
            if copy is not None:
                blobs.settle(copy, keep=True)  # somebody refers to it: whoever reads it, say
        blobs.sweep(lambda name, age_s: name == "orphan")
    sent = [int(client.communicate()[0]) for client in clients]
    assert [client.returncode for client in clients] == [0] * 16
    assert sum(sent) >= CONTENTS
    live = [doc for doc in docs.find("copies", {}) if doc["state"] == "live"]
    assert sorted(doc["key"] for doc in live) == sorted({doc["key"] for doc in live})
    for doc in live:
        assert objects.read(doc["_id"]) == keys[doc["key"]]
    left = {doc["_id"] for doc in docs.find("copies", {})}
    assert {info.key for info in objects.list("blobs/")} <= left
    blobs.close()
    docs.close()
    objects.close()
