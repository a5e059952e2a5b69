"""``celery -A APP tape …``: look at effects, decide on them, run one pass by hand."""

from tape_celery.cli import acting, doctoring, flow_control, flower, keeping, looking, proposing
from tape_celery.cli.group import tape

MODULES = (looking, acting, keeping, doctoring, flow_control, proposing, flower)
"""Those whose commands hang on the group: importing one adds them."""

__all__ = ["MODULES", "tape"]
