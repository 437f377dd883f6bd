"""The integration that docs/extending.md builds, as it stands there."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support import PATIENCE_S, wait_until

PAGE = Path(__file__).parents[3] / "docs" / "extending.md"


@pytest.fixture
def page() -> SimpleNamespace:
    """What the page defines."""
    defined: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(compile(block, str(PAGE), "exec"), defined)
    return SimpleNamespace(**defined)


@pytest.fixture
def database(tmp_path) -> Path:
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode=WAL")  # so that one reads while another writes
        connection.execute("CREATE TABLE product (id INTEGER PRIMARY KEY, price INTEGER)")
        connection.execute("INSERT INTO product VALUES (1, 10)")
    return path


@pytest.fixture
def servers(page, database, namespace) -> Iterator[list[Any]]:
    """Two of them, on one bus."""
    servers = [
        page.Integration("memory://extending", namespace, lambda: sqlite3.connect(database, isolation_level=None))
        for _ in range(2)
    ]
    for server in servers:
        assert server.bus().wait_until_leased(PATIENCE_S)
    yield servers
    for server in servers:
        server.session().connection.close()
        server.bus().close()


def price_on(server) -> Any:
    @server.cached(tables=["product"])
    def price(pk: int) -> int:
        [(found,)] = server.session().connection.execute("SELECT price FROM product WHERE id = ?", (pk,))
        return found

    return price


def change_price(server, price: int) -> None:
    server.session().begin()
    server.session().write("product", "UPDATE product SET price = ? WHERE id = 1", price)


def test_a_committed_write_reaches_the_other_server(servers) -> None:
    writer, reader = servers
    price = price_on(reader)
    assert (price(1), price(1)) == (10, 10)
    assert reader.cache().stats().hits == 1
    change_price(writer, 20)
    assert price(1) == 10
    writer.session().commit()
    wait_until(lambda: price(1) == 20)


def test_a_transaction_sees_its_own_write_and_shows_it_to_nobody(servers) -> None:
    writer, _ = servers
    price = price_on(writer)
    assert price(1) == 10
    change_price(writer, 20)
    assert price(1) == 20
    writer.session().rollback()
    assert price(1) == 10


def test_what_is_read_in_a_snapshot_is_as_old_as_the_snapshot(servers) -> None:
    writer, reader = servers
    price = price_on(reader)
    reader.session().begin()
    reader.session().connection.execute("SELECT * FROM product").fetchall()
    change_price(writer, 20)
    writer.session().commit()
    wait_until(lambda: reader.bus().status().received == 1)
    assert price(1) == 10
    reader.session().rollback()
    assert price(1) == 20


def test_what_a_loader_has_rolled_back_itself_is_not_kept(servers) -> None:
    writer, _ = servers
    price = price_on(writer)

    @writer.cache().cached()
    def reckless() -> int:
        change_price(writer, 20)
        read = price(1)
        writer.session().rollback()
        return read

    assert reckless() == 20
    assert price(1) == 10
    assert writer.cache().stats().size == 1


def test_a_rollback_publishes_nothing(servers) -> None:
    writer, reader = servers
    price = price_on(reader)
    price(1)
    change_price(writer, 20)
    writer.session().rollback()
    assert writer.bus().status().published == 0
    price(1)
    assert reader.cache().stats().hits == 1


def test_an_observer_sees_slow_loads(servers, page) -> None:
    server, _ = servers
    price = price_on(server)
    slow: list[str] = []
    server.cache().observer = page.SlowLoads(0, slow.append)
    assert (price(1), price(1)) == (10, 10)
    [key] = slow
    assert key == price.key(1)
    server.cache().observer = None
