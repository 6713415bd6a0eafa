"""Every setting of a run, named once.

Options, environment variables, TOML keys and the printed configuration all come from this table;
defaults stand in the presets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from onlinestack.words import listed

__all__ = ["SETTINGS", "TABLES", "Setting"]

Type = Literal["text", "list", "whole", "number", "numbers", "flag", "entries", "duration"]


@dataclass(frozen=True, slots=True)
class Setting:
    """One thing a user can say about a run.

    Parameters
    ----------
    table
        TOML table it stands in; "" is the top level.
    key
        TOML key; unique over all tables, so that the environment variable is
        ``ONLINESTACK_`` and the key in capitals.
    type
        What its value is.
    help
        What it does, in one line; ``{}`` stands for the choices.
    options
        Its options on the command line, as typer takes them; none for settings that the command
        line builds itself.
    metavar
        What stands for its value in the help.
    least
        Smallest value allowed.
    choices
        All the names that its value, or each of its values, can be.
    """

    table: str
    key: str
    type: Type
    help: str
    options: tuple[str, ...] = ()
    metavar: str | None = None
    least: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def meaning(self) -> str:
        """What it does, in one line, with the choices."""
        return self.help.format(listed(self.choices)) if self.choices else self.help


TABLES = {
    "": "What to learn with, and the experts of a stack.",
    "source": "Where records come from.",
    "schema": "What their columns are.",
    "learner": "The linear learner of preset linear; bits and seed are the stack's, too.",
    "stack": "The stack, of preset stack.",
    "labels": "Labels that come later than their records, and non-clicks that are left out.",
    "consume": "The loop beside a broker: onlinestack consume.",
    "run": "What goes in beside records and what comes out, and when to stop.",
    "log": "What is said.",
}
"""What each table of a TOML file is about; "" is the top level."""

_ROWS = [
    Setting(
        "",
        "preset",
        "text",
        "{}: the whole stack, or one linear learner, a hundred times faster.",
        ("--preset",),
        "NAME",
        choices=("stack", "linear"),
    ),
    Setting("source", "paths", "list", "Files to read, in order; - is standard input."),
    Setting(
        "source",
        "format",
        "text",
        "{}; told from the name when left out.",
        ("--format",),
        "NAME",
        choices=("csv", "tsv", "parquet", "arrow", "jsonl", "vw"),
    ),
    Setting(
        "source",
        "no_header",
        "flag",
        "The first line is a record already; name the columns with --columns.",
        ("--no-header/--header",),
    ),
    Setting("source", "columns", "list", "Names of the columns.", ("--columns",), "A,B"),
    Setting(
        "schema",
        "label",
        "text",
        "Column with the label: click, number or class.",
        ("--label",),
        "A",
    ),
    Setting(
        "schema", "positive", "text", "Label value that means a click.", ("--positive",), "VALUE"
    ),
    Setting("schema", "time", "text", "Column with the time.", ("--time",), "A"),
    Setting(
        "schema",
        "time_format",
        "text",
        "strptime pattern of the time; epochs and ISO 8601 need none.",
        ("--time-format",),
        "PATTERN",
    ),
    Setting("schema", "id", "text", "Column that names the record.", ("--id",), "A"),
    Setting("schema", "weight", "text", "Column with the importance.", ("--weight",), "A"),
    Setting(
        "schema",
        "label_time",
        "text",
        "Column with the time the label became known; of --labels: the time of its rows.",
        ("--label-time",),
        "A",
    ),
    Setting(
        "schema",
        "categorical",
        "list",
        "Columns to read as categories (ids!).",
        ("--categorical",),
        "A,B",
    ),
    Setting("schema", "numeric", "list", "Columns to read as numbers.", ("--numeric",), "A,B"),
    Setting("schema", "text", "list", "Columns to read as tokens.", ("--text",), "A,B"),
    Setting("schema", "ignore", "list", "Columns to leave out.", ("--ignore",), "A,B"),
    Setting(
        "learner",
        "task",
        "text",
        "{}; what --loss and --oaa say when left out.",
        ("--task",),
        "NAME",
        choices=("click", "regression", "multiclass"),
    ),
    Setting(
        "learner",
        "oaa",
        "whole",
        "Predict one of N classes, each learned against all others: whole numbers from 1 to N, or "
        "names.",
        ("--oaa",),
        "N",
        1,
    ),
    Setting(
        "learner",
        "bits",
        "whole",
        "2 to this power is the number of weights.",
        ("--bits", "-b"),
        "N",
        1,
    ),
    Setting("learner", "seed", "whole", "Seed of all that is random.", ("--seed",), "N"),
    Setting(
        "learner",
        "names",
        "flag",
        "Keep names of features, which are values of records, for inspect.",
        ("--names",),
    ),
    Setting(
        "learner",
        "learning_rate",
        "number",
        "Learning rate.",
        ("--learning-rate", "-l"),
        "X",
    ),
    Setting(
        "learner",
        "alpha",
        "number",
        "Step size of ftrl, pistol and coin; 0.5, 1 and 4 by default.",
        ("--alpha",),
        "X",
        0,
    ),
    Setting(
        "learner",
        "beta",
        "number",
        "Its second part; 1, 0.5 and 1 by default.",
        ("--beta",),
        "X",
        0,
    ),
    Setting("learner", "power_t", "number", "Power of the rate's decay.", ("--power-t",), "X"),
    Setting(
        "learner",
        "initial_t",
        "number",
        "Start of the rate's clock.",
        ("--initial-t",),
        "X",
        0,
    ),
    Setting("learner", "l1", "number", "L1 regularisation.", ("--l1",), "X", 0),
    Setting("learner", "l2", "number", "L2 regularisation.", ("--l2",), "X", 0),
    Setting(
        "learner",
        "loss",
        "text",
        "{}; the first two are for clicks, the others for numbers.",
        ("--loss",),
        "NAME",
        choices=("logistic", "hinge", "squared", "quantile", "poisson", "classic", "expectile"),
    ),
    Setting("learner", "tau", "number", "Quantile of the quantile loss.", ("--tau",), "X"),
    Setting(
        "learner",
        "update",
        "text",
        "{}; the last three, the default, go together.",
        ("--update",),
        "A,B",
        choices=("ftrl", "pistol", "coin", "sgd", "adaptive", "normalized", "invariant"),
    ),
    Setting(
        "learner",
        "link",
        "text",
        "{}: from the raw score to the prediction; fits the loss when left out.",
        ("--link",),
        "NAME",
        choices=("identity", "logistic", "glf1", "poisson"),
    ),
    Setting("learner", "interactions", "list", "Combinations of namespaces to learn together."),
    Setting(
        "learner",
        "constant",
        "flag",
        "Learn without, or with, a weight every record shares.",
        ("--constant/--noconstant",),
    ),
    Setting(
        "stack",
        "fields",
        "whole",
        "Fields that have click-rate statistics, the first in order of their names.",
        least=1,
    ),
    Setting("stack", "tree_columns", "whole", "Most columns that trees read, about.", least=1),
    Setting(
        "stack",
        "half_lives",
        "numbers",
        "Half-lives of the statistics, in labelled records; up to seven, in rising order.",
    ),
    Setting(
        "stack",
        "prior",
        "number",
        "Records that the overall click rate counts for in each statistic.",
        least=0,
    ),
    Setting(
        "stack",
        "random_bits",
        "whole",
        "Random bits of numbers and statistics, for members that read them.",
        least=1,
    ),
    Setting(
        "stack",
        "micro_trees",
        "whole",
        "Tiny random trees over the hashed fields, for entries that read their leaves (t).",
        least=512,
    ),
    Setting(
        "stack",
        "share",
        "number",
        "Share of the mixture's weights that is dealt out evenly at each label.",
        least=0,
    ),
    Setting(
        "stack",
        "largest_weight",
        "number",
        "Weight of a record that moves the mixture's weights in full; others do in proportion.",
        least=0,
    ),
    Setting(
        "stack",
        "combiners",
        "list",
        "Judge these beside the mixture: {}.",
        ("--combiners",),
        "A,B",
        choices=("arithmetic", "majority", "weighted", "rank", "best", "all"),
    ),
    Setting(
        "stack", "window_rows", "whole", "Labelled records that trees are trained on.", least=1
    ),
    Setting(
        "stack",
        "window_bytes",
        "whole",
        "Bytes these may take; wide records shorten the window.",
        least=1,
    ),
    Setting(
        "stack",
        "train_first",
        "whole",
        "Labelled records at the first training, from then on after half as many again.",
        least=1,
    ),
    Setting(
        "stack",
        "train_every",
        "whole",
        "Labelled records between trainings at last; 5 % of all once that is more.",
        least=1,
    ),
    Setting(
        "stack",
        "train_lag",
        "whole",
        "Labelled records from the cut of a training to its service, at most.",
        least=1,
    ),
    Setting(
        "stack",
        "train_columns",
        "whole",
        "Columns that are binned for a training, those that pay most; 0 for all.",
        least=0,
    ),
    Setting("stack", "train_threads", "whole", "Threads of a training.", least=1),
    Setting("stack", "max_bin", "whole", "Bins of a column in training.", least=2),
    Setting(
        "stack",
        "background",
        "flag",
        "Whether the stream goes on while trees are trained; the results are the same.",
    ),
    Setting("", "member", "entries", "What gives scores from the record."),
    Setting("", "stacker", "entries", "Linear learners over the members' scores."),
    Setting(
        "labels",
        "labels",
        "list",
        "Files with labels that come later, by id and time; a click a row, or --label.",
        ("--labels",),
        "FILE",
    ),
    Setting(
        "labels",
        "window",
        "duration",
        "Time a click may come after its record (30s, 30m, 6h, 2d); then it is learned as none.",
        ("--window",),
        "TIME",
    ),
    Setting(
        "labels",
        "learn_at",
        "text",
        "{}: learn a click when its window ends, as non-clicks are, or when it comes.",
        ("--learn-at",),
        "NAME",
        choices=("window", "click"),
    ),
    Setting(
        "labels",
        "correct_late",
        "duration",
        "Time behind the window in which a click still corrects what was learned.",
        ("--correct-late",),
        "TIME",
    ),
    Setting(
        "labels",
        "most_pending",
        "whole",
        "Most records that wait for labels; the oldest is let go.",
        ("--most-pending",),
        "N",
        1,
    ),
    Setting(
        "labels",
        "negatives",
        "number",
        "Share of the non-clicks that are learned, with as much more weight.",
        ("--negatives",),
        "X",
        0,
    ),
    Setting(
        "consume",
        "brokers",
        "text",
        "Kafka brokers, host:port with commas between, or a redis:// address.",
        ("--brokers",),
        "HOSTS",
    ),
    Setting("consume", "topic", "text", "Topic of the records.", ("--topic",), "NAME"),
    Setting(
        "consume",
        "labels_topic",
        "text",
        "Topic of their labels; without one records bring them (--label).",
        ("--labels-topic",),
        "NAME",
    ),
    Setting(
        "consume",
        "predictions_topic",
        "text",
        "Topic that predictions go to, at least once, under topic/partition/offset of the record.",
        ("--predictions-topic",),
        "NAME",
    ),
    Setting(
        "consume",
        "group",
        "text",
        "Name under which the broker shows where the consumer stands.",
        ("--group",),
        "NAME",
    ),
    Setting(
        "consume",
        "message_format",
        "text",
        "{}: behind the five bytes of a schema registry.",
        ("--format",),
        "NAME",
        choices=("json", "arrow", "avro", "avro-framed"),
    ),
    Setting(
        "consume",
        "avro_schema",
        "text",
        "Schema of Avro values that do not hold it.",
        ("--avro-schema",),
        "FILE",
    ),
    Setting(
        "consume",
        "broker_options",
        "list",
        "Settings of the Kafka client, as librdkafka names them.",
        ("--broker-option",),
        "K=V",
    ),
    Setting(
        "consume",
        "idle",
        "duration",
        "How long a log that was read to its end is waited for.",
        ("--idle",),
        "TIME",
    ),
    Setting(
        "consume",
        "drain",
        "flag",
        "Stop when all logs were read to their end.",
        ("--drain",),
    ),
    Setting(
        "consume",
        "snapshot",
        "text",
        "Folder of snapshots, to go on from and to write to.",
        ("--snapshot",),
        "DIR",
    ),
    Setting(
        "consume",
        "snapshot_every",
        "whole",
        "Messages between two snapshots.",
        ("--snapshot-every",),
        "N",
        1,
    ),
    Setting(
        "consume",
        "snapshot_time",
        "duration",
        "Time between two snapshots, if that is sooner.",
        ("--snapshot-time",),
        "TIME",
    ),
    Setting("consume", "keep", "whole", "Snapshots that are kept.", ("--keep",), "N", 1),
    Setting("run", "load", "text", "Go on learning from a model.", ("--load", "-i"), "FILE"),
    Setting(
        "run",
        "resume",
        "text",
        "Go on behind the last record learned, as if never stopped; sources, settings and outputs "
        "left out are those of the snapshot.",
        ("--resume",),
        "FILE",
    ),
    Setting("run", "save", "text", "Save the model at the end.", ("--save", "-f"), "FILE"),
    Setting(
        "run",
        "save_every",
        "whole",
        "Save it after every so many records too.",
        ("--save-every",),
        "N",
        1,
    ),
    Setting(
        "run",
        "predictions",
        "text",
        "Write row, id, label and prediction to a .csv, .parquet or .jsonl file, or - for CSV on "
        "stdout.",
        ("--predictions", "-p"),
        "FILE",
    ),
    Setting(
        "run",
        "rejects",
        "text",
        "Write records that cannot be read here, with a reason.",
        ("--rejects",),
        "FILE",
    ),
    Setting(
        "run",
        "max_bad_rows",
        "whole",
        "Stop with exit code 3 when more records are rejected.",
        ("--max-bad-rows",),
        "N",
        0,
    ),
    Setting(
        "run",
        "limit",
        "whole",
        "Stop after N records, those before a resume counted.",
        ("--limit",),
        "N",
        0,
    ),
    Setting(
        "run",
        "report",
        "text",
        "Write a page about the run here: HTML that needs no network.",
        ("--report",),
        "FILE",
    ),
    Setting(
        "run",
        "slice_by",
        "list",
        "Tell in the report, or with --json, how the values of these columns were predicted.",
        ("--slice-by",),
        "A,B",
    ),
    Setting(
        "run",
        "dashboard",
        "flag",
        "Show that page while the run goes on, to this machine only.",
        ("--dashboard",),
    ),
    Setting(
        "run",
        "port",
        "whole",
        "Port of the dashboard; 0 for any free one.",
        ("--port",),
        "N",
        0,
    ),
    Setting(
        "log",
        "track",
        "list",
        "Send figures to tensorboard:DIR, mlflow:EXPERIMENT or prometheus:PORT; may be repeated.",
        ("--track",),
        "WHERE",
    ),
    Setting("log", "json", "flag", "One JSON object a line on stdout.", ("--json",)),
    Setting("log", "quiet", "flag", "Only errors on stderr.", ("--quiet",)),
    Setting("log", "verbose", "whole", "Say more; -vv also shows tracebacks.", ("-v",), None, 0),
]

SETTINGS: dict[str, Setting] = {row.key: row for row in _ROWS}
"""Every setting by its key, in the order of the printed configuration."""
