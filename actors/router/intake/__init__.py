"""RabbitMQ in: consume, window hand-over, acks.

config             which queue, which bounds
connection         makes the connection
scanning_protocol  what the connection's bytes arrive in, and which of them aiormq reads
scanner            takes deliveries out of them
reading            a delivery's identity and headers, clamped
channel_consumers  who consumes on a channel, and what each one holds
frame_writer       puts acks on a channel, in order and without waiting
ack_ledger         which tags are finished, and which ack says so
ack_sender         acks what is finished, gives back what is not
generation         one connection with one channel and all of the above, ended once
steadiness         how the next generation begins, by how long those before it lived
held_back          what comes back late, since the node of its consumer is away
late               which messages the broker has taken back by its time-out, and in what words that is told
late_messages      tells, counts and gives them up
undeliverable      the message that RabbitMQ closes each connection for, and the way out
opener             opens generations
consumer           Intake: consumes, changes the window, opens the next generation after a loss
"""
