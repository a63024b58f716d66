"""PROCESS driver (`rabbitray run`): starts the actors, watches them, drains them.

session        Ray: joined or started
checks         what is refused before anything is consumed
compose        settings -> the setup of each process
service        start order and stop order
actors         creates and ends an actor in Ray
supervise      an actor that ended is started again
driver         the run, from settings to summary
progress_line  what is shown meanwhile
"""
