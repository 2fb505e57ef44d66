"""`--config FILE.yaml` of every command: its flags and arguments by name, read from a file; the command line wins.

A key is a long flag without its dashes (`head-similarity`), or an argument in small letters (`teacher`). A flag that may
be repeated, and an argument that takes several, take a list or one value; a switch takes true or false. What stands on
the command line replaces what the file says, lists as a whole; a switch that the file sets cannot be unset there.

The option is added to all commands at once, by the group, and its values become the defaults of the parameters, so that
they are converted and checked as if they had been typed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from circuitkd.cli.errors import Group


class ConfigurableGroup(Group):
    """Commands that all take `--config`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        _add_to(self, _option())


def _add_to(command: Any, option: Any) -> None:
    commands = getattr(command, "commands", None)
    if commands is None:
        command.params.append(option)
    for below in (commands or {}).values():
        _add_to(below, option)


def _option() -> Any:
    """The option as typer makes it, from a command that exists for nothing else."""
    holder = typer.Typer(add_completion=False)

    @holder.command()
    def command(
        config: Annotated[
            Path | None,
            typer.Option(
                "--config",
                metavar="FILE.yaml",
                help="Read flags and arguments from a file; what is typed wins.",
                callback=_read,
                is_eager=True,
                expose_value=False,
            ),
        ] = None,
    ) -> None: ...

    return next(p for p in typer.main.get_command(holder).params if p.name == "config")


def _read(ctx: typer.Context, value: Path | None) -> Path | None:
    if value is not None:
        ctx.default_map = defaults(value, {_key(p): p for p in ctx.command.params if p.name != "config"})
    return value


def _key(parameter: Any) -> str:
    """The name of a parameter in the file."""
    if parameter.param_type_name == "argument":
        return str(parameter.name).replace("_", "-")
    return str(next(flag for flag in parameter.opts if flag.startswith("--"))).removeprefix("--")


def defaults(path: Path, known: Mapping[str, Any]) -> dict[str, Any]:
    """The file's values by parameter name, as the command line would give them; `known`: parameters by key.

    Raises ValueError naming the file for one that cannot be read, unknown keys, and values of the wrong kind.
    """
    from circuitkd.studies.yaml_files import read_mapping
    from circuitkd.tasks.rows import nearest

    found = read_mapping(path, known)
    unknown = [f"unknown key {key!r:.60}: {nearest(str(key), known)}" for key in found if key not in known]
    if unknown:
        raise ValueError(f"{path}: {'; '.join(unknown)}")
    given = {key: value for key, value in found.items() if value is not None}
    return {known[key].name: _typed(value, known[key], where=f"{path}: {key}") for key, value in given.items()}


def _typed(value: Any, parameter: Any, *, where: str) -> Any:
    """A value as it would be typed: text, a list of texts, or whether a switch is there."""
    if getattr(parameter, "is_flag", False):
        if not isinstance(value, bool):
            raise ValueError(f"{where} is a switch: write true or false, not {value!r}")
        return value
    several = getattr(parameter, "multiple", False) or parameter.nargs == -1
    values = value if several and isinstance(value, list) else [value]
    for one in values:
        if one is None or isinstance(one, bool | list | dict):
            wanted = "texts or numbers" if several else "one text or number"
            raise ValueError(f"{where} takes {wanted}, not {one!r} (a text that YAML reads otherwise needs quotes)")
    return [str(one) for one in values] if several else str(value)
