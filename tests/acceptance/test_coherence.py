"""A write on one server is served by the others: real processes, over HTTP."""

from __future__ import annotations

import itertools
import re
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from .conftest import Demo, Server, until

SCRIPT = str(Path(sysconfig.get_path("scripts")) / "invalidator")
MANAGE = (sys.executable, "example_project/manage.py", "invalidator")

_numbers = itertools.count(1)


@pytest.fixture
def a(demo: Demo) -> Server:
    """Where tests write."""
    return demo.servers[0]


@pytest.fixture
def others(demo: Demo) -> list[Server]:
    """Where tests look."""
    return demo.servers[1:]


@pytest.fixture
def product(a: Server) -> str:
    """The path of a product of this test's own."""
    created = a.post("/api/products", {"name": f"Thing {next(_numbers)}", "price": 1, "category": "Office"})
    return f"/api/products/{created['id']}"


def serves(server: Server, path: str, **wanted: Any) -> Any:
    """Wait until *server* serves *wanted* at *path*."""
    return until(
        f"{server.name} serves {wanted} at {path}",
        lambda: server.get(path),
        lambda answer: {name: answer[name] for name in wanted} == wanted,
    )


def lost(server: Server, path: str, copy: int) -> Any:
    """Wait until *server* has given up its copy of *path*."""
    return until(
        f"{server.name} drops copy {copy} of {path}", lambda: server.get(path), lambda answer: answer["copy"] != copy
    )


def test_every_server_has_a_copy_of_its_own(demo: Demo, product: str) -> None:
    for server in demo.servers:
        copy = server.cached(product)
        assert copy["server"] == server.name
        assert copy["age_ms"] >= 0
        assert {"id", "name", "price", "server", "from", "age_ms"} <= copy.keys()


def test_a_saved_product_reaches_every_server(a: Server, others: list[Server], product: str) -> None:
    for server in others:
        assert server.cached(product)["price"] == 1
    assert a.post(product, {"price": 19.5})["price"] == 19.5
    for server in others:
        serves(server, product, price=19.5)


def test_a_save_on_any_server_reaches_the_first(a: Server, others: list[Server], product: str) -> None:
    for price, server in enumerate(others, start=50):
        a.cached(product)
        server.post(product, {"price": price})
        serves(a, product, price=price)


def test_who_saved_serves_the_new_value_at_once(a: Server, product: str) -> None:
    a.cached(product)
    a.post(product, {"price": 3})
    assert a.get(product)["price"] == 3


def test_a_deleted_product_is_gone_everywhere(a: Server, others: list[Server], product: str) -> None:
    for server in others:
        server.cached(product)
    assert a.ask("DELETE", product).status == 200
    for server in others:
        until(f"{server.name} says it is gone", lambda s=server: s.ask("GET", product).status, lambda it: it == 404)
        ids = until(
            f"{server.name} lists it no more",
            lambda s=server: [f"/api/products/{one['id']}" for one in s.get("/api/products")],
            lambda ids: product not in ids,
        )
        assert ids


def test_labels_put_on_and_taken_off_reach_every_server(a: Server, others: list[Server], product: str) -> None:
    for change, labels in (({"add": ["new", "sale"]}, ["new", "sale"]), ({"remove": ["new"]}, ["sale"])):
        for server in others:
            server.cached(product)
        a.post(f"{product}/labels", change)
        for server in others:
            serves(server, product, labels=labels)


def test_a_flipped_flag_reaches_every_server(a: Server, others: list[Server]) -> None:
    for _ in range(2):
        for server in others:
            server.cached("/api/flags/new-checkout")
        enabled = a.post("/api/flags/new-checkout", {})["enabled"]
        for server in others:
            serves(server, "/api/flags/new-checkout", enabled=enabled)


def test_a_product_that_moves_leaves_one_category_and_joins_another(
    a: Server, others: list[Server], product: str
) -> None:
    """Both pages are keys named by an `@invalidates` function: one from the row before, one from the row after."""
    name = a.get(product)["name"]
    kitchen, office = "/api/categories/1", "/api/categories/2"
    for server in others:
        assert server.cached(kitchen)["name"] == "Kitchen"
        assert name in serves(server, office, name="Office")["products"]
        server.cached(office)
    a.post(product, {"category": "Kitchen"})
    for server in others:
        until(f"{server.name}: out", lambda s=server: s.get(office)["products"], lambda names: name not in names)
        until(f"{server.name}: in", lambda s=server: s.get(kitchen)["products"], lambda names: name in names)


def test_a_rolled_back_change_evicts_nothing(a: Server, others: list[Server], product: str) -> None:
    """Messages come in order: when the change after it has arrived, the rolled-back one would have, too."""
    sentinel = a.post("/api/products", {"name": "Sentinel", "price": 1, "category": "Office"})
    sentinel_path = f"/api/products/{sentinel['id']}"
    before = [server.cached(product) for server in others]
    for server in others:
        server.cached(sentinel_path)
    assert a.post(f"{product}/rollback", {"price": 99})["rolled_back"] is True
    a.post(sentinel_path, {"price": 2})
    for server, copy in zip(others, before, strict=True):
        serves(server, sentinel_path, price=2)
        now = server.get(product)
        assert (now["from"], now["copy"], now["price"]) == ("cache", copy["copy"], 1)
        assert now["age_ms"] > copy["age_ms"]


# ------------------------------------------------------------------------------- invalidate(), without a write


@pytest.mark.parametrize("by", ["key", "row", "model"])
def test_code_on_one_server_invalidates_on_all(a: Server, others: list[Server], product: str, by: str) -> None:
    number = int(product.rpartition("/")[2])
    body = {"key": {"keys": [f"product:{number}"]}, "row": {"products": [number]}, "model": {"models": ["product"]}}[by]
    copies = [server.cached(product)["copy"] for server in others]
    assert a.post("/api/invalidate", body)["accepted"] is True
    for server, copy in zip(others, copies, strict=True):
        lost(server, product, copy)


def test_code_on_one_server_invalidates_a_tag_on_all(a: Server, others: list[Server]) -> None:
    copies = [server.cached("/api/prices")["copy"] for server in others]
    a.post("/api/invalidate", {"tags": ["prices"]})
    for server, copy in zip(others, copies, strict=True):
        lost(server, "/api/prices", copy)


@pytest.mark.parametrize("command", ["invalidator", "manage.py invalidator"])
def test_the_shell_invalidates_keys_and_tags_on_all(demo: Demo, product: str, command: str) -> None:
    key = f"product:{product.rpartition('/')[2]}"
    start = (SCRIPT, "--url", demo.redis_url, "--namespace", demo.namespace) if command == "invalidator" else MANAGE
    copies = [(server.cached(product)["copy"], server.cached("/api/prices")["copy"]) for server in demo.servers]
    demo.shell(*start, "invalidate", key, "--tag", "prices")
    for server, (copy, prices) in zip(demo.servers, copies, strict=True):
        lost(server, product, copy)
        lost(server, "/api/prices", prices)


# ------------------------------------------------------------------------------------------- pages and status


def test_status_tells_state_lease_and_counters(demo: Demo, product: str) -> None:
    for server in demo.servers:
        server.cached(product)
        status = server.get("/api/status")
        assert (status["server"], status["state"], status["leased"]) == (server.name, "live", True)
        assert status["cache"]["hits"] > 0
        assert status["cache"]["loads"] > 0


def test_the_form_of_a_page_saves_a_price(a: Server, others: list[Server], product: str) -> None:
    for server in others:
        server.cached(product)
    page = a.ask("GET", "/")
    assert page.status == 200
    assert a.get(product)["name"] in page.text
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    assert token is not None
    path = product.removeprefix("/api")
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Cookie": page.cookies[0].partition(";")[0],
    }
    form = f"csrfmiddlewaretoken={token[1]}&price="
    assert a.ask("POST", path, f"{form}7.25", headers).status == 302
    for server in others:
        serves(server, product, price=7.25)
    refused = a.ask("POST", path, f"{form}cheap", headers)
    assert refused.status == 400
    assert "must be a decimal number" in refused.text
    assert a.ask("POST", path, "price=1", headers).status == 403


def test_one_page_shows_all_servers_and_times_a_save(demo: Demo, product: str) -> None:
    names = [server.name for server in demo.servers]
    for server in demo.servers:
        assert server.ask("GET", "/fleet").status == 200
        assert [answer["server"] for answer in server.get("/api/fleet")] == names
        for writer in names:
            change = {"server": writer, "path": product, "change": {"price": 5}}
            answer = server.post("/api/fleet/save", change)
            assert answer["value"] == {"price": 5}
            assert list(answer["agreed_ms"]) == names
            assert None not in answer["agreed_ms"].values()


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "says"),
    [
        ("POST", "/api/products/1", {"price": "cheap"}, 400, "must be a number"),
        ("POST", "/api/products/1", {"price": -1}, 400, "greater than or equal to 0"),
        ("POST", "/api/products/1", {"price": 1.234}, 400, "2 decimal places"),
        ("POST", "/api/products/1", {"prize": 1}, 400, '"prize" cannot be set here'),
        ("POST", "/api/products/1", {}, 400, "empty"),
        ("POST", "/api/products/1", [1], 400, "JSON object"),
        ("POST", "/api/products/1", "{price", 400, "not JSON"),
        ("GET", "/api/products/999999", None, 404, "does not exist"),
        ("POST", "/api/products/999999", {"price": 1}, 404, "does not exist"),
        ("PUT", "/api/products/1", {"price": 1}, 405, "GET, POST, DELETE"),
        ("POST", "/api/products/1", None, 415, "application/json"),
        ("POST", "/api/flags/new-checkout", {"enabled": "yes"}, 400, "true or false"),
        ("GET", "/api/flags/no-such-flag", None, 404, "does not exist"),
        ("POST", "/api/invalidate", {"models": ["prodct"]}, 400, "prodct"),
        ("POST", "/api/invalidate", {"keys": "product:1"}, 400, "a list of texts"),
        ("POST", "/api/fleet/save", {"server": "app9", "path": "/api/products/1", "change": {}}, 400, "app9"),
    ],
)
def test_bad_input_is_told_what_is_wrong(
    a: Server, method: str, path: str, body: object, status: int, says: str
) -> None:
    answer = a.ask(method, path, body)
    assert answer.status == status, answer
    assert says in answer.json["error"]
