"""``celery -A APP tape …``: look at effects, decide on them, run one pass by hand."""

from tape_celery.cli import acting, doctoring, flower, keeping, looking, pausing, proposing
from tape_celery.cli.group import tape

MODULES = (looking, acting, keeping, doctoring, pausing, proposing, flower)
"""Those whose commands hang on the group: importing one adds them."""

__all__ = ["MODULES", "tape"]
