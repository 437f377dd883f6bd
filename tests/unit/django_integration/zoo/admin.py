"""Some of the zoo in the admin."""

from django.contrib import admin

from .models import Cage, Exhibit, Note, Ticket

for model in (Cage, Exhibit, Note, Ticket):
    admin.site.register(model)
