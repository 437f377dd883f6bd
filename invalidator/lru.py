"""
`coherent_lru_cache`: `functools.lru_cache`, but that `cache_clear` reaches every server.

    @coherent_lru_cache(bus=bus, maxsize=128)
    def rates(currency): ...

    rates.cache_clear()                # on every server
    rates.cache_invalidate("EUR")      # this call, on every server

Rule 1: two calls are the same as they are for functools: if their arguments, as they were given, are equal. Arguments
are any hashable values, `self` included; they need no text.
Rule 2: every result carries the function's tag, its name; `cache_clear` invalidates that.
Rule 3: a result of plain arguments also carries a tag of its call, in which equal arguments are spelled alike (1, 1.0
and True), however they were given. All other results carry the tag of calls that cannot be spelled, and
`cache_invalidate` invalidates that one, too, because an object of the application may be equal to a plain argument.
Rule 4: a result that was being computed during a clear is not stored (`near_cache.py`, its rule 1).
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from fractions import Fraction
from math import isfinite
from types import MethodType
from typing import Any, Generic, NamedTuple, TypeVar, cast, overload
from uuid import UUID

from .any_key import AnyKeyCache
from .bus import Invalidator
from .config import MAXSIZE
from .decorator import ABOUT_TO_LOAD, refuse_unknown
from .errors import InvalidName, InvalidSetting
from .keys import Binder, TagsSpec, name_of_function, tags_maker
from .loaded import DEFAULT, Ttl, check_ttl
from .names import Tag, check_tag, check_tags
from .receipt import Receipt
from .source import SourceView

F = TypeVar("F", bound=Callable[..., Any])
Bus = Invalidator | Callable[[], Invalidator]
Invalidate = Callable[..., Receipt | None]

UNBOUNDED_MAXSIZE = MAXSIZE.default
"""Results kept with `maxsize=None`. functools keeps all there ever were; here nothing grows without a bound."""
_LARGEST_BITS = 1024
"""Of an int that is spelled out. As large as a float may be; Python refuses to write out numbers without end."""
_LONGEST_CALL = 200
"""Bytes of the arguments in a call's tag. Longer ones are replaced by their hash."""
_SELF_SPEAKING = (int, str)
"""One argument of such a type is its own key, as in functools."""


class LruContext:
    """
    What results depend on besides their arguments, such as a tenant.

    Attributes:
        part: returns what tells the context of a caller from others, a hashable value; None while there is no context.
    """

    __slots__ = ("part",)

    def __init__(self) -> None:
        self.part: Callable[[], Any] | None = None


class CacheInfo(NamedTuple):
    """What `cache_info` returns, as in functools; *maxsize* is the bound in force."""

    hits: int
    misses: int
    maxsize: int
    currsize: int


class CoherentLRU(Generic[F]):
    """
    A function whose results are cached by its arguments. Call it as before.

    Attributes:
        tag: what `cache_clear` invalidates; it can be invalidated by name as well.
        __wrapped__: the function itself, which always computes.
    """

    __wrapped__: F

    def __init__(
        self,
        function: F,
        *,
        bus: Bus,
        invalidate: Invalidate | None,
        source: SourceView | None,
        maxsize: int | None,
        typed: bool,
        tags: TagsSpec,
        ttl: Ttl,
        name: str | None,
        context: LruContext | None,
    ) -> None:
        functools.update_wrapper(self, function)
        self.tag = check_tag(name or name_of_function(function))
        self._bus = bus
        self._invalidate_tags = invalidate
        self._source = source
        self._context = LruContext() if context is None else context
        self._given = {"maxsize": maxsize, "typed": typed}
        self._maxsize = UNBOUNDED_MAXSIZE if maxsize is None else max(0, maxsize)
        self._typed = typed
        self._self_speaking = () if typed else _SELF_SPEAKING
        self._is_fixed = isinstance(bus, Invalidator)
        self._ttl = ttl
        self._bind = _binder(function)
        self._make_tags = _tags_maker(tags, self._bind, self.tag)
        self._results: AnyKeyCache | None = None
        self._hits_before = self._misses_before = 0
        self._is_async = inspect.iscoroutinefunction(function)
        if self._is_async and hasattr(inspect, "markcoroutinefunction"):
            inspect.markcoroutinefunction(self)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        results = self._results
        if results is None or not self._is_fixed:
            results = self._open()
        if len(args) == 1 and not kwargs and type(args[0]) in self._self_speaking:
            key = args[0]
        else:
            key = functools._make_key(args, kwargs, self._typed)  # noqa: SLF001 - rule 1
        if self._context.part is not None:
            key = (self._context.part(), key)
        if self._is_async:
            return self._acall(results, key, args, kwargs)
        value = results.get(key, ABOUT_TO_LOAD)
        if value is not ABOUT_TO_LOAD:
            return value
        if not self._maxsize:
            return self.__wrapped__(*args, **kwargs)
        load = functools.partial(self.__wrapped__, *args, **kwargs)
        return results.load_entry(key, load, ttl=self._ttl, tags=self._tags_of(args, kwargs)).value

    async def _acall(self, results: AnyKeyCache, key: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        value = results.get(key, ABOUT_TO_LOAD)
        if value is not ABOUT_TO_LOAD:
            return value
        if not self._maxsize:
            return await self.__wrapped__(*args, **kwargs)
        load = functools.partial(self.__wrapped__, *args, **kwargs)
        return (await results.aload_entry(key, load, ttl=self._ttl, tags=self._tags_of(args, kwargs))).value

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """As a method of functools': `self` is the first argument, and kept alive by the results."""
        return self if instance is None else MethodType(self, instance)

    def __reduce__(self) -> str:
        return self.__wrapped__.__qualname__

    def __copy__(self) -> CoherentLRU[F]:
        return self

    def __deepcopy__(self, memo: object) -> CoherentLRU[F]:
        return self

    def __repr__(self) -> str:
        return f"<coherent_lru_cache of {self.tag}>"

    # What functools has.

    def cache_clear(self) -> Receipt | None:
        """
        Forget every result, here at once and on every server; the counts of `cache_info` start anew.

        Raises as `Invalidator.invalidate` does.
        """
        results = self._open()
        try:
            return self._invalidate(self.tag)
        finally:
            results.clear()
            stats = results.stats()
            self._hits_before, self._misses_before = stats.hits, stats.misses

    def cache_info(self) -> CacheInfo:
        """How often it was asked in this process, and how many results may be served. Walks through them."""
        results = self._open()
        results.sweep()
        stats = results.stats()
        return CacheInfo(
            hits=stats.hits - self._hits_before,
            misses=stats.misses - self._misses_before,
            maxsize=self._maxsize,
            currsize=len(results),
        )

    def cache_parameters(self) -> dict[str, Any]:
        """Return *maxsize* and *typed* as they were given."""
        return dict(self._given)

    # What functools has not.

    def cache_invalidate(self, /, *args: Any, **kwargs: Any) -> Receipt | None:
        """
        Forget the result of this call, on every server, however its arguments were given; and with it the results of
        calls whose arguments cannot be spelled.

        Raises:
            InvalidName: an argument has no text that is the same on every server: only str, bytes, bool, int, float,
                None, date, UUID and tuples of these have; use `cache_clear`, or tags.
        """
        text = _spell_call(self._bind, args, kwargs)
        if text is None:
            # The types only: the text of an argument may be endless, or fail.
            kinds = ", ".join(type(value).__name__ for value in (*args, *kwargs.values()))
            raise InvalidName(
                f"{self.tag}: a call with ({kinds}) cannot be named on other servers; only str, bytes, bool, int, "
                "float, None, date, UUID and tuples of these have a text that is the same everywhere. Use "
                "cache_clear(), or tags"
            )
        return self._invalidate(_call_tag(self.tag, text), _call_tag(self.tag, None))

    def _invalidate(self, *tags: str) -> Receipt | None:
        if self._invalidate_tags is not None:
            return self._invalidate_tags(*tags)
        return self._open().bus.invalidate(tags=tags)

    def _open(self) -> AnyKeyCache:
        """The results, on the bus of this moment."""
        bus = self._bus if isinstance(self._bus, Invalidator) else self._bus()
        results = self._results
        if results is not None and results.bus is bus:
            return results
        # No lock, which a fork could leave taken: of two threads that come here at once, one computes once more.
        self._hits_before = self._misses_before = 0
        results = self._results = AnyKeyCache(bus, self.tag, maxsize=self._maxsize or 1, source=self._source)
        return results

    def _tags_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterable[str | Tag]:
        return (_call_tag(self.tag, _spell_call(self._bind, args, kwargs)), *self._make_tags(args, kwargs))


@overload
def coherent_lru_cache(maxsize: F, typed: bool = ..., *, bus: Bus) -> CoherentLRU[F]: ...
@overload
def coherent_lru_cache(
    maxsize: int | None = ...,
    typed: bool = ...,
    *,
    bus: Bus,
    tags: TagsSpec = ...,
    ttl: Ttl = ...,
    name: str | None = ...,
    invalidate: Invalidate | None = ...,
    source: SourceView | None = ...,
    context: LruContext | None = ...,
) -> Callable[[F], CoherentLRU[F]]: ...
def coherent_lru_cache(
    maxsize: Any = 128,
    typed: bool = False,
    *,
    bus: Bus,
    tags: TagsSpec = (),
    ttl: Ttl = DEFAULT,
    name: str | None = None,
    invalidate: Invalidate | None = None,
    source: SourceView | None = None,
    context: LruContext | None = None,
    **unknown: Any,
) -> Any:
    """
    Decorate a function, sync or async, as `functools.lru_cache` does; `cache_clear()` reaches every server.

    Args:
        maxsize: results kept; None for UNBOUNDED_MAXSIZE; 0 keeps none.
        typed: whether 1 and 1.0 are two calls.
        bus: an `Invalidator`, or a function that returns one, asked at each call.
        tags: templates such as `"category:{category_id}"`, or a function of the same arguments that returns them.
        ttl: seconds; None or not given for no end.
        name: the tag of all results; the function's module and qualified name, if not given.
        invalidate: called with tags in place of `bus.invalidate(tags=…)`.
        source: as for `NearCache`.
        context: what results depend on besides their arguments. What clears and invalidates does so in all contexts.

    Raises:
        TypeError: *maxsize* is neither a number, a function, nor None; or an option is not known.
        InvalidName, InvalidSetting: *name*, *tags* or *ttl* cannot work.
    """
    refuse_unknown(unknown, ("maxsize", "typed", "tags", "ttl", "name"), "coherent_lru_cache")
    function = None
    if callable(maxsize):
        function, maxsize = maxsize, 128
    elif maxsize is not None and not isinstance(maxsize, int):
        raise TypeError("Expected first argument to be an integer, a callable, or None")
    check_ttl(ttl)

    def decorate(function: F) -> CoherentLRU[F]:
        return CoherentLRU(
            function,
            bus=bus,
            invalidate=invalidate,
            source=source,
            maxsize=maxsize,
            typed=bool(typed),
            tags=tags,
            ttl=ttl,
            name=name,
            context=context,
        )

    return decorate if function is None else decorate(function)


def _binder(function: Callable[..., Any]) -> Binder | None:
    try:
        return Binder(function)
    except ValueError:  # some that are written in C have no signature
        return None


def _tags_maker(
    tags: TagsSpec, bind: Binder | None, name: str
) -> Callable[[tuple[Any, ...], dict[str, Any]], Iterable[str | Tag]]:
    if bind is not None:
        return tags_maker(tags if callable(tags) else check_tags(tags), bind, name)
    if not callable(tags) and not any("{" in tag for tag in check_tags(tags)):
        return lambda args, kwargs: tags
    raise InvalidSetting(f"{name} has no signature, so no tags can be made of its arguments: leave out the templates")


# Spelling a call (rule 3).


def _call_tag(name: str, text: str | None) -> str:
    """The tag of a call of the function *name*: its spelling, or "*" for those that have none."""
    tag = f"{name}({'*' if text is None else text})"
    if text is None or len(text) <= _LONGEST_CALL:
        try:
            return check_tag(tag)
        except InvalidName:
            pass
    digest = hashlib.blake2b(tag.encode(errors="surrogatepass"), digest_size=16).hexdigest()
    return check_tag(f"{name}(~{digest})" if len(name.encode()) < 400 else f"~{digest}")


def _spell_call(bind: Binder | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """*args* and *kwargs* as every server spells them, if they can be."""
    if bind is None:
        return None
    try:
        arguments = bind(args, kwargs)
    except TypeError:
        return None  # a wrong call, which the function itself will refuse
    return _spell_named(arguments)


def _spell_named(arguments: Mapping[str, Any]) -> str | None:
    texts = {name: _spell(arguments[name]) for name in sorted(arguments)}
    return None if None in texts.values() else ", ".join([f"{name}={text}" for name, text in texts.items()])


def _spell(value: Any) -> str | None:
    """The text of *value*, the same for values that are equal; None for a type of which that is not certain."""
    kind = type(value)
    if kind is bool or (kind is int and value.bit_length() <= _LARGEST_BITS) or (kind is float and isfinite(value)):
        return str(Fraction(value))
    if kind is str or kind is bytes or kind is date or kind is UUID or value is None:
        return ascii(value)  # repr() escapes what this Python's Unicode takes for unprintable: not the same everywhere
    if kind is tuple:
        items = [_spell(item) for item in value]
        return None if None in items else f"({', '.join(cast('list[str]', items))})"
    if kind is dict:  # of **options: nothing else that can be an argument is a dict
        text = _spell_named(value)
        return None if text is None else f"{{{text}}}"
    return None
