"""Verbs that move content in and out: ``upload``, ``download``, ``cat``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from dreamlake.cli.addresses import ADDRESS, Address
from dreamlake.cli.command import Run, verb
from dreamlake.cli.output import count, safe, size
from dreamlake.cli.selecting import is_single, select
from dreamlake.errors import InvalidInput, NotFound
from dreamlake.model import GLOB_CHARACTERS

if TYPE_CHECKING:
    from dreamlake.model import Version

_PIECE = 1 << 20


@verb(changes=True)
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.argument("dest", type=ADDRESS, metavar="WORKSPACE/SESSION[:/FOLDER]")
@click.option("--filename", metavar="NAME", help="Another name than the file's own; needed for standard input (-).")
@click.option("--tag", "-t", "tags", multiple=True, help="A tag; repeat for more.")
@click.option("--metadata", "-m", multiple=True, metavar="K=V|JSON", help="A field, or a JSON object; repeat for more.")
@click.option("--description", "-d", metavar="TEXT", help="What it is.")
@click.option("--include", multiple=True, metavar="GLOB", help="Of a folder, only these files; repeat for more.")
@click.option("--ignore", multiple=True, metavar="GLOB", help="Of a folder, all but these; repeat for more.")
@click.option(
    "--encoding",
    type=click.Choice(["auto", "coded", "raw"]),
    help="How to store it: auto: checkpoints as parts and differences; coded: every large file; raw: nothing.",
)
def upload(
    run: Run,
    sources: Sequence[str],
    dest: Address,
    filename: str | None,
    tags: Sequence[str],
    metadata: Sequence[str],
    description: str | None,
    include: Sequence[str],
    ignore: Sequence[str],
    encoding: str | None,
) -> None:
    """Store files, folders or standard input (-) in a session.

    The path of the destination is a folder. A folder's tree is stored below it, all at once or not at all. The lake and
    the session are created if need be. Same path and name again: a new version; same content again: nothing is moved.

    \b
    dreamlake upload model.pth "vision/run 1:/models" -t best -m loss=0.12
    dreamlake upload results/ vision/run-2 --ignore "*.tmp"
    tar c logs | dreamlake upload - vision/run-2:/logs --filename logs.tar
    """
    from dreamlake.session import Session

    folder = dest.path or "/"
    _check_sources(sources, folder, filename)
    options: dict[str, Any] = {"description": description, "tags": list(tags), "metadata": parse_metadata(metadata)}
    options["encoding"] = encoding
    if run.dry:
        _would_upload(run, sources, dest, filename, include, ignore)
        return
    with Session(dest.key.name, dest.key.workspace, capture=False, **run.location) as session:
        for source in sources:
            if source == "-":
                done = session.files.upload(sys.stdin.buffer, path=folder, filename=filename, **options)
            elif os.path.isdir(os.path.expanduser(source)):
                done = session.files.upload(source, path=folder, include=include, ignore=ignore, **options)
            else:
                done = session.files.upload(source, path=folder, filename=filename, **options)
            run.out.record(done)
            _print_uploaded(run, done, dest)


def _check_sources(sources: Sequence[str], folder: str, filename: str | None) -> None:
    if filename is not None and len(sources) > 1:
        raise InvalidInput("--filename is for a single file")
    if "-" in sources and filename is None:
        raise InvalidInput("standard input (-) has no name; add --filename NAME")
    name = folder.rpartition("/")[2]
    for source in sources:
        if name and os.path.basename(source) == name and os.path.isfile(os.path.expanduser(source)):
            parent = folder.rpartition("/")[0] or "/"
            raise InvalidInput(
                f"the destination's path is a folder, and {folder} ends in the file's name; write :{parent} "
                f"(or :{folder}/ for a folder of that name)",
                path=folder,
            )


def _print_uploaded(run: Run, done: dict[str, Any], dest: Address) -> None:
    if "files" not in done:
        path = f"{done['path'].rstrip('/')}/{done['filename']}"
        run.out.did(False, "uploaded", "", f"{dest.key}:{path}  v{done['version']}  {size(done['sizeBytes'])}")
        return
    parts = [f"uploaded {count(done['uploaded'], 'file')} to {dest.key}:{done['path']}"]
    if done["unchanged"]:
        parts.append(f"{done['unchanged']:,} unchanged")
    run.out.line(safe(f"{', '.join(parts)}: {size(done['sizeBytes'])}, {size(done['newBytes'])} of it new"))


def _would_upload(
    run: Run,
    sources: Sequence[str],
    dest: Address,
    filename: str | None,
    include: Sequence[str],
    ignore: Sequence[str],
) -> None:
    """What an upload would store, checked as far as it can be without reading the content."""
    from dreamlake import config
    from dreamlake.content.staging import check_source
    from dreamlake.lake import open_lake
    from dreamlake.model import DEFAULT_MAX_FILE_BYTES, file_key
    from dreamlake.operations.folders import scan_folder

    limit = config.max_file_bytes() or DEFAULT_MAX_FILE_BYTES
    folder = dest.path or "/"
    planned: list[tuple[str, int | None]] = []
    for source in sources:
        local = os.path.expanduser(source)
        if source == "-":
            planned.append((file_key(folder, str(filename)), None))
        elif os.path.isdir(local):
            for found in scan_folder(local, include=include, ignore=ignore, limit=limit):
                head, _, tail = found.relative.rpartition("/")
                planned.append((file_key(f"{folder}/{head}", tail), found.size))
        else:
            planned.append((file_key(folder, filename or os.path.basename(local)), check_source(local, limit).st_size))
    try:
        view = open_lake(run.place).store.catalog.view(dest.key)
    except NotFound:
        view = None
    if view is not None:
        refused = view.refusal({"op": "put", "path": key} for key, _ in planned)
        if refused is not None:
            raise refused
    for key, bytes_ in planned:
        old = view.current_at(key) if view is not None else None
        run.out.record({"action": "upload", "file": key, "sizeBytes": bytes_, "replaces": old.number if old else None})
        about = "" if bytes_ is None else f"  {size(bytes_)}"
        run.out.did(True, "", "upload", f"{key}{about}{f'  (a new version after v{old.number})' if old else ''}")


def parse_metadata(texts: Sequence[str]) -> dict[str, Any] | None:
    """``["lr=0.1", '{"a": 1}']`` -> {"lr": 0.1, "a": 1}; later ones win. Raises ``InvalidInput``."""
    import json

    out: dict[str, Any] = {}
    for text in texts:
        if text.lstrip().startswith("{"):
            try:
                value = json.loads(text)
            except ValueError as error:
                raise InvalidInput(f"--metadata {text!r} is not valid JSON: {error}") from None
            out.update(value)
            continue
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise InvalidInput(f"--metadata {text!r} is neither NAME=VALUE nor a JSON object")
        try:
            out[name.strip()] = json.loads(value)
        except ValueError:
            out[name.strip()] = value
    return out or None


# ---- out of a lake -----------------------------------------------------------------------------------------------


@verb(changes=True)
@click.argument("source", type=ADDRESS, metavar="ADDRESS")
@click.argument("dest", required=False, metavar="[DEST]")
def download(run: Run, source: Address, dest: str | None) -> None:
    """Copy a file, a folder or the files that match a glob to DEST (default: the current folder).

    A single file goes to DEST, or into it when it is a folder or ends in a slash. Of a folder or a glob the tree below
    the folder (below the part before the first wildcard) is written into DEST. An existing file is replaced only by
    complete, verified content.

    \b
    dreamlake download "vision/run 1:/models/best.pth@best" best.pth
    dreamlake download "vision/run 1:/models" weights/
    dreamlake download "vision/run 1:/**/*.json" .
    """
    files = run.files(source.key)
    source.file  # noqa: B018  (an address without a path is an error, not the whole session)
    for version, target in _targets(run, source, dest):
        if not run.dry:
            target = files.download(f"{version.key}@v{version.number}", target)
        value = {"file": version.key, "dest": target, "sizeBytes": version.size_bytes, "checksum": version.digest}
        run.out.record({"action": "download", **value} if run.dry else value)
        run.out.did(run.dry, "downloaded", "download", f"{version.key}  {size(version.size_bytes)}  to {target}")


def _targets(run: Run, source: Address, dest: str | None) -> list[tuple[Version, str]]:
    """Which version goes to which local file."""
    versions = select(run, source)
    local = os.path.expanduser(dest) if dest is not None else "."
    if is_single(run, source):
        name = versions[0].key.rpartition("/")[2]
        into = local.endswith("/") or os.path.isdir(local)
        return [(versions[0], os.path.normpath(os.path.join(local, name)) if into else local)]
    if os.path.lexists(local) and not os.path.isdir(local):
        raise InvalidInput(f"{local} is a file; {count(len(versions), 'file')} need a folder", path=local)
    prefix = _static_prefix(run, source)
    return [(v, os.path.normpath(os.path.join(local, v.key[len(prefix) :]))) for v in versions]


def _static_prefix(run: Run, source: Address) -> str:
    """The folder that a tree is written relative to: the address's own, or the part before a glob's first wildcard."""
    from dreamlake.model import below, folder_path

    try:
        folder = folder_path(source.file)
        if folder == "/" or run.lake.store.catalog.view(source.key).is_folder(folder):
            return below(folder)
    except ValueError:
        pass
    path = source.file
    first = min(path.find(char) for char in GLOB_CHARACTERS if char in path)
    return path[: path.rfind("/", 0, first) + 1]


@verb()
@click.argument("sources", type=ADDRESS, nargs=-1, required=True, metavar="ADDRESS...")
def cat(run: Run, sources: Sequence[Address]) -> None:
    """Write the content of files to standard output, one after the other.

    Content is verified while it is written: damage ends the command with exit code 5, and what was written until then
    must not be used.
    """
    if run.out.as_json:
        raise InvalidInput("cat writes the content itself; use info --json for the record")
    for source in sources:
        files = run.files(source.key)
        with files.open(source.file) as stream:
            while piece := stream.read(_PIECE):
                sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


@verb()
@click.argument("source", type=ADDRESS, metavar="ADDRESS")
@click.option("--expires", "expires_s", type=click.IntRange(1), default=3600, show_default=True, metavar="SECONDS",
              help="How long it is valid, at most a week.")  # fmt: skip
def link(run: Run, source: Address, expires_s: int) -> None:
    """Print a URL from which anybody can read a file for a while, without credentials.

    For remote lakes whose contents are in a bucket. Content that is stored in parts is first made an object of its own,
    as materialize --bucket does.
    """
    url = run.files(source.key).link(source.file, expires_s=expires_s)
    run.out.record({"file": source.file, "url": url, "expiresSeconds": expires_s})
    run.out.line(url)
