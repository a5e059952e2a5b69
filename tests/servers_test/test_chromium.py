"""The browser of the tests is a real one, and sees text."""

from __future__ import annotations

from tests.servers import Chromium


def test_it_runs_scripts_and_knows_a_font(chromium: Chromium) -> None:
    """Without any font, a wide letter is as wide as a narrow one: both are boxes."""
    page = chromium.page()
    page.set_content("<span id=wide>mmmm</span><br><span id=narrow>llll</span><script>wide.title = 1 + 1</script>")
    assert page.locator("#wide").get_attribute("title") == "2"
    widths = [page.locator(which).bounding_box()["width"] for which in ("#wide", "#narrow")]
    assert widths[0] > 2 * widths[1] > 0
