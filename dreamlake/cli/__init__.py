"""The ``dreamlake`` command: finds the verb, turns errors into one line and an exit code. Does no work itself.

A verb lives in a module of its group and is imported only when it is called: add a line to ``VERBS`` and a function
decorated with ``verb`` (see ``command``) to the module named there.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any, NamedTuple, NoReturn

import click

from dreamlake import __version__
from dreamlake.cli.output import MANNER, styled
from dreamlake.errors import LakeError

__all__ = ["VERBS", "Verb", "main"]


class Verb(NamedTuple):
    """Where a verb lives: a module of ``dreamlake.cli``, its heading and its line in ``dreamlake --help``."""

    module: str
    group: str
    help: str


_LOOK, _CHANGE, _KEEP, _TREE, _MORE = "Look", "Change", "Upkeep", "Trees on disk", "More"
_REMOTE = "Where lakes are"

VERBS: dict[str, Verb] = {
    "ls": Verb("listing", _LOOK, "List sessions, or the files of a session."),
    "tree": Verb("listing", _LOOK, "Draw the folders and files of a session."),
    "info": Verb("inspecting", _LOOK, "Show all that is known of a lake, session or file."),
    "history": Verb("inspecting", _LOOK, "List the versions of a file, newest first."),
    "find": Verb("listing", _LOOK, "Find files by name, tags, metadata, size or time."),
    "diff": Verb("differences", _LOOK, "Compare sessions, files or versions, tensor by tensor."),
    "scan": Verb("checkpoints", _LOOK, "Say what storing a folder of checkpoints would save."),
    "cat": Verb("transfer", _LOOK, "Write the content of files to standard output."),
    "link": Verb("transfer", _LOOK, "Print a URL from which anybody can read a file for a while."),
    "download": Verb("transfer", _LOOK, "Copy files or folders out of a lake."),
    "upload": Verb("transfer", _CHANGE, "Store files, folders or standard input."),
    "rm": Verb("changing", _CHANGE, "Delete files (restore brings them back)."),
    "restore": Verb("changing", _CHANGE, "Bring back deleted files or older versions."),
    "mv": Verb("changing", _CHANGE, "Move or rename files and folders with their history."),
    "cp": Verb("changing", _CHANGE, "Copy files and folders, also to another session."),
    "alias": Verb("changing", _CHANGE, "Name a version of a file, such as best."),
    "gc": Verb("upkeep", _KEEP, "Free what nothing refers to any more."),
    "retention": Verb("upkeep", _KEEP, "Show or declare which older versions gc may let go."),
    "verify": Verb("upkeep", _KEEP, "Look for what is missing or damaged."),
    "repair": Verb("upkeep", _KEEP, "Put right what verify finds."),
    "stats": Verb("upkeep", _KEEP, "Show logical against stored bytes."),
    "du": Verb("upkeep", _KEEP, "Show what takes the space, and what deleting it would free."),
    "why": Verb("upkeep", _KEEP, "Show what keeps a content."),
    "optimize": Verb("storage", _KEEP, "Store checkpoints as parts and differences in the background."),
    "settings": Verb("storage", _KEEP, "Show or change how uploads to a lake are stored."),
    "remote": Verb("remote", _REMOTE, "Keep profiles of remote lakes, and test them."),
    "doctor": Verb("remote", _REMOTE, "Say what is wrong with a lake's place, and the cure."),
    "push": Verb("sync", _REMOTE, "Bring what is in this lake into another one."),
    "pull": Verb("sync", _REMOTE, "Bring what is in another lake into this one."),
    "sync": Verb("sync", _REMOTE, "Bring two lakes to the same sessions, in both directions."),
    "import": Verb("imports", _TREE, "Import a folder, a tar, MLflow runs, older DreamLake trees."),
    "export": Verb("imports", _TREE, "Export files as a folder or tar, with checksums."),
    "materialize": Verb("trees", _TREE, "Build the files of sessions as an ordinary folder tree."),
    "demo": Verb("demo", _MORE, "Show what a lake does, on real data, in seconds and offline."),
    "help": Verb("topics", _MORE, "Show help on a verb or a topic."),
    "completion": Verb("topics", _MORE, "Print the shell completion script."),
}
SPELLINGS = {"log": "history"}  # other words for the same verb

COMPLETION_VARIABLE = "_DREAMLAKE_COMPLETE"
INTERRUPTED = 130  # as a shell reports a program that Ctrl-C ended
BROKEN_PIPE = 141  # as a shell reports a program whose reader went away


def add_examples(name: str, command: click.Command) -> None:
    """Put the examples of a verb, and of the verbs below it, at the end of its help."""
    from dreamlake.cli.examples import EXAMPLES

    if name in EXAMPLES:
        command.epilog = "\n".join(["\b", "Examples:", *(f"  {line}" for line in EXAMPLES[name])])
    if isinstance(command, click.Group):
        for sub, below in command.commands.items():
            add_examples(f"{name} {sub}", below)


class Verbs(click.Group):
    """Commands by name, their modules imported when needed; help is shown in sections."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = SPELLINGS.get(cmd_name, cmd_name)
        if name not in VERBS:
            return None
        module = import_module(f"dreamlake.cli.{VERBS[name].module}")
        command: click.Command = getattr(module, name.replace("-", "_"))
        add_examples(name, command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in VERBS and args[0] not in SPELLINGS:
            import difflib

            near = difflib.get_close_matches(args[0], [*VERBS, *SPELLINGS], 1)
            hint = f"; did you mean {near[0]!r}?" if near else ". See dreamlake --help"
            raise click.UsageError(f"there is no verb {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for heading in dict.fromkeys(verb.group for verb in VERBS.values()):
            rows = [(name, verb.help) for name, verb in VERBS.items() if verb.group == heading]
            with formatter.section(heading):
                formatter.write_dl(rows)


@click.group(
    cls=Verbs,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="See dreamlake help addresses, dreamlake help exit-codes.",
)
@click.option(
    "--lake",
    "lake_dir",
    metavar="LAKE",
    help="The lake: its root folder, a profile or a URL. Default: $DREAMLAKE_LOCAL_PATH, else $DREAMLAKE_REMOTE, else "
    "the lake that the current folder lies in, else the configured one, else ./experiments.",
)
@click.option("--verbose", "-v", is_flag=True, help="Say which lake, how long it took, and where errors arose.")
@click.option("--quiet", "-q", is_flag=True, help="No remarks and no progress; of changes, only errors.")
@click.version_option(__version__, message="dreamlake %(version)s")
@click.pass_context
def dreamlake(ctx: click.Context, lake_dir: str | None, verbose: bool, quiet: bool) -> None:
    """Keep the files of experiments: every content once, every version readable.

    Files are named WORKSPACE/SESSION:/path/to/file, older versions with @v3 or @alias at the end, sessions
    WORKSPACE/SESSION. See dreamlake help addresses.
    """
    MANNER.more(verbose, quiet)
    ctx.obj = lake_dir
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(args: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with the documented code (``dreamlake help exit-codes``)."""
    sys.exit(run(sys.argv[1:] if args is None else args))


def run(args: list[str]) -> int:
    """Run the command line; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a name that the terminal cannot show must not end the command
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _call(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _silence()
        return BROKEN_PIPE
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED


def _call(args: list[str]) -> int:
    wanted = os.environ.get(COMPLETION_VARIABLE)
    if wanted:
        from dreamlake.cli.shells import answer

        return answer(dreamlake, wanted)
    try:  # not dreamlake.main(): it would turn a broken pipe into exit code 1 and Ctrl-C into an empty line
        with dreamlake.make_context("dreamlake", list(args)) as ctx:
            result: Any = dreamlake.invoke(ctx)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as done:
        return int(done.exit_code)
    except click.Abort:
        raise KeyboardInterrupt from None
    except click.ClickException as error:
        where = f" (see {error.ctx.command_path} --help)" if isinstance(error, click.UsageError) and error.ctx else ""
        _say_error(f"{error.format_message()}{where}")
        return 2
    except BrokenPipeError:
        raise
    except LakeError as error:
        _say_error(str(error))
        return error.exit_code
    except OSError as error:
        _say_error(_about(error))
        return 1


def _about(error: OSError) -> str:
    text = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {text}" if error.filename else text


def _say_error(text: str) -> None:
    _say(f"{styled('error:', 'error', sys.stderr)} {text}")
    if MANNER.verbose:
        import traceback

        traceback.print_exc()


def _say(text: str) -> None:
    """One line on standard error."""
    try:
        sys.stdout.flush()
        print("dreamlake:", " ".join(text.split()), file=sys.stderr, flush=True)
    except (BrokenPipeError, ValueError):
        _silence()


def _silence() -> None:
    """Nobody reads any more: keep the interpreter from complaining when it flushes at exit."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
    except (OSError, ValueError):
        pass
