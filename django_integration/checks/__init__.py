"""
The system checks, run by `manage.py check` and before every management command.

Rule 1: an id never changes its meaning; one function has one id.
Rule 2: a hint names the repair.
Rule 3: a check connects to nothing, unless it is asked for with --deploy.
"""

from django.core.checks import register

from . import backend, local_caches, project, setting

TAG = "invalidator"


def register_all() -> None:
    """Register the checks; a second time changes nothing."""
    for check in (*setting.ALL, *backend.ALL, *local_caches.ALL, *project.ALL):
        register(check, TAG)
    for check in project.DEPLOY:
        register(check, TAG, deploy=True)
