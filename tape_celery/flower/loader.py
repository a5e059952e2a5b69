"""Flower's templates, with one line more in its navigation, and ours, whose names begin with ``tape/``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tornado.template import Loader, Template

from tape_celery.loggers import logger_for

logger = logger_for(__name__)

OURS = "tape/"
TEMPLATES = Path(__file__).parent / "templates"

NAVIGATION = "navbar.html"
END_OF_TABS = "</ul>"
TAB = """\
<li class="nav-item">
  <a class="nav-link{% if active_tab == 'effects' %} active{% end %}"
    href="{{ reverse_url('tape-effects') }}"
    {% if active_tab == 'effects' %}aria-current="page"{% end %}>Effects</a>
</li>
"""


class TapeLoader(Loader):
    """Loads a template of either; whatever a template of ours shows goes through `wording.shown`."""

    def resolve_path(self, name: str, parent_path: str | None = None) -> str:
        """Every name is whole: ours extend Flower's, which are elsewhere."""
        return name

    def _create_template(self, name: str) -> Template:
        if name.startswith(OURS):
            source = (TEMPLATES / name.removeprefix(OURS)).read_text()
            return Template(source, name=name, loader=self, autoescape="shown")
        if name == NAVIGATION:
            return Template(with_tab((Path(self.root) / name).read_text()), name=name, loader=self)
        return super()._create_template(name)


def with_tab(navigation: str) -> str:
    """Flower's navigation with the tab after its last one; as it is where that cannot be found."""
    before, end, after = navigation.partition(END_OF_TABS)
    if not end or "active_tab" not in before:
        logger.warning("this Flower's navigation is not as expected: it has no Effects tab; the page is at /effects")
        return navigation
    return f"{before}{TAB}{end}{after}"


def loader(flower_settings: dict[str, Any]) -> TapeLoader:
    """The loader in the place of the one that Flower's settings would get."""
    return TapeLoader(flower_settings["template_path"])
