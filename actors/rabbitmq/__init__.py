"""What every AMQP client here shares: names, declarations, errors, tries, looks.

topology    names and arguments of queues and exchanges (pure)
declare     makes what is missing, compares what is there
strays      copies that came to another queue than they were meant for (pure)
errors      which errors are a loss, which a refusal
reconnect   tries again, with back-off
inspect     a short look of a command
depth       how many messages are ready, asked again and again by the autoscaler
"""
