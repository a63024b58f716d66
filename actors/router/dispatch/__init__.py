"""Which worker gets a batch.

dispatcher        forms batches and hands them out; its timers
batching          when the front of the buffer goes out (pure)
arrival_forecast  how many records a free worker's batch waits for (pure)
uncommitted       how many bytes of rows wait for the store: no batch goes out above a bound
member            one worker with what it has in hand
pool              the members: pick, run, retire, replace
recycling         workers that have done enough are replaced, one after another
broken            which jobs of a worker that is broken run elsewhere for nothing
worker_starts     those that are missing are asked for, until they are ready
isolation         what becomes of a message in whose run alone a worker was lost (pure)
quarantine        suspects of a crash run one after another, beside the pool
lending           the pool gives a place up while the quarantine's worker waits for one
memory_deaths     what Ray says of a worker that its memory monitor ended (pure)
node_watch        nodes that give no sign of life, and what their workers have in hand
workers           the handles on the Ray actors
"""
