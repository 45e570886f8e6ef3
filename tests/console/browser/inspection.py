"""What a person with another screen, another pair of eyes or only a keyboard needs of each page. Each function returns what is
wrong with the page that is open, one line each."""

from collections.abc import Iterator
from functools import cache
from importlib.resources import files

from playwright.sync_api import Page

_WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
NARROWEST, WIDEST = 360, 2560
# What a person can operate. Radio buttons of one name are one stop of the Tab key.
_OPERABLE = "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex]"

_RUN_AXE = """
    async (rules) => {
        const found = await axe.run(document, rules);
        return found.violations.flatMap((rule) => rule.nodes.map((node) =>
            `axe, ${rule.id}: ${rule.help}: ${node.html} ${node.failureSummary.replace(/\\s+/g, " ")}`));
    }
"""
_LIST_OPERABLE = """
    (selector) => {
        const groups = new Set();
        const isStop = (element) => {
            if (element.tabIndex < 0 || element.disabled || !element.checkVisibility({visibilityProperty: true})) return false;
            if (element.type !== "radio") return true;
            const group = `${element.form?.id} ${element.name}`;
            return groups.has(group) ? false : Boolean(groups.add(group));
        };
        window.stintStops = [...document.querySelectorAll(selector)].filter(isStop);
        window.stintReached = new Set();
        window.stintInvisible = new Set();
        window.stintName = (element) => element.outerHTML.slice(0, 160);
        document.addEventListener("focusin", ({target}) => {
            window.stintReached.add(target.type === "radio" ? `${target.form?.id} ${target.name}` : target);
            const style = getComputedStyle(target);
            if ((style.outlineStyle === "none" || style.outlineWidth === "0px") && style.boxShadow === "none")
                window.stintInvisible.add(target);
        });
        document.activeElement?.blur();
        // day, month, year, hour, minute, second, and the calendar are stops of their own
        const parts = (element) => ({"date": 4, "time": 4, "datetime-local": 8})[element.type] ?? 1;
        // three more: it may begin in the middle, and leave the page and come back
        return window.stintStops.reduce((sum, element) => sum + parts(element), 3);
    }
"""
_LIST_USELESS_ON_PAPER = """
    () => [...document.querySelectorAll("button, nav a, .button")]
        .filter((element) => element.checkVisibility({visibilityProperty: true}))
        .map((element) => element.outerHTML.slice(0, 160))
"""
_LIST_WIDE_TABLES = """
    () => [...document.querySelectorAll("table.stacked")]
        .filter((table) => table.parentElement.scrollWidth > table.parentElement.clientWidth)
        .map((table) => table.caption.textContent)
"""
_LIST_UNREACHED = """
    () => {
        const key = (element) => element.type === "radio" ? `${element.form?.id} ${element.name}` : element;
        return [
            ...window.stintStops.filter((element) => element.isConnected && !window.stintReached.has(key(element)))
                .map((element) => `not reached by the Tab key: ${window.stintName(element)}`),
            ...[...window.stintInvisible].map((element) => `its focus is invisible: ${window.stintName(element)}`),
        ];
    }
"""


def inspect(page: Page) -> list[str]:
    """Everything below, in light and in dark."""
    problems = [*too_wide(page), *moving(page), *axe(page)]
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")  # else colours change in the course of a tenth of a second
    problems += [f"dark: {problem}" for problem in axe(page, "color-contrast")]
    problems += printed(page)
    page.emulate_media(color_scheme="light", reduced_motion="no-preference")
    return [*problems, *unreachable(page)]


def printed(page: Page) -> list[str]:
    """What paper does not show well, for a person whose screen is dark, and what nobody can use there."""
    page.emulate_media(media="print")
    assert page.evaluate("matchMedia('print').matches")
    problems = [f"printed: {problem}" for problem in axe(page, "color-contrast")]
    problems += [f"printed, and of no use there: {element}" for element in page.evaluate(_LIST_USELESS_ON_PAPER)]
    page.emulate_media(media="screen")
    return problems


def axe(page: Page, *rules: str) -> list[str]:
    """What axe finds, by the success criteria of WCAG 2.2 AA, or only by these rules."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(_axe_source())
    run_only = {"type": "rule", "values": list(rules)} if rules else {"type": "tag", "values": _WCAG}
    # without descriptions of all that is right, which take axe a third of its time
    found: list[str] = page.evaluate(_RUN_AXE, {"runOnly": run_only, "resultTypes": ["violations"]})
    return found


def too_wide(page: Page) -> Iterator[str]:
    """Whether one has to scroll sideways in a narrow window or in a wide one: the page, or a table of texts."""
    before = page.viewport_size
    for width in (NARROWEST, WIDEST):
        page.set_viewport_size({"width": width, "height": 900})
        needed = page.evaluate("document.documentElement.scrollWidth")
        if needed > width:
            yield f"{needed} px wide in a window of {width} px"
        for name in page.evaluate(_LIST_WIDE_TABLES):
            yield f"the table {name} is wider than a window of {width} px"
    if before:
        page.set_viewport_size(before)


def moving(page: Page) -> Iterator[str]:
    """What moves although the person has asked for less motion."""
    page.emulate_media(reduced_motion="reduce")
    if page.evaluate("document.getAnimations().some((animation) => animation.effect.getTiming().duration > 1)"):
        yield "it moves although less motion is asked for"
    page.emulate_media(reduced_motion="no-preference")


def unreachable(page: Page) -> list[str]:
    """What the Tab key does not reach, and where the focus cannot be seen."""
    for _ in range(page.evaluate(_LIST_OPERABLE, _OPERABLE)):
        page.keyboard.press("Tab")
    found: list[str] = page.evaluate(_LIST_UNREACHED)
    return found


@cache
def _axe_source() -> str:
    return (files("axe_playwright_python") / "axe.min.js").read_text()
