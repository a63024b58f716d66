"""`rabbitray submit`: a pool as a Ray job, from a machine that need not be a node of the cluster.

submit     the steps in order: check, find, pack, send, follow
variables  a file of secrets; what the job is given besides its settings
request    settings -> entrypoint, runtime environment and metadata of the job
folder     which files go along, and their archive
address    the job server that an address means
server     Ray's job API over HTTP
follow     the job's log until it ends, and what Ctrl-C does
handover   secrets from `submit` to its job, past everything that shows them
"""
