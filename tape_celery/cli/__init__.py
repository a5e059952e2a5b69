"""``celery -A APP tape …``: look at effects, decide on them, run one pass by hand."""

from tape_celery.cli.commands import tape

__all__ = ["tape"]
