"""What crosses a process boundary. Pure: no Ray, no RabbitMQ, no clock.

headers   names of our headers and content types
job       Job, what a handler gets; uuid7
wire      bytes <-> Job: msgpack, compact and verbose JSON, packed records
parcel    router -> worker: body and properties of each message of a batch
payload_hash  what a payload says, as one number
reply     worker -> router: a part of a batch, its failures, the worker itself
rows      worker -> store: the Arrow schemas of results and dead letters
"""
