"""Flower, with our tab in it."""

from __future__ import annotations

import click

from tape_celery.cli.group import REFUSED, tape
from tape_celery.cli.tables import error_line
from tape_celery.errors import MissingExtra, TapeError
from tape_celery.tape import tape_of


@tape.command(context_settings={"ignore_unknown_options": True})
@click.option("--tape-allow-actions", "allow_actions", is_flag=True, help="Whoever is logged in may act.")
@click.option("--tape-show-payloads", "show_payloads", is_flag=True, help="Show requests and responses, redacted.")
@click.option(
    "--tape-allow-anonymous",
    "allow_anonymous",
    is_flag=True,
    help="Start without a login on an address that others reach: a proxy lets people in.",
)
@click.option(
    "--tape-allow-anonymous-actions",
    "allow_anonymous_actions",
    is_flag=True,
    help="Where there is no login, whoever comes in may act.",
)
@click.option("--tape-metrics-login", "metrics_login", is_flag=True, help="Flower's /metrics takes the login, too.")
@click.option(
    "--tape-worker-metrics",
    "worker_metrics",
    is_flag=True,
    help="Flower's /metrics has the counts of all workers, too; for where nobody else reads them from the workers.",
)
@click.option(
    "--tape-idle-minutes",
    "idle_minutes",
    type=click.IntRange(1, 40_000),
    default=30,
    show_default=True,
    help="After how long without a request a login by OAuth is over.",
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def flower(
    context: click.Context,
    allow_actions: bool,
    show_payloads: bool,
    allow_anonymous: bool,
    allow_anonymous_actions: bool,
    metrics_login: bool,
    worker_metrics: bool,
    idle_minutes: int,
    options: tuple[str, ...],
) -> None:
    """Flower, with a tab for effects. OPTIONS are Flower's own: --port=5555, --basic_auth=name:password, …

    It listens on 127.0.0.1 unless --address says otherwise, and refuses to listen elsewhere without a login.
    Nobody acts on its pages, nor stops workers and runs tasks there, unless that is allowed.
    """
    try:
        try:
            from tape_celery.flower.access import Asked
            from tape_celery.flower.starting import start
        except ModuleNotFoundError as error:
            if error.name not in ("flower", "tornado"):
                raise
            raise MissingExtra("celery tape flower", "flower") from None
        asked = Asked(
            allow_actions=allow_actions,
            show_payloads=show_payloads,
            allow_anonymous=allow_anonymous,
            allow_anonymous_actions=allow_anonymous_actions,
            metrics_login=metrics_login,
            worker_metrics=worker_metrics,
            idle_minutes=idle_minutes,
        )
        start(context, tape_of(context.obj.app), asked, options)
    except TapeError as error:
        click.echo(error_line(error), err=True)
        context.exit(REFUSED)
