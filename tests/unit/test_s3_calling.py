"""Calls to S3 one by one: what is tried again, what is not, what each error is called, and that no secret is in it."""

from __future__ import annotations

import hashlib
import io
import os
import traceback
from datetime import datetime, timezone
from typing import Any

import pytest
from botocore import exceptions as vendor
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError
from urllib3 import HTTPResponse

from dreamlake.errors import (
    AccessDenied,
    Conflict,
    Corrupt,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    Unavailable,
)
from dreamlake.services.objects import MAX_PARTS, Part
from dreamlake.services.s3 import COPY_PART_BYTES, FILE_PART_BYTES, S3Objects
from dreamlake.services.s3_calling import AT_ONCE_BYTES, MAX_BACKOFF_S, MIN_TRIES, Caller, S3Settings

SECRET, TOKEN, ID = "wJalrXUtnFEMI-SECRET", "FQoGZX-TOKEN", "AKIA-ID"
PLACE = S3Settings(
    "bucket", "lake", endpoint="http://store.example:9000", region="eu-x", access_key_id=ID, secret_access_key=SECRET,
    session_token=TOKEN,
)  # fmt: skip
CHAIN = S3Settings("bucket", region="eu-x")
DATA = b"data"
SHA = hashlib.sha256(DATA).hexdigest()


def answer(code: str, status: int, message: str = "said", **headers: str) -> ClientError:
    details = {"Error": {"Code": code, "Message": message}}
    facts = {"HTTPStatusCode": status, "HTTPHeaders": headers}
    return ClientError({**details, "ResponseMetadata": facts}, "PutObject")


LOST = vendor.ReadTimeoutError(endpoint_url=f"http://{ID}:{SECRET}@store.example")
CUT = vendor.ConnectionClosedError(endpoint_url="http://store.example")
UNREACHED = vendor.EndpointConnectionError(endpoint_url="http://store.example")


class Client:
    """A boto3 client that answers by script: what is raised or returned by each call of an operation, in order."""

    def __init__(self, **script: list[Any]) -> None:
        self.script, self.calls = script, []

    def __getattr__(self, name: str) -> Any:
        def call(**given: Any) -> Any:
            self.calls.append((name, given))
            outcomes = self.script[name]
            outcome = outcomes.pop(0) if len(outcomes) > 1 else outcomes[0]
            if isinstance(outcome, Exception):
                raise outcome
            return outcome(**given) if callable(outcome) else outcome

        return call

    def count(self, name: str) -> int:
        return sum(called == name for called, _ in self.calls)


def store(monkeypatch: Any, *clients: Client, place: S3Settings = PLACE) -> tuple[S3Objects, list[float]]:
    """An object store whose successive clients are these; and how long it waited between the tries."""
    waits: list[float] = []
    clock = [0.0]
    made = iter(clients)

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr("dreamlake.services.s3_calling._new_client", lambda settings: next(made))
    return S3Objects(place, caller=Caller(place, sleep=sleep, clock=lambda: clock[0])), waits


PUT = {"ETag": '"etag"'}


@pytest.mark.parametrize(
    "failure",
    [
        LOST, CUT, UNREACHED,
        vendor.ConnectTimeoutError(endpoint_url="x"),
        answer("SlowDown", 503), answer("InternalError", 500), answer("", 502), answer("RequestTimeout", 400),
        answer("ThrottlingException", 400), answer("TooManyRequests", 429), answer("ConditionalRequestConflict", 409),
        answer("BadDigest", 400),
    ],
)  # fmt: skip
def test_what_may_pass_is_tried_again(monkeypatch, failure):
    client = Client(put_object=[failure, failure, PUT])
    objects, waits = store(monkeypatch, client)
    assert objects.put("k", DATA, sha256=SHA) == "etag"
    assert client.count("put_object") == 3
    assert 0 < waits[0] < waits[1] * 2
    assert all(given["IfNoneMatch"] == "*" and given["ChecksumSHA256"] for _, given in client.calls)


def test_an_answer_that_was_cut_among_its_headers_is_none(monkeypatch):
    """The HTTP library takes it for a whole one without headers."""
    client = Client(put_object=[{}, PUT], list_objects_v2=[{}, {"IsTruncated": False}], create_multipart_upload=[{}])
    objects, waits = store(monkeypatch, client)
    assert objects.put("k", DATA, sha256=SHA) == "etag"
    assert list(objects.list()) == []
    assert (client.count("put_object"), client.count("list_objects_v2"), len(waits)) == (2, 2, 2)
    with pytest.raises(Unavailable, match="cut or stood still"):
        objects.begin("k")
    client = Client(put_object=[{}])
    objects, _ = store(monkeypatch, client)
    with pytest.raises(OutcomeUnknown):
        objects.put("k", DATA, sha256=SHA)


def test_it_waits_longer_each_time_at_random_and_not_for_ever(monkeypatch):
    client = Client(put_object=[answer("SlowDown", 503)])
    objects, waits = store(monkeypatch, client)
    with pytest.raises(Unavailable, match=r"bucket/lake at store\.example says SlowDown: it is overloaded"):
        objects.put("k", DATA, sha256=SHA)
    assert PLACE.patience_s <= sum(waits) < PLACE.patience_s + MAX_BACKOFF_S
    assert max(waits) <= MAX_BACKOFF_S
    assert len(set(waits)) == len(waits)
    asked = Client(put_object=[answer("SlowDown", 503, **{"retry-after": "5"}), PUT])
    objects, waits = store(monkeypatch, asked)
    objects.put("k", DATA, sha256=SHA)
    assert waits == [5.0]


def test_a_call_is_tried_a_few_times_however_long_each_takes(monkeypatch):
    client = Client(head_object=[LOST])
    objects, _ = store(monkeypatch, client, place=S3Settings("b", access_key_id=ID, patience_s=0.0))
    with pytest.raises(Unavailable):
        objects.head("k")
    assert client.count("head_object") == MIN_TRIES


@pytest.mark.parametrize(
    ("failures", "kind"),
    [
        ([UNREACHED], Unavailable),  # it never got there
        ([answer("SlowDown", 503)], Unavailable),
        ([LOST], OutcomeUnknown),
        ([answer("InternalError", 500)], OutcomeUnknown),
        ([LOST, answer("SlowDown", 503)], OutcomeUnknown),  # the first try may have happened
    ],
)
def test_a_write_that_may_have_happened_is_told_from_one_that_has_not(monkeypatch, failures, kind):
    objects, _ = store(monkeypatch, Client(put_object=failures))
    with pytest.raises(Unavailable) as caught:
        objects.put("k", DATA, sha256=SHA)
    assert type(caught.value) is kind


def test_a_conflict_with_ones_own_lost_try_is_none(monkeypatch):
    taken = answer("PreconditionFailed", 412)
    own = {"ETag": '"own"', "ContentLength": len(DATA), "ChecksumSHA256": _base64(SHA)}
    client = Client(put_object=[LOST, taken], head_object=[own])
    objects, _ = store(monkeypatch, client)
    assert objects.put("k", DATA, sha256=SHA) == "own"
    for theirs in (
        {**own, "ChecksumSHA256": _base64(hashlib.sha256(b"else").hexdigest())},
        {**own, "ContentLength": 9},
        {"ETag": '"0123"', "ContentLength": len(DATA)},
        answer("404", 404),
    ):
        objects, _ = store(monkeypatch, Client(put_object=[taken], head_object=[theirs]))
        with pytest.raises(Conflict, match="'k'"):
            objects.put("k", DATA, sha256=SHA)
    old = {"ETag": f'"{hashlib.md5(DATA).hexdigest()}"', "ContentLength": len(DATA)}  # a store that keeps no SHA-256
    objects, _ = store(monkeypatch, Client(put_object=[taken], head_object=[old]))
    assert objects.put("k", DATA, sha256=SHA) == hashlib.md5(DATA).hexdigest()


@pytest.mark.parametrize("refused", [answer("PreconditionFailed", 412), answer("NoSuchUpload", 404)])
def test_a_completion_whose_reply_was_lost_counts_once(monkeypatch, refused):
    parts = [Part(1, 4, hashlib.md5(DATA).hexdigest(), SHA), Part(2, 4, hashlib.md5(DATA).hexdigest(), SHA)]
    composite = hashlib.sha256(bytes.fromhex(SHA) * 2).hexdigest()
    own = {"ETag": '"own-2"', "ContentLength": 8, "ChecksumSHA256": _base64(composite) + "-2"}
    client = Client(complete_multipart_upload=[LOST, refused], head_object=[own])
    objects, _ = store(monkeypatch, client)
    assert objects.complete("k", "u", parts) == "own-2"
    objects, _ = store(
        monkeypatch, Client(complete_multipart_upload=[refused], head_object=[{**own, "ContentLength": 7}])
    )
    with pytest.raises(Conflict if "Precondition" in str(refused) else NotFound):
        objects.complete("k", "u", parts)


@pytest.mark.parametrize(
    ("failure", "kind", "says"),
    [
        (answer("AccessDenied", 403), AccessDenied, "refuses put_object on 'k' .AccessDenied.; check the keys"),
        (answer("SignatureDoesNotMatch", 403), AccessDenied, "check the keys"),
        (answer("ExpiredToken", 400), AccessDenied, "have expired; give keys, log in again"),
        (vendor.NoCredentialsError(), AccessDenied, "no credentials .* were found"),
        (vendor.CredentialRetrievalError(provider="sso", error_msg=SECRET), AccessDenied, "could not be had"),
        (answer("NoSuchBucket", 404), Unavailable, "there is no bucket for s3://bucket/lake"),
        (answer("InsufficientStorage", 507), Unavailable, "is full or over its quota"),
        (answer("QuotaExceeded", 403), Unavailable, "is full or over its quota"),
        (answer("NotImplemented", 501), Unavailable, "does not know put_object"),
        (answer("PermanentRedirect", 301), InvalidInput, "another region; set region="),
        (answer("BadDigest", 400), Corrupt, "changed on their way"),
        (vendor.SSLError(endpoint_url="x", error=SECRET), Unavailable, "certificate"),
        (vendor.ParamValidationError(report=SECRET), InvalidInput, "the name 'k' cannot be used"),
        (answer("Strange", 418, SECRET * 0 + "a teapot"), Unavailable, "status 418: a teapot"),
    ],
)  # fmt: skip
def test_each_failure_has_its_error_with_the_cure_and_no_secret(monkeypatch, failure, kind, says):
    objects, _ = store(monkeypatch, Client(put_object=[failure]))
    with pytest.raises(kind, match=says) as caught:
        objects.put("k", DATA, sha256=SHA)
    told = "".join(traceback.format_exception(caught.value))
    for secret in (SECRET, TOKEN, ID):
        assert secret not in str(caught.value) + repr(PLACE) + repr(objects.settings)
    assert not isinstance(caught.value, (ClientError, vendor.BotoCoreError))
    assert "Traceback" in told


def test_a_wrong_clock_is_named(monkeypatch):
    late = datetime.fromtimestamp(0, timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")
    objects, waits = store(monkeypatch, Client(put_object=[answer("RequestTimeTooSkewed", 403, date=late)]))
    with pytest.raises(AccessDenied, match=r"refuses this machine's clock, which is [\d,]+ s ahead; set it"):
        objects.put("k", DATA, sha256=SHA)
    assert waits == []


def test_expired_credentials_are_asked_for_once_more(monkeypatch):
    expired = answer("ExpiredToken", 400)
    old, new = Client(put_object=[expired]), Client(put_object=[PUT])
    objects, _ = store(monkeypatch, old, new, place=CHAIN)
    assert objects.put("k", DATA, sha256=SHA) == "etag"
    old, new = Client(put_object=[expired]), Client(put_object=[expired])
    objects, _ = store(monkeypatch, old, new, place=CHAIN)
    with pytest.raises(AccessDenied, match="expired"):
        objects.put("k", DATA, sha256=SHA)
    assert (old.count("put_object"), new.count("put_object")) == (1, 1)
    given = Client(put_object=[expired])  # keys that were given do not change by asking again
    objects, _ = store(monkeypatch, given)
    with pytest.raises(AccessDenied, match="expired"):
        objects.put("k", DATA, sha256=SHA)
    assert given.count("put_object") == 1


class Body(io.BytesIO):
    """A reply that breaks off after some bytes."""

    def __init__(self, data: bytes, breaks: Exception | None = None) -> None:
        super().__init__(data)
        self._breaks = breaks

    def read(self, size: int = -1) -> bytes:
        piece = super().read(min(size, 3) if size >= 0 else 3)
        if not piece and self._breaks is not None:
            raise self._breaks
        return piece


@pytest.mark.parametrize("breaks", [None, vendor.IncompleteReadError(actual_bytes=1, expected_bytes=2), CUT])
def test_a_download_goes_on_where_it_was_cut(monkeypatch, breaks):
    whole = bytes(range(200))

    def get(**given: Any) -> dict[str, Any]:
        start = int(given.get("Range", "bytes=0-").split("=")[1].split("-")[0])
        assert ("IfMatch" in given) == (start > 0)
        return {"Body": Body(whole[start : start + 50], breaks), "ETag": '"e"', "ContentLength": len(whole) - start}

    client = Client(get_object=[get])
    objects, waits = store(monkeypatch, client)
    assert objects.read("k") == whole
    assert [given.get("Range") for _, given in client.calls] == [None, "bytes=50-", "bytes=100-", "bytes=150-"]
    assert len(waits) == 3
    client = Client(get_object=[get, answer("PreconditionFailed", 412)])
    objects, _ = store(monkeypatch, client)
    with pytest.raises(NotFound, match="was replaced while it was read"):
        objects.stream("k").read()


def test_entries_that_a_bulk_delete_refuses_are_tried_again(monkeypatch):
    once = {"Errors": [{"Key": "lake/b", "Code": "InternalError"}], "Deleted": [{"Key": "lake/a"}]}
    cut: dict[str, Any] = {}  # an answer that was cut among its headers
    client = Client(delete_objects=[once, cut, {"Deleted": [{"Key": "lake/b"}]}])
    objects, _ = store(monkeypatch, client)
    objects.delete(["a", "b"])
    assert [[o["Key"] for o in given["Delete"]["Objects"]] for _, given in client.calls] == [
        ["lake/a", "lake/b"],
        ["lake/b"],
        ["lake/b"],
    ]
    objects, _ = store(monkeypatch, Client(delete_objects=[{"Errors": [{"Key": "lake/b", "Code": "AccessDenied"}]}]))
    with pytest.raises(AccessDenied, match="delete_objects"):
        objects.delete(["a", "b"])
    many = Client(delete_objects=[lambda **given: {"Deleted": given["Delete"]["Objects"]}])
    objects, _ = store(monkeypatch, many)
    objects.delete([str(i) for i in range(2500)])
    assert [len(given["Delete"]["Objects"]) for _, given in many.calls] == [1000, 1000, 500]


def test_a_large_copy_goes_by_parts_on_the_server(monkeypatch):
    """100 GiB, without a byte sent."""
    size = 100 << 30
    info = {"ETag": '"e"', "ContentLength": size, "LastModified": datetime.now(timezone.utc)}
    client = Client(
        head_object=[info],
        create_multipart_upload=[{"UploadId": "u"}],
        upload_part_copy=[{"CopyPartResult": {"ETag": '"p"'}}],
        complete_multipart_upload=[PUT],
    )
    objects, _ = store(monkeypatch, client)
    assert objects.copy("k", "team/file").size == size
    ranges = sorted(
        tuple(map(int, given["CopySourceRange"].removeprefix("bytes=").split("-")))
        for name, given in client.calls if name == "upload_part_copy"
    )  # fmt: skip
    assert len(ranges) == size // COPY_PART_BYTES <= MAX_PARTS
    assert [start for start, _ in ranges] == [0, *(stop + 1 for _, stop in ranges[:-1])]
    assert ranges[-1][1] == size - 1


def test_a_large_file_goes_by_parts_and_leaves_nothing_when_it_fails(monkeypatch):
    data = bytes(FILE_PART_BYTES) + b"rest"
    info = {"ETag": '"e"', "ContentLength": len(data), "LastModified": datetime.now(timezone.utc)}
    script = {"create_multipart_upload": [{"UploadId": "u"}], "upload_part": [PUT], "head_object": [info]}
    client = Client(**script, complete_multipart_upload=[PUT])
    objects, _ = store(monkeypatch, client)
    objects.put_file("f", io.BytesIO(data))
    sent = [(g["PartNumber"], len(g["Body"])) for name, g in client.calls if name == "upload_part"]
    assert sent == [(1, FILE_PART_BYTES), (2, 4)]
    client = Client(**script, complete_multipart_upload=[answer("AccessDenied", 403)], abort_multipart_upload=[{}])
    objects, _ = store(monkeypatch, client)
    with pytest.raises(AccessDenied):
        objects.put_file("f", io.BytesIO(data))
    assert client.count("abort_multipart_upload") == 1


def test_a_forked_child_makes_its_own_client(monkeypatch):
    clients = [Client(head_object=[answer("404", 404)]) for _ in range(2)]
    objects, _ = store(monkeypatch, *clients)
    objects.head("k")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        objects.head("k")
        os.write(write, bytes([clients[0].count("head_object"), clients[1].count("head_object")]))
        os._exit(0)
    os.waitpid(child, 0)
    assert tuple(os.read(read, 2)) == (1, 1)
    os.close(read)
    os.close(write)


def test_the_client_is_configured_explicitly():
    config = Caller(PLACE).client().meta.config
    assert config.retries["total_max_attempts"] == 1
    assert (config.connect_timeout, config.read_timeout) == (10.0, 30.0)
    assert config.max_pool_connections == PLACE.connections
    assert config.request_checksum_calculation == config.response_checksum_validation == "when_required"
    assert config.s3["addressing_style"] == "path" and config.signature_version == "s3v4"
    assert Caller(CHAIN).client().meta.config.s3["addressing_style"] == "virtual"
    with pytest.raises(InvalidInput, match="cannot be used") as caught:
        Caller(S3Settings("b", profile="nobody-has-this-profile", secret_access_key=SECRET)).client()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("size, asks", [(0, False), (AT_ONCE_BYTES, False), (AT_ONCE_BYTES + 1, True)])
def test_only_a_large_body_waits_for_the_stores_leave(size, asks):
    """boto3 asks before every body: if it no longer does, this says so, and what takes it back may go."""
    caller, sent = Caller(PLACE), []

    def reply(request: Any, **_: Any) -> AWSResponse:
        sent.append(request)
        return AWSResponse(request.url, 200, {"ETag": '"e"'}, HTTPResponse(io.BytesIO(), preload_content=False))

    caller.client().meta.events.register("before-send.s3", reply)
    objects = S3Objects(PLACE, caller=caller)
    body = bytes(size)
    objects.put("k", body, sha256=hashlib.sha256(body).hexdigest())
    objects.put_part("k", "u", 1, body, sha256=hashlib.sha256(body).hexdigest())
    assert [request.method for request in sent] == ["PUT", "PUT"]
    assert [request.headers.get("Expect") is not None for request in sent] == [asks, asks]
    checksum = _base64(hashlib.sha256(body).hexdigest())
    for request in sent:
        assert request.body.getvalue() is body  # and not a copy: many parts are sent at a time
        assert request.headers["x-amz-checksum-sha256"] in (checksum, checksum.encode())
        assert b"x-amz-checksum-sha256" in request.headers["Authorization"]  # signed, too


def _base64(sha256: str) -> str:
    import base64

    return base64.b64encode(bytes.fromhex(sha256)).decode()
