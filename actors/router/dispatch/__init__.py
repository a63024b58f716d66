"""Which worker gets a batch.

dispatcher        forms batches and hands them out; its timers
batching          when the front of the buffer goes out (pure)
arrival_forecast  how many records a free worker's batch waits for (pure)
pool              members: pick, add, retire, replace
quarantine        suspects of a crash run one after another, beside the pool
workers           the handles on the Ray actors
"""
