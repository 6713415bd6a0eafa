"""What Vowpal Wabbit says on stdout about a command line before it begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from onlinestack.linear.interactions import normalise_interactions
from onlinestack.vw.options import Options

__all__ = ["notices"]

_SAVES = (
    "[info] VW 9.0.0 introduced a change to the default model save behavior. Please use "
    "'--predict_only_model' when using either '--invert_hash' or '--readable_model' to get the "
    "old behavior. Details: https://vowpalwabbit.org/link/1"
)
_LEAVE = "You can use --leave_duplicate_interactions to disable this behaviour."


def notices(options: Options, terms: Sequence[bytes]) -> Iterator[str]:
    """Yield the lines that a command line is answered with.

    Parameters
    ----------
    options
        The command line.
    terms
        The interactions it asks for, as written.
    """
    if options["save_resume"]:
        yield (
            "[warning] --save_resume flag is deprecated -- learning can now continue on saved "
            "models by default."
        )
    pace = options["progress"]
    if pace is not None and "." in pace and float(pace) <= 1:
        yield f"[warning] Multiplicative --progress <float> '{pace}' is <= 1.0: adding 1.0"
    elif pace is not None and "." not in pace and int(float(pace)) < 1:
        yield "[warning] Additive --progress <int> can't be < 1: forcing to 1"
    leave = options["leave_duplicate_interactions"]
    if any(b":" in term for term in terms):
        if not leave:
            yield "[info] Any duplicate namespace interactions will be removed"
            yield _LEAVE
    elif terms:
        left = normalise_interactions(terms, leave_duplicates=leave)
        if len(left) < len(terms):
            removed = len(terms) - len(left)
            yield f"[warning] Duplicate namespace interactions were found. Removed: {removed}."
            yield _LEAVE
        changed = sum(1 < len(set(term)) < len(term) for term in left)
        if changed:
            yield (
                "[warning] Some interactions contain duplicate characters and their characters "
                f"order has been changed. Interactions affected: {changed}."
            )
    if options["oaa"] and options["probabilities"] and options["loss_function"] != "logistic":
        yield (
            "[warning] --probabilities should be used only with --loss_function=logistic, "
            f"currently using: {options['loss_function']}"
        )
    for name, others in options.idle():
        yield (
            f"[warning] Option '{name}' depends on another option (or combination of options) "
            "which was not supplied. Possible combinations of options which would enable this "
            "option are:"
        )
        yield from (f"\t{other}" for other in others)
        yield ""
    dumps = options["readable_model"] or options["invert_hash"]
    if dumps and not options["predict_only_model"]:
        yield _SAVES
