"""From settings to a consumer loop."""

from __future__ import annotations

from onlinestack.config import Config, ConfigError
from onlinestack.consume import Consumer, Topics
from onlinestack.figures import Report
from onlinestack.opening import unstarted_learner
from onlinestack.saved import KINDS, ROLES

__all__ = ["open_consumer"]


def open_consumer(config: Config, report: Report) -> Consumer:
    """Return the consumer loop of a configuration.

    Raises
    ------
    ConfigError
        Where a setting is missing, or some do not go together.
    """
    for key, what in (
        ("brokers", "HOSTS: where the broker is"),
        ("topic", "NAME: which records to read"),
        ("snapshot", "DIR: where snapshots are kept"),
    ):
        if not config[key]:
            raise ConfigError(f"consume needs --{key} {what}")
    if not config["labels_topic"]:
        if not config["label"]:
            raise ConfigError(
                "nothing says what was clicked: name the topic of the labels in --labels-topic, or "
                "the column of the records in --label"
            )
        for key in ("window", "correct_late"):
            if config[key]:
                raise ConfigError(
                    f"--{key.replace('_', '-')} is for labels that come later: add --labels-topic"
                )
    elif not config["window"] and not config["label"]:
        raise ConfigError(
            "who was not clicked is known when the window of the record ends: give --window TIME, "
            "or name the column of the labels in --label"
        )
    schema = config.table("schema")
    topics = Topics(
        config["brokers"],
        config["topic"],
        labels_topic=config["labels_topic"],
        predictions_topic=config["predictions_topic"],
        group=config["group"],
        format=config["message_format"],
        avro_schema=config["avro_schema"],
        options=config["broker_options"],
        idle=config["idle"],
        roles={key: schema[key] for key in ROLES if key != "label_time"},
        kinds={key: schema[key] for key in (*KINDS, "ignore")},
    )
    try:
        return Consumer(
            unstarted_learner(config),
            topics,
            config["snapshot"],
            every=config["snapshot_every"],
            seconds=config["snapshot_time"],
            keep=config["keep"],
            rejects=config["rejects"],
            report=report,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from None
