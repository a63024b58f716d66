"""Reads what the store wrote, for the commands.

reader                 a results file, or the running pool's store
arrival                since when a message waited, as SQL (pure)
message_story          one message, from publish to ack
dead_letters           groups, texts
dead_letter_selection  which dead letters a replay means (pure)
dead_letter_replay     dead letters back into the main queue
parquet                rows as Parquet files
report                 the HTML page
"""
