"""
Worlds of requests, by which the way of a value is searched for holes: whose truth, which question, the whole answer,
whose object (DESIGN section 3.5).
"""
