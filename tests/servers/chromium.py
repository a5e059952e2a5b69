"""A real Chromium without a screen, for tests that look at pages as people do."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tests.servers import debian

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SWITCHES = (
    "--no-sandbox",  # root, which tests may be run by, is refused one
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Chromium:
    """Debian's Chromium, driven by Playwright; raises MissingServerError where it was not brought (`make servers`)."""

    name = "chromium"
    browser: Browser

    def __init__(self) -> None:
        self._found = debian.installation(debian.CHROMIUM)
        self._opened = ExitStack()

    def start(self, directory: Path) -> None:
        """Start it, with what it keeps in ``directory``. It knows one family of fonts, whatever the machine has."""
        from playwright.sync_api import sync_playwright

        program, _, font = debian.CHROMIUM.files
        kept, fonts = directory / "fonts", directory / "fonts.conf"
        fonts.write_text(
            f"<fontconfig><dir>{self._found.file(font).parent}</dir><cachedir>{kept}</cachedir></fontconfig>"
        )
        playwright = self._opened.enter_context(sync_playwright())
        self.browser = playwright.chromium.launch(
            executable_path=self._found.file(program),
            args=SWITCHES,
            env={**os.environ, **self._found.environment, "FONTCONFIG_FILE": str(fonts)},
        )
        self._opened.callback(self.browser.close)

    def page(self, **context: Any) -> Page:
        """A new page in a context of its own; ``context`` is what `Browser.new_context` takes."""
        return self.browser.new_context(**context).new_page()

    def __enter__(self) -> Chromium:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._opened.close()
