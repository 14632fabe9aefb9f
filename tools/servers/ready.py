"""Wait until a server answers as a client needs it, by the clients of ``requirements-servers.txt``.

ready.py SECONDS mongo URL
ready.py SECONDS s3 ENDPOINT ACCESS_KEY SECRET_KEY BUCKET      (makes the bucket)
"""

import sys
import time


def mongo(url: str) -> None:
    from pymongo import MongoClient

    client: MongoClient[dict[str, object]] = MongoClient(url, serverSelectionTimeoutMS=500, connectTimeoutMS=500)
    with client:
        client["admin"].command("ping")


def s3(endpoint: str, access_key: str, secret_key: str, bucket: str) -> None:
    import boto3
    from botocore.config import Config

    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name="us-east-1",
        config=Config(connect_timeout=1, read_timeout=5, retries={"max_attempts": 0}, s3={"addressing_style": "path"}),
    )
    if bucket not in [found["Name"] for found in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket=bucket)
    client.put_object(Bucket=bucket, Key="ready", Body=b"ready")  # its volumes come up after its port


def main(seconds: float, kind: str, arguments: list[str]) -> int:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if kind == "mongo":
                mongo(*arguments)
            else:
                s3(*arguments)
            return 0
        except Exception as error:
            if time.monotonic() > deadline:
                print(f"not ready after {seconds:.0f} s: {error}", file=sys.stderr)
                return 1
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2], sys.argv[3:]))
