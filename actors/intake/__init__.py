"""RabbitMQ in: consume, window hand-over, acks.

`connection` makes the connection, `scanner` takes deliveries out of its bytes, `consumer` is the Intake.
"""

from actors.intake.connection import CONNECTION_ERRORS, address, refusal
from actors.intake.consumer import Intake, IntakeConfig

__all__ = ["CONNECTION_ERRORS", "Intake", "IntakeConfig", "address", "refusal"]
