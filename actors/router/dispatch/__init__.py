"""Which worker gets a batch.

arrival_forecast  how long a free worker waits for more
member            one worker with what it has in hand
isolation         what happens to the messages that a lost worker leaves: the rule
pool              the members: pick, run, retire, replace
worker_starts     those that are missing are asked for, until they are ready
quarantine        suspects of a crash run one after another, beside the pool
workers           the handles on the Ray actors
"""
