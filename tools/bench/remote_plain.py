"""boto3's side of the remote benchmarks: its own transfer manager, in a fresh process."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tools.bench.harness import serve

WORKERS = 16  # files at a time, as many as dreamlake sends


def _client(s3: dict[str, Any]) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=s3["endpoint"],
        region_name=s3["region"],
        aws_access_key_id=s3["access_key_id"],
        aws_secret_access_key=s3["secret_access_key"],
        config=Config(s3={"addressing_style": "path"}, max_pool_connections=WORKERS * 2),
    )


def _upload(request: dict[str, Any]) -> Callable[[], None]:
    import boto3  # noqa: F401 - not timed, like dreamlake's

    s3, source = request["s3"], Path(request["source"])
    files = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source]

    def work() -> None:
        client = _client(s3)

        def send(path: Path) -> None:
            client.upload_file(str(path), s3["bucket"], f"{s3['prefix']}/{path.relative_to(source.parent)}")

        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(send, files))

    return work


def _download(request: dict[str, Any]) -> Callable[[], None]:
    import boto3  # noqa: F401 - not timed, like dreamlake's

    s3, dest = request["s3"], Path(request["dest"])

    def work() -> None:
        client = _client(s3)
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=s3["bucket"], Prefix=s3["prefix"] + "/"):
            for entry in page.get("Contents", []):
                client.download_file(s3["bucket"], entry["Key"], str(dest / Path(entry["Key"]).name))

    return work


if __name__ == "__main__":
    serve({"upload": _upload, "download": _download})
