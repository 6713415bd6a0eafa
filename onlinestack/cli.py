"""The command line: options in, one library verb called, one exit code out.

Options are made from the table of settings in `config`; nothing heavy is imported before a
command runs, so that ``--help`` is fast.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from onlinestack.completion import completer
from onlinestack.config import SHARED, Config, ConfigError
from onlinestack.settings import SETTINGS, Setting

__all__ = ["app", "main"]

FAILURE = 1
SLOT = 16
"""Bytes of a slot of weights, of which there are 2 to the power of the bits."""
LARGE_TABLES = range(20, 26)
"""Bits of tables that take a moment to make; larger ones are made as they are used."""
CODES = {
    "ConfigError": 2,
    "SchemaError": 2,
    "OptionError": 2,
    "BadRowsError": 3,
    "ReportError": 2,
    "SnapshotError": 4,
}
"""Exit codes by name of the error, so that none of their slow modules is imported for it."""

PANELS = {
    "source": "Records",
    "schema": "Records",
    "labels": "Labels that come later",
    "consume": "Broker",
    "": "Learner",
    "learner": "Linear learner (--preset linear)",
    "stack": "Learner",
    "run": "Models, predictions and limits",
    **dict.fromkeys(("report", "slice_by", "dashboard", "port", "track"), "Pages and trackers"),
    "log": "Settings and output",
}
"""Panel of the help for each table of settings, or for a setting of its own, in their order."""

TYPES: dict[str, Any] = {
    "text": str,
    "list": list[str],
    "whole": int,
    "number": float,
    "flag": bool,
    "duration": str,
}

LEARNING, SETTING, VOWPAL = "Learn and predict", "Look and set up", "Vowpal Wabbit"
"""Panels of the commands."""

EPILOG = (
    "Every setting is also read from the environment (ONLINESTACK_BITS=24) and from a TOML file "
    "(--config); onlinestack help toml tells all of them. Exit codes: 0 done, 1 failure, 2 usage "
    "or configuration, 3 more bad rows than allowed, 4 snapshot does not fit, 130 or 143 stopped "
    "by a signal."
)

HELP = """Learn clicks from a log, record by record: predict, score, then learn.

[bold]Examples[/bold]

onlinestack learn clicks.parquet --label click --time time --id id -f model

onlinestack predict new.parquet -i model -p predictions.csv

onlinestack help train_every
"""

app = typer.Typer(
    name="onlinestack",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help=HELP,
)


def _topic(setting: Setting) -> str:
    """Return whose panel shows a setting: what all presets have is not for one."""
    if setting.key in SHARED:
        return ""
    return setting.key if setting.key in PANELS else setting.table


def _parameter(setting: Setting) -> inspect.Parameter:
    """Return a setting as a parameter that typer turns into an option."""
    panel = PANELS[_topic(setting)]
    more: dict[str, Any] = {"count": True} if setting.key == "verbose" else {}
    option = typer.Option(
        *setting.options,
        help=setting.meaning,
        rich_help_panel=panel,
        metavar=setting.metavar,
        show_default=False,
        autocompletion=completer(setting),
        **more,
    )
    kind: Any = TYPES[setting.type] | None
    return _keyword(setting.key, Annotated[kind, option])


def _keyword(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def _extra(leave: Iterable[str]) -> Iterable[inspect.Parameter]:
    """Yield the parameters that are no plain setting."""
    source = typer.Argument(
        help="Files, read in order, or - for standard input.",
        metavar="SOURCE",
        show_default=False,
    )
    if "source" not in leave:
        yield _keyword("paths", Annotated[list[str] | None, source])
    config = typer.Option(
        "--config",
        help="TOML file with any of these settings.",
        metavar="FILE",
        rich_help_panel=PANELS["log"],
        show_default=False,
    )
    yield _keyword("config", Annotated[str | None, config])
    if "learner" in leave:
        return
    for name, flags, metavar, text in (
        ("quadratic", ("--quadratic", "-q"), "AB", "Pairs of two namespaces; may be repeated."),
        ("cubic", ("--cubic",), "ABC", "Triples of three namespaces; may be repeated."),
        ("combined", ("--interactions",), "AB...", "Any of them; may be repeated."),
    ):
        option = typer.Option(
            *flags,
            help=text,
            metavar=metavar,
            rich_help_panel=PANELS["learner"],
            show_default=False,
        )
        yield _keyword(name, Annotated[list[str] | None, option])


def _command(
    *leave: str, panel: str = LEARNING
) -> Callable[[Callable[[Config], int]], Callable[[Config], int]]:
    """Register a command that takes all settings but those of some tables or keys.

    A key that is a table's name, too, is left out alone as ``table.key``.
    """

    def register(verb: Callable[[Config], int]) -> Callable[[Config], int]:
        @functools.wraps(verb)
        def command(**options: Any) -> None:
            raise typer.Exit(_guarded(verb, options))

        parameters = [
            *(
                _parameter(row)
                for row in sorted(SETTINGS.values(), key=lambda row: [*PANELS].index(_topic(row)))
                if row.options
                and not {row.table, row.key, f"{row.table}.{row.key}"}.intersection(leave)
            ),
            *_extra(leave),
        ]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {}
        app.command(epilog=EPILOG, rich_help_panel=panel)(command)
        return verb

    return register


def _commands(context: typer.Context) -> list[str]:
    """Return the names of all commands."""
    return list(context.find_root().command.commands)  # type: ignore[attr-defined]


def _known_words(ctx: typer.Context) -> list[str]:
    """Return what can be asked for help about."""
    from onlinestack.manual import words

    return [*_commands(ctx), *words()]


def _version(wanted: bool) -> None:
    if wanted:
        from onlinestack import __version__

        typer.echo(f"onlinestack {__version__}")
        raise typer.Exit()


@app.callback()
def _onlinestack(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and leave.", is_eager=True, callback=_version
        ),
    ] = False,
) -> None:
    pass


@_command("consume")
def learn(config: Config) -> int:
    """Predict, score and learn every record of the sources.

    [bold]Examples[/bold]

    onlinestack learn clicks.parquet --label click -f model

    zcat log.csv.gz | onlinestack learn - --format csv --label click -p -
    """
    _need_source(config, "learn")
    _need_one_stdout(config)
    return _run(config, learning=True)


@_command(
    *("consume", "learner", "stack", "labels", "label_time"),
    *("resume", "save", "save_every", "preset", "dashboard", "port"),
)
def predict(config: Config) -> int:
    """Predict every record of the sources with a model, without learning.

    Records that have a label are scored.

    [bold]Examples[/bold]

    onlinestack predict new.csv -i model -p predictions.csv
    """
    _need_source(config, "predict")
    _need_one_stdout(config)
    if not config["load"]:
        raise ConfigError("predict needs a model: add -i FILE, as saved by learn -f FILE")
    return _run(config, learning=False)


@_command("consume", panel=SETTING)
def config(config: Config) -> int:
    """Print the configuration these options make, as TOML that reruns the run.

    With a SOURCE the kinds of its columns are shown as inferred.

    [bold]Examples[/bold]

    onlinestack config clicks.csv --label click > run.toml

    onlinestack learn --config run.toml
    """
    from onlinestack.opening import describe

    with _logging(config, _report(config)):
        typer.echo(describe(config), nl=False)
    return 0


# What is about files, or about a run that ends with its source.
@_command(
    *("source", "labels.labels", "label_time", "load", "resume", "save", "save_every"),
    *("predictions", "max_bad_rows", "limit", "report", "slice_by", "dashboard", "port"),
)
def consume(config: Config) -> int:
    """Predict records from a broker, learn them when their labels come, and go on after any end.

    Where there are snapshots, it goes on from the newest.

    [bold]Examples[/bold]

    onlinestack consume --brokers localhost:9092 --topic shown --labels-topic clicks --id id
    --time time --window 30m --snapshot state --predictions-topic predictions
    """
    from onlinestack.spare import uncollected

    with uncollected():
        from onlinestack.consuming import open_consumer
    report = _tracked(config)
    with _logging(config, report):
        return open_consumer(config, report).run(drain=config["drain"])


@app.command(rich_help_panel=SETTING)
def help(
    context: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[WORD]...",
            help="A command, a setting or table of the TOML file, a kind of expert; toml for all.",
            autocompletion=_known_words,
        ),
    ] = None,
) -> None:
    """Tell what a command, a setting, a TOML table or a kind of expert is.

    [bold]Examples[/bold]

    onlinestack help learn

    onlinestack help train_every

    onlinestack help toml
    """

    def verb() -> int:
        for word in words or ():
            if word in _commands(context):
                app([word, "--help"], prog_name="onlinestack", standalone_mode=False)
            else:
                from onlinestack.manual import explain

                typer.echo(explain(word, also=_commands(context)), nl=False)
        if not words:
            app(["--help"], prog_name="onlinestack", standalone_mode=False)
        return 0

    raise typer.Exit(_told(verb, lambda: 0))


@app.command(
    rich_help_panel=SETTING,
    epilog="Exit codes: 0 done, 1 failure, 2 no file of a run, or no library for the page.",
)
def report(
    run: Annotated[str, typer.Argument(help="JSON lines of learn --json.", metavar="RUN.jsonl")],
    output: Annotated[
        str, typer.Option("--output", "-o", help="Where the page goes.", metavar="FILE")
    ] = "report.html",
) -> None:
    """Make a page about a run: curves, weights, reliability, slices, fields, rejects.

    [bold]Examples[/bold]

    onlinestack learn clicks.parquet --label click --slice-by site --json > run.jsonl

    onlinestack report run.jsonl -o report.html
    """

    def verb() -> int:
        from onlinestack.report.history import read_history
        from onlinestack.report.page import check_libraries, write_page

        check_libraries()
        history, odd = read_history(run)
        write_page(history, output)
        if odd:
            typer.echo(f"onlinestack: {odd}", err=True)
        return 0

    raise typer.Exit(_told(verb, lambda: 0))


@app.command(
    rich_help_panel=VOWPAL,
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def vw(context: typer.Context) -> None:
    """Run Vowpal Wabbit's own command line, to the last digit; vw --help lists its options.

    [bold]Examples[/bold]

    onlinestack vw -d clicks.vw --loss_function logistic -b 24 -f vw.model
    """

    def verb() -> int:
        from onlinestack.vw.driver import run

        return run(context.args)

    raise typer.Exit(_told(verb, lambda: 0))


@app.command("inspect", rich_help_panel=SETTING)
def inspect_model(
    model: Annotated[str, typer.Argument(help="Model to look into.", metavar="MODEL")],
    record: Annotated[
        str | None,
        typer.Option(
            "--explain",
            help="Record, one JSON object, or -: show what its prediction is the sum of.",
            metavar="RECORD.json",
        ),
    ] = None,
    top: Annotated[
        int, typer.Option(help="Most weights or features to show of each member.", min=1)
    ] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="All of it as one JSON object.")] = False,
) -> None:
    """Show what is in a model, or why it predicts what it does for a record.

    [bold]Examples[/bold]

    onlinestack inspect model

    onlinestack inspect model --explain record.json
    """

    def verb() -> int:
        from onlinestack.inspection.overview import inspect
        from onlinestack.inspection.record import read_record
        from onlinestack.shown import explained_lines, model_lines
        from onlinestack.terminal import finite, width_of

        told = inspect(model, top=top, record=None if record is None else read_record(record))
        if as_json:
            import json

            typer.echo(json.dumps(finite(told), allow_nan=False))
            return 0
        width = width_of(sys.stdout)
        if record is None:
            lines = model_lines(model, told, width)
        else:
            lines = explained_lines(told, width, top)
        typer.echo("\n".join(lines))
        return 0

    raise typer.Exit(_told(verb, lambda: 0))


def _guarded(verb: Callable[[Config], int], options: dict[str, Any]) -> int:
    """Run a verb with its options; see `_told`."""
    verbose = [options.get("verbose") or 0]

    def resolved() -> int:
        config = _resolve(options)
        verbose[0] = config["verbose"]
        return verb(config)

    return _told(resolved, lambda: verbose[0])


def _told(verb: Callable[[], int], verbose: Callable[[], int]) -> int:
    """Run a verb; turn whatever goes wrong into one sentence and an exit code."""
    try:
        code = verb()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader of our output has left, as `head` does. Point stdout elsewhere, or the
        # interpreter would complain when it flushes at exit.
        _drop_stdout()
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if verbose() > 1:
            import traceback

            traceback.print_exc()
        text, code = _sentence(error)
        typer.echo(f"onlinestack: {text}", err=True)
        return code


def _sentence(error: Exception) -> tuple[str, int]:
    """Return an error as one sentence, and its exit code."""
    text = " ".join(str(error).split()).rstrip(".")
    for kind in type(error).__mro__:
        if kind.__name__ in CODES:
            return text, CODES[kind.__name__]
    if isinstance(error, OSError):
        if error.filename is not None and error.strerror:
            text = f"{error.filename}: {error.strerror}"
        return text or type(error).__name__, FAILURE
    if isinstance(error, MemoryError):
        return "not enough memory: give fewer --bits, or a stack a smaller window_bytes", FAILURE
    if isinstance(error, ValueError):
        return text, FAILURE
    return f"unexpected {type(error).__name__}: {text} (-vv shows where)", FAILURE


def _drop_stdout() -> None:
    import os

    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        pass


def _resolve(options: dict[str, Any]) -> Config:
    """Merge the options, in the shape typer gives them, with file and environment."""
    file = options.pop("config", None)
    terms: list[str] = []
    for name, flag, least, most in (
        ("quadratic", "-q", 2, 2),
        ("cubic", "--cubic", 3, 3),
        ("combined", "--interactions", 2, 0),
    ):
        for term in options.pop(name, None) or ():
            size = len(term)
            if size < least or (most and size > most):
                wanted = f"{least} letters" if most else "two letters or more"
                raise ConfigError(f"{flag} takes {wanted}, one a namespace, not {term!r}")
            terms.append(term)
    for key, value in options.items():
        setting = SETTINGS[key]
        if setting.type == "list" and key != "paths" and value is not None:
            options[key] = [part.strip() for text in value for part in text.split(",")]
        if setting.type in ("list", "whole") and not value and value != 0:
            options[key] = None
    options["interactions"] = terms or None
    if options.get("verbose") == 0:
        options["verbose"] = None
    return Config.resolve(options, file=file)


def _need_source(config: Config, verb: str) -> None:
    """Take standard input where no source is named, unless somebody sits there."""
    if config["paths"] or config["resume"]:
        return
    if _on_terminal():
        raise ConfigError(f"no SOURCE: name the files to {verb} from, or - to read standard input")
    config.values["paths"] = ["-"]


def _on_terminal() -> bool:
    return sys.stdin is None or sys.stdin.isatty()


def _need_one_stdout(config: Config) -> None:
    users = [f"--{key} -" for key in ("predictions", "rejects") if config[key] == "-"]
    users += ["--json"] if config["json"] else []
    if len(users) > 1:
        raise ConfigError(
            f"{' and '.join(users)} both write to standard output: give one of them a file"
        )


def _run(config: Config, learning: bool) -> int:
    from onlinestack.spare import lay_aside, uncollected

    if (size := _table_of(config)) is not None:
        lay_aside(size)
    with uncollected():
        from onlinestack.run import Run
    report = _tracked(config)
    if not config["report"] and not config["dashboard"]:
        with _logging(config, report):
            return Run(config, report, learning=learning).go()
    from onlinestack.report.page import check_libraries, write_page
    from onlinestack.report.recorder import Recorder

    check_libraries()
    recorder = Recorder(report)
    with _logging(config, recorder), _dashboard(config, recorder):
        code = Run(config, recorder, learning=learning).go()
    history = recorder.history()
    if config["report"]:
        if history is None:
            raise ConfigError(f"--report {config['report']}: no record was read, so it has no page")
        write_page(history, config["report"])
    return code


def _table_of(config: Config) -> int | None:
    """Return the bytes of the table of weights that a run begins with, where it is a large one."""
    usual = config["preset"] == "linear" and not (config["update"] or config["load"])
    if usual and not config["resume"] and (config["bits"] or 0) in LARGE_TABLES:
        return SLOT << int(config["bits"])
    return None


@contextmanager
def _dashboard(config: Config, recorder: Any) -> Iterator[None]:
    """Show the page while the run goes on, if that is asked for."""
    if not config["dashboard"]:
        yield
        return
    from onlinestack.report.dashboard import Dashboard

    with Dashboard(recorder, config["port"]) as dashboard:
        recorder.note(f"dashboard at {dashboard.address}")
        yield


def _report(config: Config) -> Any:
    from onlinestack import terminal

    if config["json"]:
        return terminal.JsonReport()
    return terminal.QuietReport() if config["quiet"] else terminal.TableReport()


def _tracked(config: Config) -> Any:
    """Return the report of a run, which feeds trackers too where there are some."""
    if not config["track"]:
        return _report(config)
    from onlinestack.writers import Tracked, open_writer

    return Tracked(_report(config), {told: open_writer(told) for told in config["track"]})


@contextmanager
def _logging(config: Config, report: Any) -> Iterator[None]:
    """Let the report tell what the library logs, so that it does not run into the live line."""
    import logging

    handler = logging.Handler()
    handler.emit = lambda record: report.note(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("onlinestack")
    logger.setLevel(("WARNING", "INFO", "DEBUG")[min(config["verbose"], 2)])
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def main() -> None:
    """Run the command line; the entry point of the ``onlinestack`` program."""
    from onlinestack.spare import absent, one_heap

    one_heap()
    # Arrow's own pool gives memory back so eagerly that a third of a Parquet run went into
    # getting it again.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    # numpy starts a thread a core for matrices, which nothing here multiplies.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    code: Any = 0
    try:
        with absent("pandas", "scipy.linalg"):
            app(prog_name="onlinestack")
    except SystemExit as left:
        code = left.code
    _leave(code)


def _leave(code: Any) -> None:
    """End the process at once: taking compiled code and large arrays apart takes 0.1 s.

    Nothing is lost: every verb closes its files and waits for its threads before it returns.
    """
    if isinstance(code, str):
        sys.exit(code)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or FAILURE
    os._exit(code or 0)


if __name__ == "__main__":
    main()
