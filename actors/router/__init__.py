"""PROCESS ConsumerRouter: one for each queue. Ray's shell is `actor`; importing this package does not load it.

intake       1. deliveries in, acks out
delivery     2. a delivery, a batch, the buffer between
spool        bodies that are too large for memory, while their message is settled
router       the spine: receive -> dispatch -> run -> conclude
dispatch     3. which worker gets a batch; starting, replacing, isolating workers
settlement   4. after the commit: ack, a copy into a rung or the dead letters, or give back
consumption  whether the queue is consumed: window, holds, the end
arrivals     counts of what was delivered
config       the router's settings
holds        what stops the consuming by itself: an outage of a service, a queue that vanished
endings      how the last jobs ended, and when too many of them are dead letters
status       what the autoscaler decides on
report       what the router says of itself: one value
meter        measurements of this process
end_asked    that this router is to end for good, by whom and in which time
upkeep       once a second: what must not wait for ever
assemble     puts the parts together
actor        a Ray actor of them
"""
