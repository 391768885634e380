"""How the candidate stands to the promoted version on the same test rows: better, not worse, worse, or cannot tell.

Test rows from a bad file say nothing good of either version. So a candidate must not be shown to be worse on the rows
that the promoted version was tested on, whatever it shows on its own.
"""

from __future__ import annotations

from llmos.abi.gate import AS_GOOD, BETTER, BETTER_OR_WIDER, NO_COMPARISON, Requirement
from llmos.evaluation.conditions.condition import Checked, GateFacts, Incumbent
from llmos.evaluation.statistics.comparison import Comparison, Standing

LEAST_P = 0.0005


def check(requirement: Requirement, facts: GateFacts) -> Checked:
    """`at-least-as-good` goes by the numbers themselves where nothing can be told; the others by what is shown.

    New labels are a reason to promote a version whose numbers are no lower, though it is not shown to be better.
    """
    incumbent = facts.incumbent
    if incumbent is None:
        return Checked(True, "no version was promoted before", standing="first")
    if incumbent.comparison is None:
        why = incumbent.note or f"it does another task, {incumbent.task} and not {facts.task}"
        is_met = requirement.kind == NO_COMPARISON
        return Checked(is_met, f"{incumbent.ref} cannot be compared with it: {why}", standing="not comparable")
    found, standing = incumbent.comparison, incumbent.comparison.standing(facts.margin)
    is_strict = requirement.kind in (BETTER, BETTER_OR_WIDER)
    is_shown = standing is Standing.BETTER or (standing is Standing.NOT_WORSE and not is_strict)
    is_wider = requirement.kind == BETTER_OR_WIDER and bool(incumbent.new_labels)
    is_as_good = (requirement.kind == AS_GOOD or is_wider) and found.difference >= 0
    is_lost = incumbent.earlier is not None and incumbent.earlier.standing(facts.margin) is Standing.WORSE
    is_met = ((is_shown or is_as_good) and not is_lost) or requirement.kind == NO_COMPARISON
    said = _sentence(standing, incumbent, facts)
    if is_wider and is_met and not is_shown:
        said += f"; it knows further labels ({len(incumbent.new_labels)}), such as {incumbent.new_labels[0]}"
    if requirement.kind == AS_GOOD and standing is Standing.CANNOT_TELL:
        said += ", and it is at least as good on these" if is_as_good else ", and it is not as good on these"
    said += _on_earlier_rows(incumbent, facts)
    if is_lost:
        assert incumbent.earlier is not None
        found, standing = incumbent.earlier, Standing.WORSE
    return Checked(
        is_met,
        said,
        found.difference,
        found.low,
        found.high,
        standing,
        p=found.p_worse if found.difference < 0 else found.p_better,
        more_rows=found.more_rows(facts.margin) if standing is Standing.CANNOT_TELL else None,
    )


def _sentence(standing: Standing, incumbent: Incumbent, facts: GateFacts) -> str:
    found = incumbent.comparison
    assert found is not None
    note = f" ({incumbent.note})" if incumbent.note else ""
    said = f"{_word(standing, facts.margin)} than {incumbent.ref} with {found.theirs:.4f}{note}: {_difference(found)}"
    if incumbent.ours is not None:
        said += f", {found.ours:.4f} on those that the promoted version has not learned from"
    return f"{said}; {_way_out(found, facts)}" if standing is Standing.CANNOT_TELL else said


def _on_earlier_rows(incumbent: Incumbent, facts: GateFacts) -> str:
    """How it stands on the rows that the promoted version was tested on, or why that is not known."""
    found = incumbent.earlier
    if found is None:
        why = incumbent.earlier_note
        return f"; not compared on the rows that {incumbent.ref} was tested on: {why}" if why else ""
    note = f", {incumbent.earlier_note}" if incumbent.earlier_note else ""
    standing = found.standing(facts.margin)
    figures = f"{found.ours:.4f} against {found.theirs:.4f}, {_difference(found)}"
    said = (
        f"; on {found.rows:,} rows that {incumbent.ref} was tested on{note}: {_word(standing, facts.margin)}, {figures}"
    )
    if standing is not Standing.WORSE:
        return said
    return f"{said}. Look at the new rows; if the earlier ones no longer hold, promote it by hand: llmos promote"


def _word(standing: Standing, margin: float) -> str:
    if standing is Standing.NOT_WORSE:
        return f"not worse by {margin:g} or more"
    return "cannot tell whether better or worse" if standing is Standing.CANNOT_TELL else str(standing)


def _difference(found: Comparison) -> str:
    p = found.p_worse if found.difference < 0 else found.p_better
    least = f"p < {LEAST_P:g}" if p < LEAST_P else f"p {p:.3f}"
    return f"{found.difference:+.4f} (from {found.low:+.4f} to {found.high:+.4f}, {least}, {found.method})"


def _way_out(found: Comparison, facts: GateFacts) -> str:
    more = found.more_rows(facts.margin)
    if more is None:
        return "they differ in too little for any number of rows to tell"
    return f"about {more:,} more test rows would tell"
