"""What a shell may complete: names that a setting can have, and columns of the sources."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from onlinestack.settings import Setting

__all__ = ["columns_of", "completer"]


def completer(setting: Setting) -> Callable[[Any, str], list[str]] | None:
    """Return what completes the value of a setting's option; None leaves it to the shell.

    What it gives is sifted by what has been typed.

    Parameters
    ----------
    setting
        The setting.

    Examples
    --------
    >>> from onlinestack.settings import SETTINGS
    >>> completer(SETTINGS["combiners"])(None, "best,")
    ['best,arithmetic', 'best,majority', 'best,weighted', 'best,rank', 'best,best', 'best,all']
    """
    columns = setting.metavar in ("A", "A,B") and setting.key != "columns"
    if not setting.choices and not columns:
        return None

    def complete(ctx: Any, incomplete: str) -> list[str]:
        before = incomplete.rpartition(",")[0] + "," if "," in incomplete else ""
        return [before + name for name in setting.choices or _columns(ctx)]

    return complete


def _columns(ctx: Any) -> list[str]:
    """Return the columns of the first source that a half-written command line names."""
    # Where an option has no value yet, the words before it were not taken for sources.
    for path in [*(ctx.params.get("paths") or ()), *ctx.args]:
        names = columns_of(path)
        if names:
            return names
    return []


def columns_of(path: str) -> list[str]:
    r"""Return the columns of a file as its beginning tells them; none where that is not plain.

    It reads no more than the header or the first record, in a tenth of a second.

    Parameters
    ----------
    path
        A file; its name tells the format.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "log.csv")
    >>> _ = path.write_text("click,site\n1,a\n")
    >>> columns_of(str(path)), columns_of("absent.csv")
    (['click', 'site'], [])
    """
    suffix = Path(path.removesuffix(".gz").removesuffix(".zst")).suffix.lower()
    try:
        if suffix == ".parquet":
            import pyarrow.parquet as pq

            return list(pq.read_schema(path).names)
        if suffix not in (".csv", ".tsv", ".jsonl"):
            return []
        import orjson
        import pyarrow as pa

        with pa.input_stream(path) as stream:
            first = stream.read(1 << 16).decode(errors="replace").partition("\n")[0]
        if suffix == ".jsonl":
            return list(orjson.loads(first))
    except (OSError, ValueError):
        return []
    return next(csv.reader([first], delimiter="\t" if suffix == ".tsv" else ","), [])
