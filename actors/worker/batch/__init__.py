"""A batch in a worker: parcels in, jobs while they run, rows out.

unit          one job, what came of it; the ids of the one that runs now
decoding      parcels -> jobs, with their identity
skip_done     which of them have their result already: those are not run
running       one batch while it runs
progress      what its jobs tell of themselves, and when each of them is ended
result_table  the JSON of a part -> one Arrow table
"""
