"""The user's code: loaded, and called with the jobs of a batch.

loading        by name `module:attr`; a class is set up
users_modules  where a module that is missing lies
shape          which style it is: function, coroutine, class, batch; what cannot be called is refused
signature      what it asks for: the job, its payload, the message
parameters     which of its parameters count, behind decorators
annotations    what an annotation asks for
conversion     a payload -> the type that is asked for
arguments      what it is called with, where that is more than the job
executor       runs the jobs of a batch: in a thread, or in tasks in slots
thread         the one thread of a synchronous handler, and of a decoder
call           one call: its context, its time-out
gpus           hidden from what is only looked at
decoder        the decoder of the setting: found, made, called for one message at a time
"""
