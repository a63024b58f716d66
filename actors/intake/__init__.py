"""RabbitMQ in: consume, window hand-over, acks.

`connection` makes the connection, `recovery` tries again, `scanner` takes deliveries out of the bytes, `taking` out
of aiormq's reader, `consumer` is the Intake.
"""

from actors.intake.config import IntakeConfig
from actors.intake.connection import is_loss, told
from actors.intake.consumer import Intake
from actors.intake.recovery import within

__all__ = ["Intake", "IntakeConfig", "is_loss", "told", "within"]
