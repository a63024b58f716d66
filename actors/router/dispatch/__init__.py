"""Which worker gets a batch.

arrival_forecast  how long a free worker waits for more
pool              members: pick, add, retire, replace
quarantine        suspects of a crash run one after another, beside the pool
workers           the handles on the Ray actors
"""
