"""What came of a call, settled right after it.

outcomes     puts it on the job: the JSON of a result, or an error's verdict
result_json  what was returned -> JSON
verdict      an exception -> transient or permanent -> retry or dead
error_text   an exception in words
tracebacks   where in the user's code a job failed or stands
"""
