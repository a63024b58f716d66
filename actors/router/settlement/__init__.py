"""What becomes of a batch when its worker has answered.

conclusion   one part of a batch on its way: written, published, then acked, given back or stopped
retries      a failure's way: rung or dead letters (pure)
waits        how long a message may be put back without a charge
copies       the copies for rungs and dead letters, their headers and rows
failure_log  one line for each kind of failure, with its traceback, and for dead letters
outstanding  copies that went into rungs and have not come back (pure)
settler      publishes copies, then acks
whole_messages  not worked as it came: put back, taken apart or let go
dead_letters    the rows of dead letters
acker        acks what is finished, gives back what is not safe
tally        what became of jobs and messages
dropped      what RabbitMQ dead-lettered by itself gets a row
failpoints   where a crash test ends the process
"""
