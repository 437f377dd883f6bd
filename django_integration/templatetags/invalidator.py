"""
`{% cached %}`: a part of a template, cached with what it was made from.

    {% load invalidator %}
    {% cached "sidebar" 300 user.language category tags="prices navigation" %}
        {% for product in category.product_set.all %}…{% endfor %}
    {% endcached %}

First its name and its TTL in seconds (None: never), then what it varies on, as in Django's `{% cache %}`; at the end
`tags=` (one string of names, or a list), `version=` and `track=`.

Rule 1: what the part reads through the ORM is recorded, as in `@cached`. What was read before it began is not: a row
that the view has read, or a query set that was evaluated above.
Rule 2: so a row that it varies on is read anew, and stands in for the one of the same variable while the part is
rendered.
Rule 3: names of parts are of all templates: two parts of one name, and equal values, are one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

from django import template
from django.core.exceptions import ObjectDoesNotExist
from django.template.base import FilterExpression, Node, NodeList, Parser, Token, Variable, token_kwargs
from django.template.context import Context
from django.template.exceptions import TemplateSyntaxError

from invalidator import InvalidName, Loaded
from invalidator.extending import check_ttl, plain_key

from ..reads import arguments
from ..reads.cached_functions import cache

register = template.Library()

OPTIONS = ("tags", "version", "track")
_OPTION = re.compile(r"[^\W\d]\w*=")


class CachedNode(Node):
    """One `{% cached %}`."""

    def __init__(
        self,
        parts: NodeList,
        name: FilterExpression,
        ttl: FilterExpression,
        vary_on: list[FilterExpression],
        options: dict[str, FilterExpression],
    ) -> None:
        self.nodelist = parts
        self.name = name
        self.ttl = ttl
        self.vary_on = vary_on
        self.options = options

    def render(self, context: Context) -> str:
        """Return the cached text, or render it."""
        options = {name: value.resolve(context) for name, value in self.options.items()}
        name, values = self.name.resolve(context), [value.resolve(context) for value in self.vary_on]
        key = plain_key(f"template.{name}", {"on": tuple(values)}, options.get("version", 1), arguments.describe)
        rendered: str = cache.get_or_set(
            key,
            lambda: self._render(context, values),
            ttl=_seconds(self.ttl.resolve(context)),
            tags=_tags(options.get("tags", ())),
            track=bool(options.get("track", True)),
        )
        return rendered

    def _render(self, context: Context, values: list[Any]) -> Any:
        try:
            fresh = {
                _variable(expression): arguments.read_anew(value)
                for expression, value in zip(self.vary_on, values, strict=True)
                if arguments.has_any_to_read(value)
            }
        except ObjectDoesNotExist:
            return Loaded(
                self.nodelist.render(context), ttl=0
            )  # what is made of a row that is gone is not for everybody
        with context.push(**fresh):
            return self.nodelist.render(context)


@register.tag("cached")
def cached(parser: Parser, token: Token) -> CachedNode:
    """See the module."""
    tag, *bits = token.split_contents()
    if len(bits) < 2:
        raise TemplateSyntaxError(
            f'{{% {tag} %}} takes a name and a TTL in seconds, such as {{% {tag} "sidebar" 300 %}}'
        )
    options = token_kwargs([bit for bit in bits if _OPTION.match(bit)], parser)
    for option in options:
        if option not in OPTIONS:
            close = difflib.get_close_matches(option, OPTIONS, n=1)
            hint = f"did you mean {close[0]}=?" if close else f"its options are {', '.join(OPTIONS)}"
            raise TemplateSyntaxError(f"{{% {tag} %}} has no option {option!r}: {hint}")
    name, ttl, *vary_on = [parser.compile_filter(bit) for bit in bits if not _OPTION.match(bit)]
    if not isinstance(ttl.var, Variable) or ttl.var.lookups is None:  # a text or number in the template itself
        _seconds(ttl.resolve(Context()))
    parts = parser.parse((f"end{tag}",))
    parser.delete_first_token()
    return CachedNode(parts, name, ttl, vary_on, options)


def _variable(expression: FilterExpression) -> str:
    name = expression.token
    if not name.isidentifier():
        raise InvalidName(
            f"{{% cached %}}: {name!r} is a row or a query set, and needs a name of its own: write "
            f"{{% with product={name} %}} around, and vary on product"
        )
    return name


def _seconds(ttl: Any) -> float | None:
    if ttl is None:
        return None
    try:
        return check_ttl(float(ttl))
    except (TypeError, ValueError):
        raise TemplateSyntaxError(
            f"the TTL of {{% cached %}} is a number of seconds, 0 or more, or None; not {ttl!r}"
        ) from None


def _tags(tags: str | Iterable[Any]) -> Iterable[Any]:
    return tags.split() if isinstance(tags, str) else tags
