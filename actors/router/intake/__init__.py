"""RabbitMQ in: consume, window hand-over, acks.

config      which queue, which bounds
connection  makes the connection
scanner     takes deliveries out of the connection's bytes
reading     a delivery's identity and headers, clamped
consumer    Intake: consumes, changes the window, opens again after a loss
ack_sender  acks what is finished, gives back what is not
ack_ledger  which tags are finished, and which ack says so
frame_writer  puts acks on the channel, in order and without waiting
"""
