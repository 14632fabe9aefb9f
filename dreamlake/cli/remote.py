"""Verbs about where lakes are: ``remote add``, ``list``, ``remove``, ``test``, and ``doctor``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from dreamlake.cli.command import Run, check_shown, verb
from dreamlake.cli.output import safe
from dreamlake.errors import InvalidInput

if TYPE_CHECKING:
    from dreamlake.doctor import Check

WRONG = 9  # exit code of a check that found something
_VARIABLES = {
    "mongodb_user_env": "the database's user",
    "mongodb_password_env": "its password",
    "access_key_id_env": "the bucket's access key id",
    "secret_access_key_env": "its secret access key",
    "session_token_env": "its session token",
}


@click.group()
def remote() -> None:
    """Keep profiles of remote lakes in the configuration file, and test them.

    \b
    dreamlake remote add team "s3://bucket/prefix?endpoint=https://s3.example.org&mongodb=mongodb%3A%2F%2Fhost%2Flake"
    dreamlake remote test team
    dreamlake --lake team ls            or: export DREAMLAKE_REMOTE=team
    """


def _variables(command: Any) -> Any:
    for name, meaning in reversed(_VARIABLES.items()):
        text = f"Environment variable with {meaning}."
        command = click.option(f"--{name.replace('_', '-')}", metavar="VARIABLE", help=text)(command)
    return command


@verb(changes=True)
@click.argument("name")
@click.argument("url")
@click.option("--folder", metavar="DIR", help="Blobs are in this shared folder (with a mongodb:// URL).")
@click.option("--namespace", metavar="NAME", help="Whose sessions are meant. Default: your user name.")
@_variables
def add(run: Run, name: str, url: str, folder: str | None, namespace: str | None, **variables: str | None) -> None:
    """Add a profile of a remote lake.

    URL is mongodb://host/database for a lake that exists (or with --folder), or
    s3://bucket/prefix?mongodb=URL&endpoint=URL&region=R&addressing=path for any. No secret is written: name the
    environment variables that hold them, or rely on AWS's own ways of giving credentials.
    """
    from dreamlake.location import remote_address
    from dreamlake.ports import Ports
    from dreamlake.profiles import add_profile, profile_text, table_of

    check_shown(url)
    given = {option: str(variables[option]) for option in _VARIABLES if variables[option] is not None}
    for one, other in (("mongodb_user_env", "mongodb_password_env"), ("access_key_id_env", "secret_access_key_env")):
        if (one in given) != (other in given):
            raise InvalidInput(f"--{one.replace('_', '-')} and --{other.replace('_', '-')} go together")
    address = remote_address({"mongodb": url, "folder": folder} if folder is not None else url, namespace=namespace)
    if any(not option.startswith("mongodb") for option in given) and not url.startswith("s3://"):
        raise InvalidInput("access keys belong to a bucket: give a URL that begins with s3://")
    table = table_of(address, given, namespace=namespace)
    text = profile_text(name, table)
    file = None if run.dry else add_profile(Ports(), name, table)
    run.out.record({"profile": name, "file": file, "dryRun": run.dry, "settings": table})
    run.out.line(safe(text.rstrip("\n")) if run.dry else safe(f"added profile {name} to {file}"))


@verb()
def list_(run: Run) -> None:
    """List the profiles."""
    from dreamlake.location import RemoteAddress
    from dreamlake.profiles import profiles

    rows = []
    for name, table in profiles().items():
        database = (
            RemoteAddress(str(table.get("mongodb", ""))).place
            if "mongodb" in table
            else "$" + str(table.get("mongodb_env", ""))
        )
        s3 = table.get("s3")
        blobs = f"s3://{s3.get('bucket')}/{s3.get('prefix', '')}" if isinstance(s3, dict) else table.get("folder", "")
        rows.append({"profile": name, "database": database, "blobs": blobs, "namespace": table.get("namespace", "")})
    run.out.records(rows)
    run.out.table(["PROFILE", "DATABASE", "BLOBS", "NAMESPACE"], [tuple(map(str, row.values())) for row in rows])


@verb(changes=True)
@click.argument("name")
def remove(run: Run, name: str) -> None:
    """Remove a profile. The lake stays as it is."""
    from dreamlake.errors import NotFound
    from dreamlake.ports import Ports
    from dreamlake.profiles import profiles, remove_profile

    if run.dry and name not in profiles():
        raise NotFound(f"there is no profile {name!r}", path=name)
    file = None if run.dry else remove_profile(Ports(), name)
    run.out.record({"profile": name, "file": file, "dryRun": run.dry})
    run.out.did(run.dry, "removed", "remove", f"profile {name}")


@verb()
@click.argument("what", metavar="PROFILE|URL", required=False)
@click.option("--create-indexes", is_flag=True, help="Create the indexes that the database lacks.")
def test(run: Run, what: str | None, create_indexes: bool) -> int:
    """Look at a remote lake closely: reach it, write to it, and say what is wrong, with the cure.

    Exits with 9 if something must be done.
    """
    from dreamlake.doctor import examine, mend_indexes
    from dreamlake.location import RemoteAddress

    if what is not None:
        run = Run(what, run.out, run.dry)
    if not isinstance(run.place, RemoteAddress):
        raise InvalidInput(f"{run.where} is a folder; name a profile or a URL, or use dreamlake doctor")
    if create_indexes:
        made = mend_indexes(run.place)
        run.out.line(f"created {made:,} indexes")
    return _told(run, examine(run.place))


@verb()
def doctor(run: Run) -> int:
    """Say what is wrong with a lake's place, in a sentence with the cure.

    Looks at configuration, reachability, credentials, rights, store ids, indexes, what the bucket can do, clock and
    free space. Exits with 9 if something must be done.
    """
    from dreamlake.doctor import FAILED, Check, examine
    from dreamlake.errors import LakeError

    try:
        place = run.place
    except LakeError as error:
        return _told(run, [Check("configuration", FAILED, str(error))])
    return _told(run, examine(place))


def _told(run: Run, checks: Iterable[Check]) -> int:
    from dreamlake.doctor import FAILED

    failed = 0
    for check in checks:
        failed += check.state == FAILED
        run.out.record(check.record())
        cure = f". Cure: {check.cure}" if check.cure else ""
        run.out.line(safe(f"{check.state:<8} {check.name}: {check.message}{cure}"))
    return WRONG if failed else 0


for _command, _name in ((add, "add"), (list_, "list"), (remove, "remove"), (test, "test")):
    remote.add_command(_command, _name)
