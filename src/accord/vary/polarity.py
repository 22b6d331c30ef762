"""What turns a question around in English: negations, opposites, and the roles of two things.

Encoders rate "enable" and "disable", or "from A to B" and "from B to A", as nearly the same. The
lists are short; docs/results/semantic.md tells what they miss.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from accord.vary.guards import words

_WORD = re.compile(r"\w+(?:['\u2019.]\w+)*")
# don't, and as people type it: dont, don t
_SHORT_NOT = re.compile(
    r"\b(do|does|did|ca|wo|is|are|was|were|could|would|should|has|have|had)n['\u2019 ]?t\b", re.I
)
_NOT = words("not no never none nobody nothing nowhere neither nor without cannot non")
_DENYING = words(
    "unable fail fails failed failing failure avoid avoids avoiding prevent prevents preventing "
    "prevented impossible except excluding unless refuse refuses refused lack lacks lacking "
    "ineligible invalid unavailable illegal unnecessary unsafe incorrect inactive incomplete "
    "unsupported"
)
# Words that may stand for a negation: with one of these a text is not said to be free of it.
_PERHAPS = words(
    "problem problems error errors trouble broken wrong issue issues missing lost absent instead "
    "rather only denied rejected reject forbidden prohibited blocked away rid hard difficult "
    "difficulty expired free disabled empty closed minus besides stop stops stopped stopping skip "
    "skipping"
)
_IDIOM = re.compile(
    r"\b(?:whether\s+)?or\s+not\b|\bnot\s+(?:only|just|merely)\b|\bwhy\s+not\b|\bif\s+not(?=\s*(?:[,.?]|$))"
    r"|\bno\s+(?:longer\s+than|matter|problem|doubt)\b|\bno\.\s*(?=\d)"
    r"|[,;]\s*(?:is|are|do|does|did|can|was|were|wo)n['\u2019]t\s+(?:it|they|you|i|we|he|she)\b",
    re.I,
)

# Words of which a query means one: with others of its row it asks something else.
_ROWS = tuple(
    tuple(words(entry.replace("/", " ")) for entry in row.split())
    for row in (
        "enable/enables/enabled/enabling disable/disables/disabled/disabling",
        "activate/activated/activating/activation deactivate/deactivated/deactivating/deactivation",
        "install/installed/installing/installation uninstall/uninstalled/uninstalling",
        "mount/mounting/mounted unmount/unmounting/unmounted umount",
        "subscribe/subscribed/subscribing unsubscribe/unsubscribed/unsubscribing",
        "connect/connected/connecting disconnect/disconnected/disconnecting",
        "encrypt/encrypted/encryption/encrypting decrypt/decrypted/decryption/decrypting",
        "lock/locked/locking unlock/unlocked/unlocking",
        "import/imports/imported/importing export/exports/exported/exporting",
        "upload/uploads/uploaded/uploading download/downloads/downloaded/downloading",
        "upgrade/upgrades/upgraded/upgrading downgrade/downgrades/downgraded/downgrading",
        "start/starts/started/starting stop/stops/stopped/stopping",
        "login signin logout logoff signout",
        "buy/buys/buying/bought sell/sells/selling/sold",
        "borrow/borrowing/borrowed lend/lending/lent",
        "deposit/deposits withdraw/withdrawal/withdrawals",
        "credit debit",
        "increase/increases/increased/increasing/raise decrease/decreases/decreased/decreasing/"
        "reduce/reduces/reduced/reducing/lower",
        "maximum/max/most/highest/largest/biggest/longest/tallest "
        "minimum/min/least/lowest/smallest/shortest",
        "more/greater/longer/larger/higher/bigger less/fewer/shorter/smaller",
        "oldest/earliest newest/latest/youngest",
        "add/adds/adding/added remove/removes/removing/removed/delete/deletes/deleting/deleted",
        "create/creates/creating/created delete/deletes/deleting/deleted",
        "show/shows/showing hide/hides/hiding/hidden",
        "accept/accepts/accepted reject/rejects/rejected decline/declines/declined",
        "before after during",
        "above below",
        "inside outside",
        "with without",
        "left right",
        "north south east west",
        "northern southern eastern western",
        "always never",
        "all none",
        "public private",
        "input/inputs output/outputs",
        "male female",
        "men/man women/woman",
        "boys/boy girls/girl",
        "husband wife",
        "father mother",
        "brother sister",
        "son/sons daughter/daughters",
        "employer/employers employee/employees",
        "landlord tenant",
        "tenant owner",
        "buyer seller",
        "born/birth died/death/die",
        "win/wins/won lose/loses",
        "arrival/arrive/arrives/arrived departure/depart/departs/departed",
        "temporary permanent",
        "expire/expires/expired renew/renewal/renewed",
        "single married divorced widowed",
        "mandatory/required/compulsory optional",
        "first/1st second/2nd third/3rd fourth/4th fifth/5th sixth/6th last/final",
        "monday tuesday wednesday thursday friday saturday sunday",
        "january february march april june july august september october november december",
        "hourly daily weekly monthly quarterly yearly/annual/annually",
        "spring summer autumn/fall winter",
        "morning afternoon evening night",
        "red green blue yellow black white",
        "today tomorrow yesterday",
    )
)
_PLACES: dict[str, tuple[tuple[int, int], ...]] = {}
for _number, _row in enumerate(_ROWS):
    for _side, _entry in enumerate(_row):
        for _word in _entry:
            _PLACES[_word] = (*_PLACES.get(_word, ()), (_number, _side))
_PHRASES = re.compile(
    r"\b(?:log(?:ging|ged|s)?|sign(?:ing|ed|s)?)[\s-]+(?P<in>in|on|into)\b"
    r"|\b(?:log(?:ging|ged|s)?|sign(?:ing|ed|s)?)[\s-]+(?:out|off)\b",
    re.I,
)
_TURNS = (("turn", "on", "off"), ("switch", "on", "off"))

# What these words stand before must not change places: from A to B, A before B, not A but B.
_ROLES = words("from to into than before after not without")
_NO_ROLE = words(
    "how way ways steps step want wants like need needs able have has possible trying try going "
    "allowed supposed used order used best required necessary"
)
_PASSED = words(
    "a an the my our your his her its their this that these those any some all be been being is "
    "are was were have has had do does did i we you it they there very really get got"
)


def polarity_differs(query: str, candidate: str) -> str | None:
    """The negation, opposite or exchange that parts two English texts, or None; symmetric."""
    ours, theirs = _read(query), _read(candidate)
    if reason := _negations_differ(ours, theirs):
        return reason
    if ("only" in ours) != ("only" in theirs):
        return "a restriction is lost or added: only"
    if apart := _opposites(ours, theirs):
        return f"opposites: {apart}"
    if exchanged := _exchanged(ours, theirs):
        return f"exchanged: {exchanged}"
    return None


@lru_cache(maxsize=8192)
def _read(text: str) -> tuple[str, ...]:
    text = _PHRASES.sub(lambda m: " login " if m["in"] else " logout ", text)
    text = _SHORT_NOT.sub(r"\1 not", _IDIOM.sub(" ", text)).casefold().replace("\u2019", "'")
    return tuple(found.partition("'")[0] for found in _WORD.findall(text))


def _negations_differ(ours: Sequence[str], theirs: Sequence[str]) -> str | None:
    counts = [sum(word in _NOT or word in _DENYING for word in own) for own in (ours, theirs)]
    if counts[0] % 2 == counts[1] % 2:
        return None
    fewer, more = (ours, theirs) if counts[0] < counts[1] else (theirs, ours)
    if any(word in _PERHAPS and word not in more for word in fewer):
        return None
    return "a negation is lost or added"


def _opposites(ours: Sequence[str], theirs: Sequence[str]) -> str | None:
    """Two words of one row, each on one side only."""
    a, b = _sides(ours), _sides(theirs)
    for row in sorted(a.keys() & b.keys()):
        if a[row].keys().isdisjoint(b[row]):
            return " / ".join(sorted([min(a[row].values()), min(b[row].values())]))
    return _turned(ours, theirs)


def _sides(tokens: Sequence[str]) -> dict[int, dict[int, str]]:
    """The rows that a text has words of, and of each the sides with one of their words."""
    found: dict[int, dict[int, str]] = {}
    for word in tokens:
        for row, side in _PLACES.get(word, ()):
            found.setdefault(row, {}).setdefault(side, word)
    return found


def _turned(ours: Sequence[str], theirs: Sequence[str]) -> str | None:
    """turn on / turn off, with what is turned between the two words or after them."""
    for verb, on, off in _TURNS:
        sides = [{w for w in (on, off) if _follows(own, verb, w)} for own in (ours, theirs)]
        if all(sides) and sides[0].isdisjoint(sides[1]):
            return f"{verb} {on} / {verb} {off}"
    return None


def _follows(tokens: Sequence[str], verb: str, particle: str) -> bool:
    starts = [i for i, word in enumerate(tokens) if word.startswith(verb)]
    return any(particle in tokens[i + 1 : i + 6] for i in starts)


def _exchanged(ours: Sequence[str], theirs: Sequence[str]) -> str | None:
    """Two words that stand in one role, one in each text, though both texts have both words."""
    both = set(ours) & set(theirs)
    a, b = _in_roles(ours), _in_roles(theirs)
    for role in sorted(a.keys() & b.keys()):
        # What follows closely counts as there: "to the Punjab region", "to the region of Punjab".
        one = (a[role].nearest - b[role].near) & both
        other = (b[role].nearest - a[role].near) & both
        if one and other:
            return f"{role} {min(one)} / {role} {min(other)}"
    return None


class _Role(NamedTuple):
    nearest: set[str]
    near: set[str]


def _in_roles(tokens: Sequence[str]) -> dict[str, _Role]:
    found: dict[str, _Role] = {}
    for at, word in enumerate(tokens):
        if word not in _ROLES or (word == "to" and at and tokens[at - 1] in _NO_ROLE):
            continue
        rest = [w for w in tokens[at + 1 : at + 6] if w not in _PASSED]
        role = found.setdefault("to" if word == "into" else word, _Role(set(), set()))
        role.nearest.update(rest[:1])
        role.near.update(rest)
    return found
