"""The shop in the admin, where every list has the action "Invalidate caches"."""

from django.contrib import admin

from .models import Category, Flag, Label, Product

admin.site.register([Category, Flag, Label])


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):
    """Prices can be changed in the list."""

    list_display = ("name", "price", "category")
    list_editable = ("price",)
    list_select_related = ("category",)
