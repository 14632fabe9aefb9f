"""What every verb shares: the options ``--lake``, ``--json``, ``--dry-run``, and how the lake is found and opened."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

from dreamlake.cli.output import MANNER, Output

if TYPE_CHECKING:
    from dreamlake.files import Files
    from dreamlake.lake import Lake
    from dreamlake.location import RemoteAddress
    from dreamlake.model import SessionKey

__all__ = ["Run", "verb"]

_COMPARED = 5000  # files of a session that a misspelt one is compared with


class Run:
    """One call of a verb: where the lake is, how to print, and whether anything may be changed.

    Attributes:
        out: prints, for people or as JSON lines.
        dry: True when the verb must only say what it would do.
    """

    def __init__(self, lake_dir: str | None, out: Output, dry: bool) -> None:
        self._lake_dir, self.dry = lake_dir, dry
        self.out = out

    @functools.cached_property
    def place(self) -> str | RemoteAddress:
        """The lake's root folder, which need not exist, or its address."""
        return find_place(self._lake_dir)

    @property
    def where(self) -> str:
        """What to call the place."""
        return str(self.place)

    @property
    def location(self) -> dict[str, Any]:
        """The place as a ``Session`` takes it."""
        return {"local_path" if isinstance(self.place, str) else "remote": self.place}

    def own(self, value: Any) -> Any:
        """An argument of a verb; an address is completed with the namespace of the lake."""
        from dreamlake.cli.addresses import Address

        if isinstance(value, tuple) and not isinstance(value, Address):
            return tuple(map(self.own, value))
        if not isinstance(value, Address) or isinstance(self.place, str):
            return value
        return value._replace(namespace=self.place.namespace)

    @functools.cached_property
    def lake(self) -> Lake:
        """The lake. Raises ``NotFound`` when there is none."""
        from dreamlake.lake import open_lake

        return open_lake(self.place)

    def close(self) -> None:
        """Give back the connections of a remote lake that was opened."""
        if "lake" in self.__dict__:
            self.lake.close()

    def files(self, key: SessionKey) -> Files:
        """The files of an existing session; nothing is created. Raises ``NotFound`` with the nearest name."""
        from dreamlake.errors import StateError
        from dreamlake.files import Files

        lake = self.lake
        self.need_session(key)

        def guard(write: bool) -> None:
            if write and lake.info(key).write_protected:
                raise StateError(f"session {key} is write-protected")

        return Files(lake.store, key, guard)

    def need_session(self, key: SessionKey) -> None:
        """Raises ``NotFound`` unless the session exists."""
        from dreamlake.errors import NotFound

        info = self.lake.info(key)
        if info.exists:
            return
        if info.dropped_at is not None:
            raise NotFound(f"session {key} was dropped from the lake in {self.where}", path=str(key))
        names = [str(known) for known in self.lake.store.sessions()]
        raise NotFound(f"no session {str(key)!r} in the lake in {self.where}{nearest(str(key), names)}", path=str(key))

    def workspace(self, name: str) -> list[SessionKey]:
        """The existing sessions of a workspace. Raises ``NotFound``."""
        from dreamlake.errors import NotFound

        sessions = [info.key for info in self.lake.sessions()]
        found = [key for key in sessions if key.workspace == name]
        if not found:
            hint = nearest(name, sorted({key.workspace for key in sessions}))
            raise NotFound(f"no workspace {name!r} in the lake in {self.where}{hint}", path=name)
        return found


def find_place(given: str | None) -> str | RemoteAddress:
    """The lake's folder or address: given, of the environment, of the lake around the current folder, or configured.

    Raises ``InvalidInput`` for a password on the command line, where every user of the machine can read it.
    """
    from dreamlake.location import is_url, locate, location_of

    if is_url(given):
        check_shown(str(given))
    if given is not None:
        return location_of(given)
    if not os.environ.get("DREAMLAKE_LOCAL_PATH") and not os.environ.get("DREAMLAKE_REMOTE"):
        here = os.getcwd()
        while True:
            if os.path.exists(os.path.join(here, ".dreamlake", "store.json")):
                return here
            parent = os.path.dirname(here)
            if parent == here:
                break
            here = parent
    return locate()


def check_shown(url: str) -> None:
    """Raises ``InvalidInput`` for a URL with a password, its own or that of the database in it."""
    import re
    from urllib.parse import unquote

    from dreamlake.errors import InvalidInput

    if any(re.search(r"://[^/@\s]*:[^/@\s]*@", text) for text in (url, unquote(url))):
        raise InvalidInput(
            "a password on the command line can be read by every user of this machine: name a profile whose secrets "
            "are in environment variables (dreamlake remote add), or put the URL into DREAMLAKE_REMOTE"
        )


def nearest(name: str, names: list[str]) -> str:
    """A hint at the name that was probably meant, or nothing."""
    import difflib

    near = difflib.get_close_matches(name, names, 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def verb(*, changes: bool = False, pages: bool = False) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a function a verb: it is called with a ``Run`` and its own options; its docstring is the help.

    Args:
        changes: it changes something, and therefore takes ``--dry-run``.
        pages: what it prints may be long, and goes through a pager on a terminal.
    """

    def decorate(function: Callable[..., Any]) -> click.Command:
        @functools.wraps(function)
        def call(
            lake_dir: str | None, as_json: bool, verbose: bool, quiet: bool, dry_run: bool = False, **options: Any
        ) -> Any:
            MANNER.more(verbose, quiet)
            given = lake_dir if lake_dir is not None else click.get_current_context().find_root().obj
            out, start = Output(as_json, changes=changes, pages=pages), time.monotonic()
            run = Run(given, out, dry_run)
            given_options = {name: run.own(value) for name, value in options.items()}
            try:
                return function(run, **given_options)
            except FileNotFoundError as error:
                raise _with_hint(run, given_options.values(), error) from error
            finally:
                out.finish()
                if MANNER.verbose:
                    _tell(run, function.__name__, time.monotonic() - start)
                run.close()

        command = click.command(function.__name__)(call)
        command.params.append(
            click.Option(["--lake", "lake_dir"], metavar="LAKE", help="Folder, profile or URL of the lake.")
        )
        command.params.append(click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON object a line."))
        if changes:
            text = "Say what would be done; change nothing."
            command.params.append(click.Option(["--dry-run", "-n"], is_flag=True, help=text))
        command.params += manner()
        return command

    return decorate


def _with_hint(run: Run, options: Iterable[Any], error: FileNotFoundError) -> FileNotFoundError:
    """An error about a misspelt file says which one was probably meant."""
    from dreamlake.cli.addresses import Address
    from dreamlake.errors import NotFound

    if isinstance(error, NotFound) and str(error).startswith("no file"):
        flat = [one for option in options for one in (option if type(option) is tuple else (option,))]
        for address in flat:
            if isinstance(address, Address) and address.path is not None and address.path == error.path:
                keys = [v.key for v in run.lake.store.catalog.view(address.key).live()[:_COMPARED]]
                folders = {key.rpartition("/")[0] for key in keys}
                return NotFound(f"{error}{nearest('/' + address.path.strip('/'), [*keys, *folders])}", path=error.path)
    return error


def _tell(run: Run, verb: str, seconds: float) -> None:
    from dreamlake.errors import LakeError

    with contextlib.suppress(LakeError):  # an error of the verb itself must not give way to one of this
        run.out.note(f"{verb} on {run.where} took {seconds:.2f} s")


def manner() -> list[click.Parameter]:
    """The options ``-v`` and ``-q``."""
    return [
        click.Option(
            ["--verbose", "-v"], is_flag=True, help="Say which lake, how long it took, and where errors arose."
        ),
        click.Option(["--quiet", "-q"], is_flag=True, help="No remarks and no progress; of changes, only errors."),
    ]
