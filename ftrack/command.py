"""What all commands of the command line share: arguments, exit codes, and how they tell what went wrong."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

import ftrack
from ftrack import console
from ftrack.errors import FtrackError

if TYPE_CHECKING:
    import ftrack.config

log = logging.getLogger("ftrack")

OK, FAILED, BAD_REQUEST, INTERRUPTED = 0, 1, 2, 130

Command = TypeVar("Command", bound=Callable[..., None])

WorkflowFile = Annotated[Path, typer.Argument(metavar="FILE", help="a workflow file; ftrack init writes one")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY.SUB=VALUE", help="change a setting for this time, such as matcher.spacing=16; may be repeated"),
]
CubePlace = Annotated[str, typer.Argument(metavar="CUBE", help="a velocity cube: a path, or an address such as s3://bucket/name.zarr")]
ClusterChoice = Annotated[
    str | None,
    typer.Option(
        "--cluster", metavar="WHERE", help="local, threads, gateway, or the address of a gateway (https:) or scheduler (tcp:, tls:)"
    ),
]


def changes_of(cluster: str | None) -> list[str]:
    """Return what ``--cluster`` changes in a workflow."""
    return [] if cluster is None else ftrack.config.cluster_changes(cluster)


def told(command: Command) -> Command:
    """Let a command print what went wrong as one message and leave with the right code."""

    @wraps(command)
    def careful(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (FtrackError, OSError) as error:
            if log.isEnabledFor(logging.DEBUG):
                raise
            console.show_error(str(error))
            raise typer.Exit(BAD_REQUEST) from None
        except KeyboardInterrupt:
            console.show_error("stopped; what is finished is kept, and the same command goes on from there")
            raise typer.Exit(INTERRUPTED) from None

    return careful  # type: ignore[return-value]
