"""The publisher's connection.

connection  holds the connection and its channels, opens them again after a loss
channel     writes messages, hears the broker's confirms
frames      AMQP frames as bytes
"""
