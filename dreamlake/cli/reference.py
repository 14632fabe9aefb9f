"""The reference page of the command, from the code: ``python -m dreamlake.cli.reference > docs/reference-cli.md``."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from dreamlake.cli import VERBS, dreamlake
from dreamlake.cli.topics import TOPICS

__all__ = ["page"]

_HEAD = """\
# Reference of the command line

Made from the code by `python -m dreamlake.cli.reference > docs/reference-cli.md`; the same is shown by `--help` and
`dreamlake help`. For an introduction see [the command line](command-line.md).
"""


def page() -> str:
    """The page, in Markdown."""
    root = click.Context(dreamlake, info_name="dreamlake")
    parts = [_HEAD, "## Options of every call\n", _options(dreamlake)]
    for heading in dict.fromkeys(verb.group for verb in VERBS.values()):
        parts.append(f"## {heading}\n")
        for name in (name for name, verb in VERBS.items() if verb.group == heading):
            command = dreamlake.get_command(root, name)
            assert command is not None
            parts += _command(command, name, root)
    for topic, text in TOPICS.items():
        parts.append(f"## Topic: {topic}\n\n```text\n{text.rstrip()}\n```\n")
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _command(command: click.Command, name: str, parent: click.Context) -> Iterator[str]:
    with click.Context(command, info_name=name, parent=parent) as context:
        yield f"### {context.command_path}\n\n```text\n{_usage(command, context.command_path)}\n```\n"
        yield _text(command.help or "")
        if command.epilog:
            yield _text(command.epilog)
        if isinstance(command, click.Group):
            for sub in command.list_commands(context):
                below = command.get_command(context, sub)
                assert below is not None
                yield from _command(below, sub, context)
        else:
            yield _options(command)


def _text(text: str) -> str:
    """Paragraphs; those that keep their lines (after ``\\b``) as a block."""
    made = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        lines = paragraph.split("\n")
        if lines[0].strip() == "\b":
            made.append("```text\n" + inspect.cleandoc("\n".join(lines[1:])) + "\n```\n")
        else:
            made.append("\n".join(line.replace("<", "\\<").replace("*", "\\*") for line in lines) + "\n")
    return "\n".join(made)


def _options(command: click.Command) -> str:
    """Put together here and not by click, whose own text differs from version to version."""
    rows = [f"| `{_names(o)}` | {_about(o)} |" for o in command.params if isinstance(o, click.Option) and not o.hidden]
    return "\n".join(["| option | |", "| --- | --- |", *rows, "| `-h, --help` | Show this message and exit. |"]) + "\n"


def _names(option: click.Option) -> str:
    names = ", ".join(sorted(option.opts, key=len))
    if option.is_flag or option.count:
        return names
    if option.metavar:
        return f"{names} {option.metavar}"
    if isinstance(option.type, click.Choice):
        return f"{names} {'|'.join(map(str, option.type.choices))}".replace("|", "\\|")
    return f"{names} {option.type.name.upper()}"


def _about(option: click.Option) -> str:
    text = " ".join((option.help or "").split()).replace("|", "\\|").replace("<", "\\<")
    shown = option.show_default and option.default is not None
    return f"{text} Default: {option.default}." if shown else text


def _usage(command: click.Command, path: str) -> str:
    pieces = [path, "[OPTIONS]"]
    for argument in command.params:
        if isinstance(argument, click.Argument):
            name = argument.metavar or (argument.name or "").upper()
            if argument.metavar is None:
                name = name if argument.required else f"[{name}]"
                name += "..." if argument.nargs != 1 else ""
            pieces.append(name)
    return " ".join([*pieces, "VERB ..."] if isinstance(command, click.Group) else pieces)


if __name__ == "__main__":
    click.echo(page(), nl=False)
