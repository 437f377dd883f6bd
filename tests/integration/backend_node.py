"""
A server process with our cache backend; its parent writes commands, one JSON list a line, each answered by a JSON line.

`python backend_node.py URL`, then `["begin", NAMESPACE, L2_DB]`: from then on this is a new server, with an empty cache
in a namespace of its own. The aliases are "default" (alone), "over" (over "l2", which can be made to wait) and "l2"
itself, in database L2_DB of the Redis server; the source of truth is in database 2.
"""

from __future__ import annotations

import json
import random
import sys
import threading
from pathlib import Path
from typing import Any

(URL,) = sys.argv[1:]
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
SERVER = URL.rpartition("/")[0]

import django  # noqa: E402
import redis  # noqa: E402
from django.conf import settings  # noqa: E402
from django.core.cache.backends.redis import RedisCache  # noqa: E402

OURS = "django_integration.backend.NearCacheBackend"


class SlowCache(RedisCache):
    """Django's own backend, which waits before it adds while `waits` is set."""

    waits = False
    waiting = threading.Event()
    may_go_on = threading.Event()

    def add(self, *args: Any, **options: Any) -> bool:
        if SlowCache.waits:
            SlowCache.waiting.set()
            SlowCache.may_go_on.wait(60)
        return bool(super().add(*args, **options))


def settings_of(namespace: str, l2_db: int) -> dict[str, Any]:
    return {
        "INVALIDATOR": {"URL": URL, "NAMESPACE": namespace, "MAX_STALENESS": 2.0 if l2_db == 1 else 30.0},
        "CACHES": {
            "default": {"BACKEND": OURS},
            "over": {"BACKEND": OURS, "LOCATION": "over", "OPTIONS": {"L2": "l2"}},
            "l2": {"BACKEND": "backend_node.SlowCache", "LOCATION": f"{SERVER}/{l2_db}"},
        },
    }


settings.configure(
    SECRET_KEY="tests",
    USE_TZ=True,
    ALLOWED_HOSTS=["testserver"],
    ROOT_URLCONF="backend_node",
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.sessions", "django_integration"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    MIDDLEWARE=[
        "django.middleware.cache.UpdateCacheMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.cache.FetchFromCacheMiddleware",
    ],
    CACHE_MIDDLEWARE_ALIAS="over",
    SESSION_CACHE_ALIAS="over",
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    **settings_of("not-begun", 1),
)
sys.modules["backend_node"] = sys.modules["__main__"]
django.setup()

from django.core.cache import cache, caches  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.template import engines  # noqa: E402
from django.test import Client, RequestFactory  # noqa: E402
from django.test.utils import override_settings  # noqa: E402
from django.urls import path  # noqa: E402
from django.views.decorators.cache import cache_page  # noqa: E402

from django_integration import bus  # noqa: E402
from django_integration.backend import second_level, settling  # noqa: E402

source = redis.Redis.from_url(f"{SERVER}/2", decode_responses=True)
computed: dict[str, int] = {}
taken_back_before = 0


def begin(namespace: str, l2_db: int) -> bool:
    """Forget everything: a changed setting gives this process a new bus and new caches."""
    global taken_back_before  # noqa: PLW0603 - counted since the start of the process
    settled = settling.settle(60)
    taken_back_before = taken_back()
    override_settings(**settings_of(namespace, l2_db)).enable()
    computed.clear()
    SlowCache.waiting.clear()
    SlowCache.may_go_on.clear()
    return settled


def taken_back() -> int:
    return sum(status.taken_back for status in second_level.statuses())


def compute(name: str) -> int:
    """Compute a value, and count the computation."""
    computed[name] = computed.get(name, 0) + 1
    return 42


@cache_page(300)
def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{compute('page')}")


def count(request: HttpRequest) -> HttpResponse:
    """A page that changes with every visit of one visitor."""
    request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse(f"{request.session['visits']}", headers={"Cache-Control": "no-store, private"})


def everybody(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{compute('everybody')}")


urlpatterns = [path("count", count), path("everybody", everybody)]
TEMPLATE = "{% load cache %}{% cache 300 box %}{{ compute }}{% endcache %}"


def read_all_ways() -> dict[str, int]:
    """Read by every way of reading. Returns how often each value was computed in this process."""
    if cache.get("plain") is None:
        cache.set("plain", compute("plain"))
    if len(found := cache.get_many(["m1", "m2"])) < 2:
        cache.set_many({name: compute(name) for name in ("m1", "m2") if name not in found})
    if "added" not in cache:
        cache.add("added", compute("added"))
    cache.get_or_set("loaded", lambda: compute("loaded"))
    engines["django"].from_string(TEMPLATE).render({"compute": lambda: compute("box")})
    page(RequestFactory().get("/page"))
    return computed


def visit(where: str, engine: str, cookie: str) -> tuple[str, str]:
    """Request a page. Returns its text and the session cookie."""
    client = Client()
    if cookie:
        client.cookies["sessionid"] = cookie
    with override_settings(SESSION_ENGINE=f"django.contrib.sessions.backends.{engine}"):
        seen = client.get(where).content.decode()
    return seen, client.cookies["sessionid"].value if "sessionid" in client.cookies else ""


def load(key: str) -> str | None:
    return source.get(key)


def load_slowly(key: str, chance: random.Random) -> str | None:
    value = load(key)
    for _ in range(chance.randrange(12)):
        source.ping()
    return value


def race(keys: list[str], role: str, seed: int) -> None:
    """Write every key once, or read every key, about as fast as the other processes do."""
    chance = random.Random(seed)
    over = caches["over"]
    for key in keys:
        if role == "write":
            for _ in range(chance.randrange(6)):
                source.ping()
            source.set(key, f"new {key}")
            over.delete(key)
        elif chance.random() < 0.5:
            over.get_or_set(key, lambda key=key: load_slowly(key, chance))
        elif over.get(key) is None:
            over.set(key, load_slowly(key, chance))


def main() -> None:
    late: list[threading.Thread] = []
    for line in sys.stdin:
        match json.loads(line):
            case ["begin", str(namespace), int(l2_db)]:
                answer: Any = begin(namespace, l2_db)
            case ["lease"]:
                answer = bus().wait_until_leased(30)
            case ["read all ways"]:
                answer = read_all_ways()
            case ["published"]:
                answer = bus().status().published
            case ["flushes"]:
                answer = bus().status().flushes
            case ["call", str(alias), str(method), *arguments]:
                answer = getattr(caches[alias], method)(*arguments)
            case ["migrate"]:
                call_command("migrate", verbosity=0)
                answer = True
            case ["visit", where, engine, cookie]:
                answer = visit(where, engine, cookie)
            case ["load", str(key)]:
                answer = caches["over"].get_or_set(key, lambda key=key: load(key))
            case ["write", str(key), str(value)]:
                source.set(key, value)
                answer = caches["over"].delete(key)
            case ["load late", str(key)]:
                SlowCache.waits = True
                late.append(threading.Thread(target=caches["over"].get_or_set, args=(key, lambda key=key: load(key))))
                late[-1].start()
                answer = SlowCache.waiting.wait(60)
            case ["arrive"]:
                SlowCache.waits = False
                SlowCache.may_go_on.set()
                late.pop().join(60)
                answer = True
            case ["race", keys, role, seed]:
                race(keys, role, seed)
                answer = True
            case ["settle"]:
                answer = settling.settle(60)
            case ["taken back"]:
                answer = taken_back() - taken_back_before
            case other:
                raise AssertionError(other)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
