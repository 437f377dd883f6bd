"""
SQL of the application's own, taken apart as far as this app has to understand it.

`words.py` splits a text into statements and words, `reads.py` finds the tables that a text reads. Which tables a text
writes to is asked in one place alone, and found there: `writes/raw_sql.py`.
"""
