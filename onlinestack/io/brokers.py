"""Which brokers there are, and connecting to one by its address."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from onlinestack.io.broker import Broker, BrokerError, Outbox

__all__ = ["open_broker"]


def open_broker(
    brokers: str,
    *,
    group: str,
    options: Sequence[str] = (),
    predictions: str | None = None,
) -> tuple[Broker, Outbox | None]:
    """Connect to a broker.

    Parameters
    ----------
    brokers
        ``host:port`` of one or more Kafka brokers with commas between, or a ``redis://`` address.
    group
        Name under which others see where the consumer stands.
    options
        Further settings of the Kafka client, ``name=value``.
    predictions
        Topic to write to; None for none.

    Raises
    ------
    BrokerError
        When the broker's library is not installed or takes no such settings.
    """
    connect: Callable[..., tuple[Broker, Outbox | None]]
    kind = "redis" if brokers.partition("://")[0] in ("redis", "rediss", "unix") else "kafka"
    try:
        if kind == "redis":
            from onlinestack.io import redis

            connect = redis.connect
        else:
            from onlinestack.io import kafka

            connect = kafka.connect
    except ModuleNotFoundError as error:
        raise BrokerError(
            f"{brokers!r} needs the package {error.name!r}, which is not installed; install "
            f"onlinestack[{kind}]"
        ) from None
    return connect(brokers, group=group, options=options, predictions=predictions)
