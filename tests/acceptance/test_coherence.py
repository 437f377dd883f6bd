"""A write on one server is served by every worker of every server: real processes, over HTTP."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from .conftest import Demo, Place, until

SCRIPT = str(Path(sysconfig.get_path("scripts")) / "invalidator")
MANAGE = (sys.executable, "example_project/manage.py", "invalidator")

_numbers = itertools.count(1)


@pytest.fixture
def a(demo: Demo) -> Place:
    """The worker that tests write to: the first of the first server."""
    return demo.workers[0]


@pytest.fixture
def sibling(demo: Demo) -> Place:
    """The other worker of the same server."""
    return demo.servers[0].workers[1]


@pytest.fixture
def others(demo: Demo) -> list[Place]:
    """The workers that tests read from: all others, of this server and of the other servers."""
    return demo.workers[1:]


@pytest.fixture
def product(a: Place) -> str:
    """The path of a product of this test's own."""
    created = a.post("/api/products", {"name": f"Thing {next(_numbers)}", "price": 1, "category": "Office"})
    return f"/api/products/{created['id']}"


def serves(server: Place, path: str, **wanted: Any) -> Any:
    """Wait until *server* serves *wanted* at *path*."""
    return until(
        f"{server.name} serves {wanted} at {path}",
        lambda: server.get(path),
        lambda answer: {name: answer[name] for name in wanted} == wanted,
    )


def lost(server: Place, path: str, copy: int) -> Any:
    """Wait until *server* has given up its copy of *path*."""
    return until(
        f"{server.name} drops copy {copy} of {path}", lambda: server.get(path), lambda answer: answer["copy"] != copy
    )


def test_every_worker_has_a_copy_of_its_own(demo: Demo, product: str) -> None:
    for worker in demo.workers:
        copy = worker.cached(product)
        assert f"{copy['server']}/{copy['worker']}" == worker.name
        assert copy["age_ms"] >= 0
        assert {"id", "name", "price", "server", "from", "age_ms"} <= copy.keys()
    assert len({worker.get(product)["pid"] for worker in demo.workers}) == 6


def test_a_saved_product_reaches_every_worker_of_every_server(a: Place, others: list[Place], product: str) -> None:
    for server in others:
        assert server.cached(product)["price"] == 1
    assert a.post(product, {"price": 19.5})["price"] == 19.5
    for server in others:
        serves(server, product, price=19.5)


def test_a_save_on_any_server_reaches_the_first(a: Place, others: list[Place], product: str) -> None:
    for price, server in enumerate(others, start=50):
        a.cached(product)
        server.post(product, {"price": price})
        serves(a, product, price=price)


def test_the_worker_that_saved_serves_the_new_value_at_once(a: Place, product: str) -> None:
    a.cached(product)
    a.post(product, {"price": 3})
    assert a.get(product)["price"] == 3


def test_after_a_save_every_worker_of_that_server_serves_the_new_value_at_once(
    a: Place, sibling: Place, product: str
) -> None:
    """The answer to the save waits until the ledger that both workers read has the stamp."""
    for price in range(100, 140):
        sibling.cached(product)
        a.post(product, {"price": price})
        assert sibling.get(product)["price"] == price
        a.cached(product)
        sibling.post(product, {"price": price + 0.5})
        assert a.get(product)["price"] == price + 0.5


def test_any_worker_of_a_server_answers_a_request_to_the_server(demo: Demo, product: str) -> None:
    """While one worker is stopped, the other one answers at the port that they share."""
    server = demo.servers[1]
    for stopped, answering in (server.workers, server.workers[::-1]):
        pid = stopped.get("/api/status")["pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            answer = server.get(product)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert f"{answer['server']}/{answer['worker']}" == answering.name


def test_an_edit_through_any_server_is_seen_through_any_other(demo: Demo, product: str) -> None:
    """As people use it: the system chooses which worker answers."""
    first, *others = demo.servers
    for price in (61, 62, 63):
        for server in others:
            server.cached(product)
        first.post(product, {"price": price})
        assert first.get(product)["price"] == price
        for server in others:
            serves(server, product, price=price)


def test_a_deleted_product_is_gone_everywhere(a: Place, others: list[Place], product: str) -> None:
    for server in others:
        server.cached(product)
    assert a.ask("DELETE", product).status == 200
    for server in others:
        until(
            f"{server.name} answers that it is gone",
            lambda s=server: s.ask("GET", product).status,
            lambda it: it == 404,
        )
        ids = until(
            f"{server.name} lists it no more",
            lambda s=server: [f"/api/products/{one['id']}" for one in s.get("/api/products")],
            lambda ids: product not in ids,
        )
        assert ids


def test_labels_put_on_and_taken_off_reach_every_server(a: Place, others: list[Place], product: str) -> None:
    for change, labels in (({"add": ["new", "sale"]}, ["new", "sale"]), ({"remove": ["new"]}, ["sale"])):
        for server in others:
            server.cached(product)
        a.post(f"{product}/labels", change)
        for server in others:
            serves(server, product, labels=labels)


def test_a_flipped_flag_reaches_every_server(a: Place, others: list[Place]) -> None:
    for _ in range(2):
        for server in others:
            server.cached("/api/flags/new-checkout")
        enabled = a.post("/api/flags/new-checkout", {})["enabled"]
        for server in others:
            serves(server, "/api/flags/new-checkout", enabled=enabled)


def test_a_product_that_moves_leaves_one_category_and_joins_another(
    a: Place, others: list[Place], product: str
) -> None:
    """Both pages are keys named by an `@invalidates` function: one from the row before, one from the row after."""
    name = a.get(product)["name"]
    kitchen, office = "/api/categories/1", "/api/categories/2"
    for server in others:
        assert server.cached(kitchen)["name"] == "Kitchen"
        until(f"{server.name}: at first", lambda s=server: s.get(office)["products"], lambda names: name in names)
        server.cached(office)
    a.post(product, {"category": "Kitchen"})
    for server in others:
        until(f"{server.name}: out", lambda s=server: s.get(office)["products"], lambda names: name not in names)
        until(f"{server.name}: in", lambda s=server: s.get(kitchen)["products"], lambda names: name in names)


def test_a_rolled_back_change_evicts_nothing(a: Place, others: list[Place], product: str) -> None:
    """Messages come in order: when the later change has arrived, a message of the rolled-back one would have, too."""
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
def test_code_on_one_server_invalidates_on_all(a: Place, others: list[Place], product: str, by: str) -> None:
    number = int(product.rpartition("/")[2])
    body = {"key": {"keys": [f"product:{number}"]}, "row": {"products": [number]}, "model": {"models": ["product"]}}[by]
    copies = [server.cached(product)["copy"] for server in others]
    assert a.post("/api/invalidate", body)["accepted"] is True
    for server, copy in zip(others, copies, strict=True):
        lost(server, product, copy)


def test_code_on_one_server_invalidates_a_tag_on_all(a: Place, others: list[Place]) -> None:
    copies = [server.cached("/api/prices")["copy"] for server in others]
    a.post("/api/invalidate", {"tags": ["prices"]})
    for server, copy in zip(others, copies, strict=True):
        lost(server, "/api/prices", copy)


@pytest.mark.parametrize("command", ["invalidator", "manage.py invalidator"])
def test_the_shell_invalidates_keys_and_tags_on_all(demo: Demo, product: str, command: str) -> None:
    key = f"product:{product.rpartition('/')[2]}"
    start = (SCRIPT, "--url", demo.redis_url, "--namespace", demo.namespace) if command == "invalidator" else MANAGE
    copies = [(server.cached(product)["copy"], server.cached("/api/prices")["copy"]) for server in demo.workers]
    demo.shell(*start, "invalidate", key, "--tag", "prices")
    for server, (copy, prices) in zip(demo.workers, copies, strict=True):
        lost(server, product, copy)
        lost(server, "/api/prices", prices)


# ------------------------------------------------------------------------------------------- pages and status


def test_status_shows_worker_lease_and_counters(demo: Demo, product: str) -> None:
    for worker in demo.workers:
        worker.cached(product)
        status = worker.get("/api/status")
        assert f"{status['server']}/{status['worker']}" == worker.name
        assert (status["listener"], status["leased"]) == ("sidecar", True)
        assert status["cache"]["hits"] > 0
        assert status["cache"]["loads"] > 0


def test_every_answer_names_the_worker_that_gave_it(demo: Demo, product: str) -> None:
    for worker in demo.workers:
        status = worker.get("/api/status")
        who = {name: status[name] for name in ("server", "worker", "pid")}
        answers = [
            worker.get(product),
            *worker.get("/api/products"),
            worker.get("/api/prices"),
            worker.get("/api/categories/1"),
            worker.get("/api/flags/new-checkout"),
            worker.get("/api/copies"),
            worker.get("/api/server"),
            worker.get("/api/fleet"),
            worker.post(product, {"price": 4}),
            worker.post("/api/invalidate", {"keys": ["nothing"]}),
            worker.ask("GET", "/api/products/999999").json,
            worker.ask("DELETE", "/api/flags/new-checkout").json,
        ]
        assert [answer for answer in answers if not who.items() <= answer.items()] == []
        assert f"<b>worker {who['worker']}</b>" in worker.ask("GET", "/").text


def test_the_form_of_a_page_saves_a_price(a: Place, sibling: Place, others: list[Place], product: str) -> None:
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
    assert "Saved by worker 1." in sibling.ask("GET", "/?saved_by=1").text
    assert sibling.get(product)["price"] == 7.25
    for server in others:
        serves(server, product, price=7.25)
    refused = a.ask("POST", path, f"{form}cheap", headers)
    assert refused.status == 400
    assert "must be a decimal number" in refused.text
    assert a.ask("POST", path, "price=1", headers).status == 403


def test_staff_invalidates_in_the_admin_and_sees_how_each_worker_is_doing(
    a: Place, others: list[Place], product: str
) -> None:
    page = a.ask("GET", "/admin/login/")
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    assert token is not None
    form = f"csrfmiddlewaretoken={token[1]}"
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    sent = headers | {"Cookie": page.cookies[0].partition(";")[0]}
    entered = a.ask("POST", "/admin/login/", f"{form}&username=staff&password=staff", sent)
    assert entered.status == 302
    headers["Cookie"] = "; ".join(cookie.partition(";")[0] for cookie in entered.cookies)
    for worker in (a, *others):  # one session, in the database that all servers share
        found = worker.ask("GET", "/admin/invalidator/caches/?format=json", headers=headers).json
        assert (found["bus"]["listener"], found["bus"]["leased"]) == ("sidecar", True)
    copies = [(worker, worker.cached(product)["copy"]) for worker in (a, *others)]
    page = a.ask("GET", "/admin/shop/product/", headers=headers)
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    assert token is not None
    chosen = f"csrfmiddlewaretoken={token[1]}&action=invalidate_caches&_selected_action={product.rpartition('/')[2]}"
    assert a.ask("POST", "/admin/shop/product/", chosen, headers).status == 302
    for worker, copy in copies:
        lost(worker, product, copy)
    assert "admin/css/base.css" in page.text
    assert a.ask("GET", "/static/admin/css/base.css").status == 200


def test_one_page_shows_every_worker_of_every_server_and_times_a_save(demo: Demo, product: str) -> None:
    servers = [server.name for server in demo.servers]
    workers = [worker.name for worker in demo.workers]
    for server in demo.servers:
        assert server.ask("GET", "/fleet").status == 200
        answers = server.get("/api/fleet")["workers"]
        assert [f"{answer['server']}/{answer['worker']}" for answer in answers] == workers
        assert all(answer["products"] and answer["flags"] and answer["status"] for answer in answers)
        here = server.get("/api/server")["workers"]
        assert [f"{answer['server']}/{answer['worker']}" for answer in here] == [it.name for it in server.workers]
        for price, writer in enumerate(servers, start=5):
            answer = server.post("/api/fleet/save", {"server": writer, "path": product, "change": {"price": price}})
            assert answer["value"] == {"price": price}
            assert answer["saved_on"] == writer
            agreed = {f"{name}/{number}": ms for name, its in answer["agreed_ms"].items() for number, ms in its.items()}
            assert list(agreed) == workers
            assert None not in agreed.values()
            assert answer["all_agreed_ms"] == max(agreed.values())


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "reason"),
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
def test_bad_input_is_refused_with_the_reason(
    a: Place, method: str, path: str, body: object, status: int, reason: str
) -> None:
    answer = a.ask(method, path, body)
    assert answer.status == status, answer
    assert reason in answer.json["error"]


# ------------------------------------------------------------------- Django REST framework, and async views


@pytest.mark.parametrize("prefix", ["/rest", "/async"])
def test_what_serializers_and_coroutines_read_is_recorded(
    demo: Demo, a: Place, others: list[Place], product: str, prefix: str
) -> None:
    """The code names no key and no tag: the product, its category and its labels are recorded as they are read."""
    pk = product.rpartition("/")[2]
    path = f"{prefix}/products/{pk}" + ("/" if prefix == "/rest" else "")
    for worker in demo.workers:
        worker.cached(path)
    a.post(product, {"name": "Renamed"})
    for worker in demo.workers:
        serves(worker, path, name="Renamed")
        worker.cached(path)
    a.post(f"{product}/labels", {"add": ["recorded"]})
    for worker in demo.workers:
        serves(worker, path, labels=["recorded"])
    a.ask("DELETE", product)
    for worker in demo.workers:
        until(f"{path} is gone", lambda worker=worker: worker.ask("GET", path).status, lambda status: status == 404)


def test_a_write_through_a_view_set_reaches_every_server(demo: Demo, a: Place, others: list[Place]) -> None:
    """It invalidates the list of its category, and no other."""
    kitchen, office = ("/rest/products/?category=Kitchen", "/rest/products/?category=Office")
    for worker in others:
        worker.cached(kitchen)
        worker.cached(office)
    created = a.ask(
        "POST", "/rest/products/", {"name": f"Made {next(_numbers)}", "price": "3.50", "category": "Kitchen"}
    )
    assert created.status == 201, created
    made = created.json
    for worker in others:
        until("it is in the list", lambda worker=worker: worker.get(kitchen)["products"], lambda rows: made in rows)
    path = f"/rest/products/{made['id']}/"
    for worker in others:
        worker.cached(path)
    assert a.ask("PATCH", path, {"price": "4.50"}).status == 200
    for worker in others:
        serves(worker, path, price="4.50")
    assert a.ask("DELETE", path).status == 204
    for worker in others:
        until("it is gone", lambda worker=worker: worker.ask("GET", path).status, lambda status: status == 404)


def test_a_view_set_takes_no_form(a: Place) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert a.ask("POST", "/rest/products/", "name=x&price=1&category=Office", headers).status == 415


def test_stale_reads_are_looked_for_beside_running_servers(demo: Demo, a: Place, product: str) -> None:
    """`verify` is one more process that receives what the servers publish; in the demo nothing is stale."""
    paths = (product, "/api/prices", "/async/products/1")
    printed = demo.shell(*MANAGE, "verify", *paths, "--seconds", "2", "--json")
    counts = json.loads(printed)["counts"]
    assert counts["same"] > 0
    assert (counts["stale"], counts["not_deterministic"]) == (0, 0)
