"""Completion in bash, zsh and fish: the scripts, and the answers to their questions.

A script asks with ``_DREAMLAKE_COMPLETE`` set. The first line of the answer says how to go on after a completion
(``space``, ``nospace``) or who completes instead (``files``, ``folders``); then comes a candidate a line, with a tab
and a description after it where there is one (zsh, fish). bash takes a word apart at colons and ``@``, and gets only
what has to be put in place of the last piece.
"""

from __future__ import annotations

import os
import re
import sys
from typing import NamedTuple

import click

__all__ = ["SCRIPTS", "answer"]

_BASH = """\
_dreamlake_completion() {
    local -a reply
    mapfile -t reply < <(_DREAMLAKE_COMPLETE=bash_complete COMP_LINE="$COMP_LINE" COMP_POINT="$COMP_POINT" \\
        COMP_WORDBREAKS="$COMP_WORDBREAKS" "$1" 2>/dev/null)
    COMPREPLY=("${reply[@]:1}")
    case "${reply[0]}" in
        nospace) compopt -o nospace ;;
        files) compopt -o default ;;
        folders) compopt -o dirnames ;;
    esac
}
complete -o nosort -F _dreamlake_completion dreamlake
"""
_ZSH = """\
#compdef dreamlake
_dreamlake_completion() {
    local -a reply values shown folders
    local how line
    local typed="${(F)${(@Q)words[1,CURRENT]}}"
    reply=("${(@f)$(_DREAMLAKE_COMPLETE=zsh_complete COMP_WORDS="$typed" "$words[1]" 2>/dev/null)}")
    how=$reply[1]
    shift reply
    case $how in
        files) _files; return ;;
        folders) _files -/; return ;;
    esac
    for line in $reply; do
        if [[ $line == */ ]]; then
            folders+=("$line")
        else
            values+=("${line%%$'\\t'*}")
            shown+=("${line/$'\\t'/  -- }")
        fi
    done
    (( $#folders )) && compadd -S '' -- $folders
    (( $#values )) || return
    if [[ $how == nospace ]]; then compadd -S '' -d shown -- $values; else compadd -l -d shown -- $values; fi
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _dreamlake_completion "$@"
else
    compdef _dreamlake_completion dreamlake
fi
"""
_FISH = """\
function __dreamlake_completion
    set -l words (commandline -opc)
    set -lx _DREAMLAKE_COMPLETE fish_complete
    set -lx COMP_WORDS (string join \\n -- $words | string collect)
    set -lx COMP_CURRENT (commandline -ct | string unescape | string collect); or set COMP_CURRENT ''
    set -l reply ($words[1] 2>/dev/null)
    switch $reply[1]
        case files folders
            __fish_complete_path (commandline -ct)
        case '*'
            printf '%s\\n' $reply[2..-1]
    end
end
complete --no-files --command dreamlake --arguments "(__dreamlake_completion)"
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}

_PLAIN = re.compile(r"[\w%+,./:=@^-]", re.ASCII)  # what bash takes as it is


class Typed(NamedTuple):
    """The words of a line; the last one as it stands there (``raw``) and what it means so far."""

    words: list[str]
    current: str
    raw: str


def answer(group: click.Command, question: str) -> int:
    """Print what may come next; returns the exit code."""
    shell = question.partition("_")[0]
    if shell not in SCRIPTS:
        return 1
    if shell == "bash":
        point = int(os.environ.get("COMP_POINT") or len(os.environ.get("COMP_LINE", "")))
        line = os.environ.get("COMP_LINE", "").encode()[:point].decode(errors="ignore")  # bash counts bytes
        typed = split(line)
    else:
        words = os.environ.get("COMP_WORDS", "").split("\n")
        current = os.environ["COMP_CURRENT"] if "COMP_CURRENT" in os.environ else words.pop()
        typed = Typed(words, current.lstrip("'\""), current)  # a quote that is still open
    how, found = candidates(group, typed.words[1:], typed.current)
    breaks = set(os.environ.get("COMP_WORDBREAKS", ":=@")) & set(":=@")
    lines = [how]
    for value, about in found:
        if shell == "bash":
            lines.append(for_bash(value, typed, breaks))
        else:
            lines.append(f"{value}\t{about}" if about else value)
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def candidates(group: click.Command, words: list[str], current: str) -> tuple[str, list[tuple[str, str]]]:
    """How to go on, and (candidate, description) for the last word of a line."""
    from click.shell_completion import ShellComplete

    items = ShellComplete(group, {}, "dreamlake", "").get_completions(words, current)
    kinds = {item.type for item in items}
    found = [(str(i.value), i.help or "") for i in items if i.type == "plain" and "\n" not in str(i.value)]
    if not found and kinds & {"file", "dir"}:
        return "files" if "file" in kinds else "folders", []
    return "nospace" if any(value.endswith(("/", "@", "=")) for value, _ in found) else "space", found


def split(line: str) -> Typed:
    """A line as bash reads it, up to the cursor; the last quote may be open."""
    words: list[str] = []
    current, start, quote, inside, at = "", 0, "", False, 0
    while at < len(line):
        char = line[at]
        if quote:
            if char == quote:
                quote = ""
            elif char == "\\" and quote == '"' and line[at + 1 : at + 2] in ('"', "\\", "$", "`"):
                at += 1
                current += line[at]
            else:
                current += char
        elif char in " \t":
            if inside:
                words.append(current)
            current, inside = "", False
        else:
            if not inside:
                start, inside = at, True
            if char in "'\"":
                quote = char
            elif char == "\\":
                at += 1
                current += line[at : at + 1]
            else:
                current += char
        at += 1
    return Typed(words, current, line[start:] if inside else "")


def for_bash(value: str, typed: Typed, breaks: set[str]) -> str:
    """A candidate as readline has to insert it."""
    if typed.raw[:1] in ("'", '"'):
        return value  # readline closes the quote, and takes nothing apart inside it
    escaped = "".join(char if _PLAIN.match(char) or char > "\x7f" else "\\" + char for char in value)
    last = max((typed.raw.rfind(char) for char in breaks), default=-1)
    return escaped[last + 1 :] if last >= 0 and escaped.startswith(typed.raw[: last + 1]) else escaped
