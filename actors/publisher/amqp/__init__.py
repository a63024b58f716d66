"""The publisher's connection.

connection  holds the connection and its channels, opens them again after a loss
channel     writes messages, hears the broker's confirms
stream      a channel for one message whose body is not in memory
returned    which message came back because no queue takes it
frames      AMQP frames as bytes
"""
