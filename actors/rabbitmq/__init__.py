"""What every AMQP client here shares: names, declarations, errors, tries, looks.

versions     what each version of RabbitMQ does otherwise (pure)
consumer_timeout  how long a message may stay unsettled, and what a consumer asks for (pure)
topology     names and arguments of queues and exchanges (pure)
declare      makes what is missing, compares what is there
strays       copies that came to another queue than they were meant for (pure)
frame_guard  keeps what a stranger wrote from pamqp, on every connection
addresses    the URLs of a broker's nodes, and the file they came from
failover     tries them in turn
guarded      a connection of aio-pika behind that guard
errors       which errors are a loss, which a refusal
reconnect    tries again, with back-off
look         is it there, and may we look at it
rights       what this user may do, found out without doing it
inspect      a short look of a command
depth        how many messages are ready, asked again and again by the autoscaler
"""
