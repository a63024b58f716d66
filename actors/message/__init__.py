"""What crosses a process boundary. Pure: no Ray, no RabbitMQ, no clock.

headers   names of our headers and content types
job       Job, what a handler gets; uuid7
running   how a job reaches the run that it is in
wire      bytes <-> Job: msgpack, compact and verbose JSON, packed records
message   Message, what it came in, for who asks for it
formats   what foreign messages mean: Celery, Dramatiq, CloudEvents, CBOR; Decoder, a user's own
properties  what AMQP says of a message beside its body
keys      where the key of a message is: a header, a property, its body
pointer   JSON pointers
parcel    router -> worker: body and properties of each message of a batch
payload_hash  what a payload says, as one number
key_hash  the stable hash of a key; what tells two messages under one key apart
finished_keys  worker -> store: which of these keys have their result
reply     worker -> router: a part of a batch, its failures, the worker itself
rows      worker -> store: the Arrow schemas of results and dead letters
"""
