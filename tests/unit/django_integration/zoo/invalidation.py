"""Found and imported when Django starts."""

from collections.abc import Iterator

from django_integration import Tag, invalidates, tag

from .models import Exhibit, Skeleton, Ticket


@invalidates(Ticket)
def day_of(ticket: Ticket) -> Iterator[str | Tag]:
    """The list of a day, and the list of a photo's tickets."""
    yield f"day:{ticket.day}"
    yield tag(f"photo:{ticket.photo_id}")


@invalidates(Exhibit)
def hall_of(exhibit: Exhibit) -> Iterator[str]:
    """The page of a hall."""
    yield f"hall:{exhibit.hall}"


@invalidates(Skeleton)
def bones_of(skeleton: Skeleton) -> Iterator[str]:
    """The list of all skeletons with so many bones."""
    yield f"bones:{skeleton.bones}"
