"""``Objects`` on S3 and what speaks its protocol, with boto3. Calls and their errors: ``s3_calling``."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

from dreamlake.errors import Conflict, InvalidInput, NotFound
from dreamlake.services.objects import MAX_PARTS, ObjectInfo, Part, Upload
from dreamlake.services.s3_calling import Caller, S3Settings
from dreamlake.services.s3_errors import judge
from dreamlake.services.s3_stream import S3Stream

__all__ = ["S3Objects", "S3Settings"]

FILES = "files/"  # where materialized files lie, beside the blobs
COPY_PART_BYTES = (
    256 << 20
)  # of an object copied on the server: a part must be done before the connection looks stalled
FILE_PART_BYTES = 16 << 20  # of a materialized file; two are in memory at a time, or more for files over 156 GiB
_COPIERS = 8
_DELETES = 1000  # keys a request: a limit of S3
_DELETE_TRIES = 4
_MIB = 1 << 20
_NEEDS = {
    **dict.fromkeys(["put_object", "upload_part", "complete_multipart_upload", "head_object"], "ETag"),
    "create_multipart_upload": "UploadId",
    "list_parts": "IsTruncated",
    "copy_object": "CopyObjectResult",
    "upload_part_copy": "CopyPartResult",
}


class S3Objects:
    """``Objects`` in one bucket, below ``settings.prefix``. Nothing is asked of the store before the first call."""

    def __init__(self, settings: S3Settings, *, caller: Caller | None = None) -> None:
        self.settings = settings
        self._caller = caller or Caller(settings)
        prefix = settings.prefix.strip("/")
        self._root = prefix + "/" if prefix else ""

    def put(self, key: str, data: bytes | memoryview, *, sha256: str) -> str:
        body = data if isinstance(data, bytes) else bytes(data)  # boto3 knows how to send them again; not a view
        checksum = _base64(sha256)
        try:
            answer = self._call("put_object", key, Body=body, ChecksumSHA256=checksum, IfNoneMatch="*", writes=True)
        except Conflict:
            return self._own(key, len(body), checksum, hashlib.md5(body, usedforsecurity=False).hexdigest())
        return _etag(answer)

    def begin(self, key: str) -> str:
        return str(self._call("create_multipart_upload", key, ChecksumAlgorithm="SHA256")["UploadId"])

    def put_part(self, key: str, upload: str, number: int, data: bytes | memoryview, *, sha256: str) -> Part:
        body = data if isinstance(data, bytes) else bytes(data)
        place: dict[str, Any] = {"UploadId": upload, "PartNumber": number}
        answer = self._call("upload_part", key, Body=body, ChecksumSHA256=_base64(sha256), writes=True, **place)
        return Part(number, len(body), _etag(answer), sha256)

    def parts(self, key: str, upload: str) -> list[Part]:
        found: list[Part] = []
        more: dict[str, Any] = {}
        while True:
            answer = self._call("list_parts", key, UploadId=upload, **more)
            for part in answer.get("Parts", []):
                checksum = part.get("ChecksumSHA256")
                sha256 = base64.b64decode(checksum).hex() if checksum else None
                found.append(Part(part["PartNumber"], part["Size"], _etag(part), sha256))
            if not answer.get("IsTruncated"):
                return found
            more = {"PartNumberMarker": answer["NextPartNumberMarker"]}

    def complete(self, key: str, upload: str, parts: Sequence[Part]) -> str:
        listed = [{"PartNumber": part.number, "ETag": f'"{part.etag}"'} for part in parts]
        for entry, part in zip(listed, parts, strict=True):
            if part.sha256 is not None:
                entry["ChecksumSHA256"] = _base64(part.sha256)
        try:
            given: dict[str, Any] = {"UploadId": upload, "MultipartUpload": {"Parts": listed}, "IfNoneMatch": "*"}
            return _etag(self._call("complete_multipart_upload", key, writes=True, **given))
        except (Conflict, NotFound) as error:
            try:
                return self._own(key, sum(part.size for part in parts), *_composite(parts))
            except Conflict:
                raise error from None

    def abort(self, key: str, upload: str) -> None:
        try:
            self._call("abort_multipart_upload", key, UploadId=upload)
        except NotFound:
            return

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        if stop is not None and stop <= start:
            return b""
        with S3Stream(self._caller, self._place(key), start, stop) as stream:
            return stream.readall()

    def stream(self, key: str, start: int = 0) -> BinaryIO:
        stream = S3Stream(self._caller, self._place(key), start, None)
        stream.connect()
        return stream  # type: ignore[return-value]

    def head(self, key: str) -> ObjectInfo | None:
        try:
            return _info(self._call("head_object", key), key)
        except NotFound:
            return None

    def delete(self, keys: Sequence[str]) -> None:
        self._delete([self._root + key for key in keys])

    def list(self, prefix: str = "", *, after: str = "", files: bool = False) -> Iterator[ObjectInfo]:
        root = self._root + (FILES if files else "")
        more: dict[str, Any] = {"StartAfter": root + after} if after else {}
        while True:
            place: dict[str, Any] = {"Bucket": self.settings.bucket, "Prefix": root + prefix}
            answer = self._caller.call("list_objects_v2", prefix, needs="IsTruncated", **place, **more)
            for entry in answer.get("Contents", []):
                yield _info(entry, entry["Key"][len(root) :])
            if not answer.get("IsTruncated"):
                return
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    def uploads(self, prefix: str = "") -> Iterator[Upload]:
        more: dict[str, Any] = {}
        while True:
            place: dict[str, Any] = {"Bucket": self.settings.bucket, "Prefix": self._root + prefix}
            answer = self._caller.call("list_multipart_uploads", prefix, needs="IsTruncated", **place, **more)
            for entry in answer.get("Uploads", []):
                yield Upload(entry["Key"][len(self._root) :], entry["UploadId"], entry["Initiated"].timestamp())
            if not answer.get("IsTruncated"):
                return
            more = {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer["NextUploadIdMarker"]}

    def copy(self, key: str, target: str, *, content_type: str | None = None) -> ObjectInfo:
        source = self.head(key)
        if source is None:
            raise NotFound(f"nothing at {key!r} in {self.settings.shown}", path=key)
        given: dict[str, Any] = {"CopySource": self._place(key)}
        if source.size <= COPY_PART_BYTES:
            how: dict[str, Any] = {"MetadataDirective": "REPLACE", **_typed(content_type)}
            self._call("copy_object", FILES + target, **given, **how)
        else:

            def copy_part(upload: str, number: int, start: int, stop: int) -> dict[str, Any]:
                span = f"bytes={start}-{stop - 1}"
                place: dict[str, Any] = {"UploadId": upload, "PartNumber": number, "CopySourceRange": span}
                answer = self._call("upload_part_copy", FILES + target, **given, **place)
                return {"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]}

            step = _part_bytes(source.size, COPY_PART_BYTES)
            with ThreadPoolExecutor(_COPIERS, thread_name_prefix="dreamlake-copy") as pool:
                self._in_parts(target, content_type, source.size, step, pool, copy_part)
        return self._placed(target)

    def put_file(self, target: str, source: BinaryIO, *, content_type: str | None = None) -> ObjectInfo:
        size = source.seek(0, io.SEEK_END)
        source.seek(0)
        step = _part_bytes(size, FILE_PART_BYTES)
        if size <= step:
            body = _read_exactly(source, size, target)
            self._call("put_object", FILES + target, Body=body, **_checksum(body), **_typed(content_type))
            return self._placed(target)

        def send_part(upload: str, number: int, start: int, stop: int) -> dict[str, Any]:
            body = _read_exactly(source, stop - start, target)
            checksum = _checksum(body)
            place: dict[str, Any] = {"UploadId": upload, "PartNumber": number}
            answer = self._call("upload_part", FILES + target, Body=body, **checksum, **place)
            return {"PartNumber": number, "ETag": answer["ETag"], **checksum}

        self._in_parts(target, content_type, size, step, None, send_part)
        return self._placed(target)

    def delete_files(self, targets: Sequence[str]) -> None:
        self._delete([self._root + FILES + target for target in targets])

    def presign(self, key: str, *, expires_s: int, filename: str | None = None, file: bool = False) -> str:
        place = self._place(FILES + key if file else key)
        if filename is not None:
            from urllib.parse import quote

            place["ResponseContentDisposition"] = f"attachment; filename*=UTF-8''{quote(filename, safe='')}"
        try:
            made = self._caller.client().generate_presigned_url("get_object", Params=place, ExpiresIn=expires_s)
        except Exception as error:
            raise judge(error, self.settings.shown, "presign", key).error from None
        return str(made)

    def close(self) -> None:
        self._caller.close()

    # ---- helpers -------------------------------------------------------------------------------------------------

    def _place(self, key: str) -> dict[str, Any]:
        return {"Bucket": self.settings.bucket, "Key": self._root + key}

    def _call(self, operation: str, key: str, **parameters: Any) -> dict[str, Any]:
        return self._caller.call(operation, key, needs=_NEEDS.get(operation), **self._place(key), **parameters)

    def _own(self, key: str, size: int, checksum: str | None, etag: str | None) -> str:
        """The etag of what is there if it is what an attempt of ours, or an equal one, wrote. Raises ``Conflict``."""
        try:
            found = self._call("head_object", key, ChecksumMode="ENABLED")
        except NotFound:
            raise Conflict(f"{key!r} in {self.settings.shown} was taken, and is gone", path=key) from None
        told = found.get("ChecksumSHA256")
        same = told.partition("-")[0] == checksum if told and checksum else _etag(found) == etag
        if not same or found["ContentLength"] != size:
            raise Conflict(f"{key!r} in {self.settings.shown} is taken", path=key)
        return _etag(found)

    def _placed(self, target: str) -> ObjectInfo:
        return _info(self._call("head_object", FILES + target), target)

    def _in_parts(
        self,
        target: str,
        content_type: str | None,
        size: int,
        step: int,
        pool: ThreadPoolExecutor | None,
        part: Callable[[str, int, int, int], dict[str, Any]],
    ) -> None:
        """A materialized file by parts; nothing of it stays when this fails."""
        begun = self._call(
            "create_multipart_upload", FILES + target, ChecksumAlgorithm="SHA256", **_typed(content_type)
        )
        upload = str(begun["UploadId"])
        try:
            starts = range(0, size, step)
            jobs = [(upload, n, start, min(size, start + step)) for n, start in enumerate(starts, 1)]
            done = list(pool.map(lambda job: part(*job), jobs)) if pool else [part(*job) for job in jobs]
            self._call("complete_multipart_upload", FILES + target, UploadId=upload, MultipartUpload={"Parts": done})
        except BaseException:
            self.abort(FILES + target, upload)
            raise

    def _delete(self, keys: Sequence[str]) -> None:
        for first in range(0, len(keys), _DELETES):
            left, refused = list(dict.fromkeys(keys[first : first + _DELETES])), list[dict[str, Any]]()
            for _ in range(_DELETE_TRIES):  # an entry may fail by itself
                asked = {"Objects": [{"Key": key} for key in left]}
                answer = self._caller.call("delete_objects", left[0], Bucket=self.settings.bucket, Delete=asked)
                refused = [entry for entry in answer.get("Errors", []) if entry.get("Code") != "NoSuchKey"]
                gone = {entry["Key"] for entry in [*answer.get("Deleted", []), *answer.get("Errors", [])]}
                gone -= {entry["Key"] for entry in refused}
                left = [key for key in left if key not in gone]
                if not left:
                    break
            else:
                self._refused(refused[0] if refused else {"Key": left[0]})

    def _refused(self, entry: dict[str, Any]) -> None:
        from botocore.exceptions import ClientError

        status = 403 if entry.get("Code") == "AccessDenied" else 500
        answer = {"Error": {"Code": entry.get("Code", "")}, "ResponseMetadata": {"HTTPStatusCode": status}}
        raise judge(ClientError(answer, "delete_objects"), self.settings.shown, "delete_objects", entry["Key"]).error


def _base64(sha256: str) -> str:
    return base64.b64encode(bytes.fromhex(sha256)).decode()


def _checksum(body: bytes) -> dict[str, Any]:
    return {"ChecksumSHA256": base64.b64encode(hashlib.sha256(body).digest()).decode()}


def _composite(parts: Sequence[Part]) -> tuple[str | None, str | None]:
    """Checksum and etag that a store gives an object of these parts; None where the parts do not tell."""
    hashes = [bytes.fromhex(part.sha256) for part in parts if part.sha256 is not None]
    checksum = (
        base64.b64encode(hashlib.sha256(b"".join(hashes)).digest()).decode() if len(hashes) == len(parts) else None
    )
    try:
        joined = b"".join(bytes.fromhex(part.etag) for part in parts)
    except ValueError:
        return checksum, None
    return checksum, f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(parts)}"


def _etag(answer: dict[str, Any]) -> str:
    return str(answer["ETag"]).strip('"')


def _info(entry: dict[str, Any], key: str) -> ObjectInfo:
    size = entry["Size"] if "Size" in entry else entry["ContentLength"]
    return ObjectInfo(key, int(size), entry["LastModified"].timestamp(), _etag(entry))


def _typed(content_type: str | None) -> dict[str, Any]:
    return {} if content_type is None else {"ContentType": content_type}


def _part_bytes(size: int, least: int) -> int:
    """Bytes of every part but the last, so that there are not too many."""
    return max(least, -(-size // MAX_PARTS // _MIB) * _MIB)


def _read_exactly(source: BinaryIO, size: int, shown: str) -> bytes:
    pieces, left = [], size
    while left and (piece := source.read(left)):
        pieces.append(piece)
        left -= len(piece)
    if left:
        raise InvalidInput(f"{shown}: the stream ended {left:,} bytes too early", path=shown)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
