"""
What depends on a row, beyond the row itself. Found by the app `django_integration`, called before and after a change.

The tags `shop.product`, `shop.product:42` and so on need no line here.
"""

from collections.abc import Iterator

from django_integration import Tag, invalidates, tag

from .models import Product


@invalidates(Product)
def price_list(product: Product) -> Iterator[Tag]:
    """Whatever shows prices of many products carries this tag."""
    yield tag("prices")


@invalidates(Product)
def category_page(product: Product) -> Iterator[str]:
    """The page of a product's category; of both, when it moves from one to the other."""
    yield f"category:{product.category_id}"
