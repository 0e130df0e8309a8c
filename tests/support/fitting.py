"""Whether a page fits: at the widths of a phone, a tablet and a desk nothing sticks out."""

from __future__ import annotations

from collections.abc import Sequence

from playwright.sync_api import Page

WIDTHS = (390, 768, 1440)
STICKS_OUT = """() => {
    const width = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth > width) return ["the page scrolls sideways"];
    const all = [...document.querySelectorAll("body *")];
    const wide = all.filter((it) => !it.closest(".scroll > *")).filter((it) => {
        const seat = it.getBoundingClientRect();
        return seat.width && (seat.right > width + 1 || seat.left < -1) && !it.matches(".skip");
    });
    return wide.map((it) => it.outerHTML.slice(0, 120));
}"""


def check_fits(page: Page, widths: Sequence[int] = WIDTHS) -> None:
    """Nothing is wider than the page but what scrolls by itself."""
    for width in widths:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate(STICKS_OUT) == [], width
