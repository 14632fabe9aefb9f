"""Verbs about the command itself: ``help``, ``completion``."""

from __future__ import annotations

import click

from dreamlake.errors import InvalidInput

TOPICS = {
    "addresses": """\
How files are named

  vision                               a workspace
  vision/run 1                         a session
  vision/run 1:/models/best.pth        a file
  vision/run 1:/models                 a folder and all below it
  vision/run 1:/models/*.pth           a glob; * stays in one folder, ** crosses folders
  vision/run 1:/models/best.pth@v3     version 3 of a file
  vision/run 1:/models/best.pth@best   the version that the alias best names

The first slash ends the workspace and the first ':/' after it ends the session, so the name of a session may hold
spaces and colons. A path begins with a slash. A file that really exists under a name is meant before the name is
taken for a glob, a version or an alias. Quote addresses with spaces, '*', '?' or '[' for the shell.
""",
    "expressions": """\
Expressions (find --where, and where= in Python)

  metadata.val_accuracy > 0.9 and tag:best
  (path:/models/** or name:*.onnx) and size >= 10M and not metadata.failed
  metadata.optim.name in (adam, adamw) and age < 7d

  metadata.NAME   a field, also nested (metadata.a.b) or quoted (metadata."val acc"); alone: it exists
  tag path name type description session workspace id      text
  size            bytes, or 10K, 1.5M, 2GiB
  version         a number
  uploaded updated   ISO-8601, in UTC unless it names a zone; uploaded:2026-01 means in that month
  age             time since the upload: 45s, 30m, 12h, 7d, 2w
  checksum        SHA-256 or its beginning

  =  !=           equal, different            :   matches a shell pattern (for checksum and times: begins with)
  <  <=  >  >=    numbers or text             ~   contains, ignoring case; of a list: has this item
  in (a, b)       is one of; also not in

A field that is missing meets no condition. Values with spaces, commas or parentheses stand in quotes.
""",
    "exit-codes": """\
Exit codes (stable)

    0  done
    1  the system said no: disk full, permission denied, network down
    2  wrong use or input; nothing was changed
    3  not found: no such file, session, version, alias or lake; or content that is no longer stored
    4  conflict: a name is taken, or a local file was edited; it was left alone
    5  damaged content; your files were left alone
    6  the session is write-protected
    7  written by a newer release, or not a lake
    8  a collector revoked the work again and again; run it again
    9  a check found something that is not as it should be
   10  a database or bucket refuses these credentials, or what they may do
   11  a database or bucket cannot be reached; run it again
  130  interrupted (Ctrl-C); nothing is half done
  141  the reader of the output went away
""",
    "environment": """\
Environment

  DREAMLAKE_LOCAL_PATH      root folder of the lake (--lake beats it)
  DREAMLAKE_REMOTE          remote lake: a profile or URL, where no folder is given
  DREAMLAKE_NAMESPACE       whose sessions are meant in a remote lake (default: the profile's, or your user name)
  DREAMLAKE_MONGODB         database of a lake that is given as s3://bucket/prefix
  DREAMLAKE_MAX_FILE_BYTES  largest file that may be uploaded (default 5 GiB)
  DREAMLAKE_CONFIG          configuration file (default ~/.config/dreamlake/config.toml)
  DREAMLAKE_PROGRESS=0      no progress bars
  DREAMLAKE_PAGER, PAGER    what shows listings that do not fit the terminal (default less; cat or empty: none)
  NO_COLOR                  no colours and no bold headings
  COLUMNS, LINES            another size of the terminal than it has
  TZ                        time zone in which times are shown and read
""",
}
_SHELLS = ["bash", "zsh", "fish"]


@click.command()
@click.argument("topic", required=False)
@click.pass_context
def help(ctx: click.Context, topic: str | None) -> None:
    """Show help on a verb, or on addresses, exit-codes or environment."""
    root = ctx.find_root()
    group = root.command
    if topic is None:
        click.echo(root.get_help())
        click.echo(f"Topics of dreamlake help: {', '.join(TOPICS)}.")
    elif topic in TOPICS:
        click.echo(TOPICS[topic], nl=False)
    else:
        command = group.get_command(root, topic) if isinstance(group, click.Group) else None
        if command is None:
            raise InvalidInput(f"no help on {topic!r}; topics are {', '.join(TOPICS)} and every verb")
        with click.Context(command, info_name=topic, parent=root) as inner:
            click.echo(command.get_help(inner))


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """Print the completion script for a shell.

    \b
    bash:  eval "$(dreamlake completion bash)"      in ~/.bashrc
    zsh:   eval "$(dreamlake completion zsh)"       in ~/.zshrc
    fish:  dreamlake completion fish > ~/.config/fish/completions/dreamlake.fish
    """
    from dreamlake.cli.shells import SCRIPTS

    click.echo(SCRIPTS[shell], nl=False)
