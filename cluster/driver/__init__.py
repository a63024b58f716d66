"""PROCESS driver (`rabbitray run`): starts the actors, watches them, drains them.

session        Ray: joined or started
checks         what is refused before anything is consumed
compose        settings -> the setup of each process
service        start order and stop order
actors         creates and ends an actor in Ray
supervise      an actor that ended is started again
until_empty    what a run that ends with the empty queue waits for
run_totals     what a run came to, over all its routers
driver         the run, from settings to summary
progress_line  what is shown meanwhile
"""
