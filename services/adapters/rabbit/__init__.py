"""The bus on RabbitMQ: one topic exchange, routing keys `<kind>.<partition>`, several messages in a delivery."""

from services.adapters.rabbit.bus import RabbitBus, connect

__all__ = ["RabbitBus", "connect"]
