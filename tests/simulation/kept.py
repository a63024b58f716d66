from tests.simulation.script import Script

KEPT: dict[str, Script] = {}
