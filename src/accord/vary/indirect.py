"""Direct questions, and the same in the order of a statement: `where I can park`.

Only where the order is certain without a parser: after I or we, in short "what is X" and in
"what does X mean".
"""

import re

from accord.vary.guards import words

_ARTICLE = r"(?:the|a|an|my|our|your|this|that|these|those|there|it|they|he|she|i|we|you)"
_AUX = r"(?:do|does|did|can|could|should|would|will|must|may|might|is|are|am|was|were|has|have)"
_INVERTED = re.compile(
    rf"(?:what|where|when|which|who|whom|whose|why|how)\b(?!\s+(?:i|we|you|it|they)\b)"
    rf"(?:\s+[\w'-]+){{0,3}}?\s+{_AUX}"
    rf"(?:n['\u2019]t)?\s+{_ARTICLE}\b|what\s+(?:do|does|did|is|are)\b(?!\s+(?:required|needed|going))",
    re.I,
)
_LATE = re.compile(rf"(?:if|when)\b.*,\s*{_AUX}\s+(?!you\b){_ARTICLE}\b", re.I)
_WH = re.compile(r"(?:what|where|when|which|who|whom|whose|why|how)(?:['\u2019]s)?\s", re.I)
_ASKED = re.compile(
    rf"(?:what|where|which|who|whom|whose|why|how)(?:['\u2019]s|(?:\s+[\w'/-]+){{0,4}}?\s+{_AUX})\b"
    rf"|when\s+{_AUX}\b",
    re.I,
)
_GREETING = re.compile(
    r"(?:how\s+(?:are|is|do|you)\s+(?:you|it|things|doing)|what['\u2019]?s\s+up|how\s+you\s)\b",
    re.I,
)
_PERSON = re.compile(
    r"(?P<wh>(?:what|which|whose|how\s+(?:many|much|long|often|far|soon))(?:\s+[a-z][\w/-]*){0,3}?"
    r"|where|when|why|who|whom)\s+"
    r"(?P<aux>do|can|could|should|would|will|must|may|might|am|are)\s+(?P<who>i|we)\s+(?P<rest>.+)",
    re.I | re.S,
)
_WHAT_IS = re.compile(
    r"(?P<wh>what(?:\s+exactly)?|who|where|when|how\s+(?:long|much|far|big|old|accurate|precise))"
    r"\s+(?P<be>is|are)\s+(?P<np>[^,;:?]+)",
    re.I,
)
# "what does the pump do": one word after the subject, and that a verb.
_DOES = re.compile(
    r"(?P<wh>what|how|when)\s+does\s+(?P<np>\S+(?:\s+\S+){0,4})\s+"
    r"(?P<verb>mean|do|work|provide|offer|include|cover|contain|start|open|close|end)",
    re.I,
)
# Already in the order of a statement: "what happens if", "who can apply", "why the lamp is off".
_ORDERED = re.compile(
    rf"why\s+(?!{_AUX}\b|{_AUX}n['\u2019]t\b|not\b|bother\b)\S+\s+\S.*"
    r"|(?:what|where|when|who|how)\s+(?:i|we)\s+(?:can|could|should|must|need|have)\b.*"
    r"|what\s+(?:happens|happened|causes|caused|follows|changes|changed|(?:can|could|may|might|would)"
    r"\s+(?:cause|happen|go)|goes|went)\b.*"
    r"|who\s+(?:qualifies|pays|gets|needs|decides|is\s+(?:eligible|allowed|responsible|able|in\s+charge)|"
    r"(?:can|may|could|should|must|will)\s+(?:apply|get|use|receive|help|be|see|access|have|make|"
    r"file|request|attend|join|pay|qualify|take|provide|give|tell|answer|sign|change|edit|read))\b.*",
    re.I | re.S,
)
_LONGEST = 8  # words of a noun phrase; after a longer one the verb comes too late
# After a dropped "do" these read well as they are: "what I need", "how much I pay".
_PLAIN = words("need have get owe receive pay qualify want")
_NO_NAME = words(
    "it this that these those there they i we you he she who which to if when where why how not "
    "and/or required needed wrong going new better best like about different equal next missing "
    "possible necessary available free due is are was were do does did can will has have had "
    "happens mean means for with in on of at from by as"
)


def is_inverted(text: str) -> bool:
    """Whether an embedded clause is in the order of a question: "... know what does X mean"."""
    return bool(_INVERTED.match(text) or _LATE.match(text))


def is_direct(body: str, stop: str) -> bool:
    """Whether a clause is a question with a question word, and not a greeting or a heading."""
    if len(body.split()) < 3 or _GREETING.match(body) or not _WH.match(body):
        return False
    return "?" in stop or bool(_ASKED.match(body))


def embedded(body: str) -> str | None:
    """The question in the order of a statement, or None where that is not certain."""
    text = body.strip()
    if _ORDERED.fullmatch(text):
        return text[:1].lower() + text[1:]
    person = _PERSON.fullmatch(text)
    if person:
        return _after_person(person)
    does = _DOES.fullmatch(text)
    if does and not re.search(r"\b(?:and|or|who|which|that|to)\b", does["np"], re.I):
        ending = "es" if does["verb"].lower() == "do" else "s"
        return f"{does['wh'].lower()} {does['np']} {does['verb']}{ending}"
    thing = _WHAT_IS.fullmatch(text)
    if thing is None or not _is_name(thing["np"]):
        return None
    return f"{thing['wh'].lower()} {thing['np']} {thing['be'].lower()}"


def _after_person(person: re.Match[str]) -> str | None:
    wh, aux, who, rest = person["wh"], person["aux"].lower(), person["who"], person["rest"]
    if {"am": "i", "are": "we"}.get(aux, who.lower()) != who.lower():
        return None
    verb = rest.split()[0].lower()
    if aux == "do" and not (verb in _PLAIN or wh.lower() == "why"):
        return None
    middle = "" if aux == "do" else f"{aux} "
    return f"{wh[0].lower()}{wh[1:]} {who} {middle}{rest}"


def _is_name(phrase: str) -> bool:
    """Whether "what is" is followed by a short noun phrase and by nothing else."""
    inside = phrase.split()
    if (
        not 1 <= len(inside) <= _LONGEST
        or inside[0].lower() in _NO_NAME
        or inside[-1].lower() in _NO_NAME
    ):
        return False
    if inside[-1].lower().endswith("ly"):
        return False  # "what is A exactly"
    verbal = (word for word in inside if re.search(r"(?:ed|ing)$", word) and len(word) > 4)
    small = words("who which that if when where why how to is are was were do does did can will")
    return next(verbal, None) is None and not any(word.lower() in small for word in inside)
