"""
The process-local caches of other packages, made coherent: INVALIDATOR["LOCAL_CACHES"].

    sites          `SITE_CACHE` of django.contrib.sites
    contenttypes   the cache of `ContentType.objects`
    waffle         flags, switches and samples of django-waffle
    constance      settings of django-constance, from its database or from Redis

Rule 1: no cache depends on a message being received. Each is read through a near cache, which looks at the lease and at
the ledger with every read. So it works in a sidecar's worker, which receives no messages, and in an outage.
Rule 2: what a package offers goes on working: its methods, its `clear_cache`, assignments by tests.
Rule 3: a package that does not have the attributes that we expect is left as it is, and a system check warns.
"""
