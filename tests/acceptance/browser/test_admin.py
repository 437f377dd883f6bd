"""The pages of this app in the admin, as a browser shows them to staff."""

import json

import pytest

from tests.support import wait_until

from . import PASSWORD, USER
from .chromium import Chromium

PAGE = "/admin/invalidator/caches/"


@pytest.fixture(scope="module")
def staff(browser: Chromium, url: str) -> Chromium:
    """The browser, logged in."""
    browser.go(f"{url}/admin/")
    browser.run(f"document.querySelector('#id_username').value = {json.dumps(USER)}")
    browser.run(f"document.querySelector('#id_password').value = {json.dumps(PASSWORD)}")
    browser.click_through("document.querySelector('#login-form input[type=submit]').click()")
    return browser


def text_of(browser: Chromium, selector: str) -> str:
    """The text of an element. Waits for the element: the answer to a form may be a redirect."""
    script = f"document.querySelector({json.dumps(selector)})?.innerText"
    wait_until(lambda: browser.run(script) is not None)
    text: str = browser.run(script)
    return text


CONTRAST = """(element) => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  let behind = element;
  while (behind && numbers(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
  const back = behind ? light(numbers(getComputedStyle(behind).backgroundColor)) : 1;
  const front = light(numbers(getComputedStyle(element).color));
  return (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
}"""
"""The contrast of an element's text with its background, by WCAG: 4.5 is legible, 21 is black on white."""


def test_the_index_leads_to_the_page(staff: Chromium, url: str) -> None:
    staff.go(f"{url}/admin/")
    staff.click_through("[...document.links].find((link) => link.innerText === 'Caches of this process').click()")
    assert staff.run("location.pathname") == PAGE
    assert text_of(staff, "h1") == "Caches of this process"
    assert "is known here" in text_of(staff, ".messagelist .success")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_in_the_light_and_in_the_dark(scheme: str, staff: Chromium, url: str) -> None:
    staff.prefer(scheme)
    staff.go(f"{url}{PAGE}")
    assert staff.complaints() == []  # the style sheet among others
    background = staff.run("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 18, 18)"}[scheme]
    for selector in (".module td", ".module tbody th", ".module .number", ".module .quiet", ".module code"):
        ratio = staff.run(f"({CONTRAST})(document.querySelector({json.dumps(selector)}))")
        assert ratio >= 4.5, selector


def test_a_narrow_window_scrolls_tables_and_not_the_page(staff: Chromium, url: str) -> None:
    staff.ask("Emulation.setDeviceMetricsOverride", width=420, height=800, deviceScaleFactor=1, mobile=False)
    try:
        staff.go(f"{url}{PAGE}")
        assert staff.run("document.documentElement.scrollWidth") <= 420
    finally:
        staff.ask("Emulation.clearDeviceMetricsOverride")


def test_the_action_reports_what_it_did_and_the_page_shows_it(staff: Chromium, url: str) -> None:
    staff.go(f"{url}{PAGE}")  # from now on this process remembers names for the page
    staff.go(f"{url}/admin/zoo/ticket/")
    staff.run("document.querySelector('.action-select').click()")
    staff.run("document.querySelector('select[name=action]').value = 'invalidate_caches'")
    staff.click_through("document.querySelector('#changelist-form button[name=index]').click()")
    assert text_of(staff, ".messagelist .success") == "Invalidated the caches of 1 ticket on every server."
    staff.go(f"{url}{PAGE}")
    shown = text_of(staff, ".names")
    assert "day:3" in shown
    assert "zoo.ticket:1" in shown


def test_json_for_monitoring(staff: Chromium, url: str) -> None:
    staff.go(f"{url}{PAGE}?format=json")
    assert json.loads(text_of(staff, "body"))["bus"]["leased"] is True


def test_many_requests_at_once(staff: Chromium, url: str) -> None:
    """A browser asks for several files at a time; each request has connections of its own to the database."""
    staff.go(f"{url}{PAGE}")
    paths = ["/admin/", "/admin/zoo/ticket/", "/admin/jsi18n/", PAGE] * 25
    found = f"Promise.all({json.dumps(paths)}.map((path) => fetch(path).then((answer) => answer.status)))"
    assert set(staff.run(found)) == {200}
