"""The question frames, as data: what stands around the thing that is asked for.

A frame is a lead, words before a rest X that stays as it is. The leads of one family ask the same,
so one may stand for another. `lead` is a regular expression for the leads that are recognised at
the start of a sentence, `made` the leads that are written. In `made`, {I}, {me} and {am} stand for
I, me, am or we, us, are, as the source has it, {slot} for what the group `slot` of `lead` found.
`rest` is what X must begin with. A made lead whose first word is in `ASKING` makes a question, any
other one a statement. Regular expressions ignore case.
"""

from typing import NamedTuple

from accord.vary.guards import words

_I = r"(?:i|we)"
_ME = r"(?:me|us)"
_WANT = (
    rf"(?:{_I}(?:\s+(?:just|really|also))?(?:\s+(?:would|wd)|['\u2019]d)\s+(?:really\s+)?like"
    r"|(?:i|we)(?:\s+(?:just|really|also))?\s+(?:want|wanted|wish|need))"
)
_HERE = r"(?:i|we)(?:\s+(?:am|are|was|were)|['\u2019]m|['\u2019]re)?\s+(?:came\s+here|here|trying)"
_KIND = (
    r"(?:can|could|would|will)\s+(?:you|someone|anyone|somebody|anybody)(?:\s+(?:please|kindly))?"
)
_PLEASE = r"(?:please,?\s+|kindly\s+)?"
_WH = r"(?:what|where|when|which|who|whom|whose|why|how|if|whether)\b"

KNOW = (
    rf"{_PLEASE}(?:{_WANT}\s+to\s+(?:know|learn|find\s+out)"
    rf"|{_KIND}\s+(?:tell|inform|show)\s+{_ME}|(?:tell|show)\s+(?:me|us)"
    r"|does\s+(?:anyone|anybody|someone)\s+(?:here\s+)?know|do\s+you\s+know"
    r"|(?:i|we)(?:\s+(?:was|were|am|are)|['\u2019]m|['\u2019]re)\s+(?:just\s+)?wondering"
    r"|(?:i|we)\s+wonder)"
)
"""Regular expression of the leads of an indirect question: `could you tell me`."""

HOW = r"how\s+(?:to|(?:do|can|could|should|would|might|must|shall)\s+(?:i|we|you|one))"
"""Regular expression of the how-to frames themselves."""

STEPS = (
    r"(?:what\s+(?:are|is)|what['\u2019]s)\s+the\s+"
    r"(?:(?:necessary|required|exact)\s+)?(?:steps?|way|process|procedure)\s+to"
    r"|(?:is\s+there|are\s+there)\s+(?:a|any|some)\s+ways?\s+to"
    r"|what\s+(?:steps\s+)?(?:do|must)\s+(?:i|we)\s+(?:(?:need|have)\s+to\s+)?"
    r"(?:do|take)\s+(?:in\s+order\s+)?to"
)
"""Regular expression of the other leads that ask for a procedure."""

ASKING = words("can could would will what which how is are where when who why do does")


class Family(NamedTuple):
    """Leads that ask the same of a rest X."""

    name: str
    lead: str
    made: tuple[str, ...]
    rest: str = r"\S"


# How to X, whatever the lead. `how do {I}` and `how can {I}` take the subject of the source.
PROCEDURE = Family(
    "procedure",
    rf"(?:{KNOW}\s+)?(?:(?:about|on)\s+)?(?:{HOW}|{STEPS})"
    rf"|{KNOW}\s+how\s+(?:i|we|you)\s+(?:can|could|should|must|have\s+to|need\s+to)",
    (
        "how to",
        "how do {I}",
        "how can {I}",
        "what are the steps to",
        "is there a way to",
        "can you tell {me} how to",
        "could you tell {me} how to",
        "{I} would like to know how to",
    ),
    r"[a-z]",
)
WANT_LEAD, WANT_TAIL = "{I} want to", ". How can {I} do that?"
"""The frame of two sentences, `I want to X. How can I do that?`; it asks for a procedure."""
WANT = (
    rf"{_PLEASE}{_WANT}\s+to\s+(?P<X>[a-z][^.?!\n]*?)\s*[.!,]\s*(?:and\s+)?"
    r"(?:how|what)\s+(?:can|do|could|should)\s+(?:i|we)\s+(?:do|go\s+about)\s+(?:that|this|it)"
)

BEST = Family(
    "best way",
    r"(?:what|which)(?:\s+is|\s+would\s+be|['\u2019]s)\s+the\s+(?P<slot>(?:best|easiest|fastest|quickest|simplest|safest|cheapest)\s+way)\s+to",
    (
        "what is the {slot} to",
        "what would be the {slot} to",
        "can you tell {me} the {slot} to",
        "{I} would like to know the {slot} to",
    ),
    r"[a-z]",
)

_THING = (
    r"(?P<slot>(?:(?:some|any|more|further|additional|a\s+little|a\s+bit\s+of)\s+){0,2}"
    r"(?:information|info|details|guidance|advice))"
)
TOPIC = r"(?:about|on|regarding|concerning|related\s+to|related\s+with|of)\b"
INFORMATION = Family(
    "information",
    rf"{_PLEASE}(?:{_WANT}(?:\s+to\s+(?:get|have|request|receive|obtain))?"
    rf"|{_KIND}\s+(?:give|provide|send|show)\s+{_ME}(?:\s+with)?|(?:give|provide|show)\s+(?:me|us)"
    r"|(?:i|we)(?:\s+(?:am|are|was|were)|['\u2019]m|['\u2019]re)\s+(?:just\s+)?looking\s+for"
    rf"|need)\s+{_THING}",
    (
        "{I} need {slot}",
        "{I} would like {slot}",
        "{I} {am} looking for {slot}",
        "can you give {me} {slot}",
        "could you give {me} {slot}",
    ),
    TOPIC,
)
ABOUT = Family(
    "tell about",
    rf"{_PLEASE}(?:(?:{_WANT}|{_HERE})\s+to\s+(?:know|learn)|{_KIND}\s+tell\s+{_ME}|tell\s+(?:me|us))"
    r"(?P<slot>\s+more|\s+a\s+little|\s+something|)\s+about|what\s+can\s+you\s+tell\s+(?:me|us)\s+about",
    (
        "tell {me}{slot} about",
        "can you tell {me}{slot} about",
        "could you tell {me}{slot} about",
        "{I} would like to know{slot} about",
        "{I} want to know{slot} about",
    ),
)
HELP = Family(
    "help",
    rf"{_PLEASE}(?:{_WANT}\s+(?:some\s+|your\s+)?(?:help|assistance)"
    r"|(?:i|we)(?:\s+(?:am|are)|['\u2019]m|['\u2019]re)\s+looking\s+for\s+(?:some\s+)?help"
    rf"|{_KIND}\s+help\s+{_ME}(?:\s+out)?|you\s+can\s+help\s+{_ME}"
    r"|(?:need\s+)?(?:some\s+)?help(?:\s+(?:me|us))?)",
    (
        "{I} need help",
        "{I} need some help",
        "{I} would like help",
        "can you help {me}",
        "could you help {me}",
    ),
    r"with\b",
)
HELP_DOING = Family(
    "help doing",
    rf"{_WANT}\s+(?:some\s+)?help",
    ("{I} need help", "{I} need some help", "{I} would like help", "{I} would like some help"),
    r"(?:about|on|regarding|concerning|to)\b"
    r"|(?:in\s+)?(?!during|something|anything|nothing|everything)[a-z]{2,}ing\b",
)
QUESTIONS = Family(
    "questions",
    r"(?:i|we)(?:\s+have|['\u2019]ve(?:\s+got)?)"
    r"\s+(?P<slot>(?:(?:a|some|several|a\s+few|a\s+couple\s+of)\s+)?questions?)",
    (
        "{I} have {slot}",
        "{I} would like to ask {slot}",
        "can you answer {slot}",
        "could you answer {slot}",
    ),
    r"(?:about|on|regarding|concerning)\b",
)
INDIRECT = Family(
    "indirect question",
    KNOW,
    (
        "can you tell {me}",
        "could you tell {me}",
        "{I} would like to know",
        "{I} want to know",
        "do you know",
    ),
    _WH,
)
REQUEST = Family(
    "request",
    rf"(?:{_PLEASE}{_KIND}|(?:i|we)\s+would\s+like\s+you\s+to|please,?)",
    ("can you", "could you", "would you", "please"),
    r"(?:(?:tell|show|give|help|walk|send|inform|advise|guide|let|provide)\s+(?:me|us)\b"
    r"|(?:explain|describe|clarify)\b)",
)
BARE_REQUEST = Family(
    "bare request",
    r"(?=(?:(?:tell|show|give|walk|help|send)\s+(?:me|us)|explain)\b)",
    ("can you", "could you", "would you"),
    r"(?:(?:tell|show|give|walk|help|send)\s+(?:me|us)|explain)\s+\S",
)
WISH = Family(
    "wish",
    r"(?:(?:i|we)(?P<just>\s+just)?(?:(?:\s+would|['\u2019]d)\s+like|\s+want|\s+wanted))\s+to",
    ("{I} would{just} like to", "{I}{just} want to"),
    r"[a-z]",
)
CANNOT = Family(
    "inability",
    r"(?:(?:(?:i|we)\s+)?(?:cannot|can['\u2019]t|can\s+not)"
    r"|(?:(?:i|we)(?:\s+am|\s+are|['\u2019]m|['\u2019]re)\s+)?(?:unable|not\s+able)\s+to)",
    ("{I} cannot", "{I} {am} unable to", "{I} {am} not able to"),
    r"(?!be\b|wait\b|believe\b|help\b|stand\b|afford\b|even\b|have\b|do\s+(?:it|that|this)\b)[a-z]",
)
ABILITY = Family(
    "ability",
    r"(?:can\s+(?:i|we)|am\s+(?:i)\s+able\s+to|are\s+(?:we)\s+able\s+to"
    r"|is\s+it\s+possible\s+to)",
    ("can {I}", "is it possible to", "can you tell {me} if {I} can"),
    r"[a-z]",
)
"""Yes/no questions, reworded only when asked for: a yes is not an instruction."""

FAMILIES = (
    BEST, INFORMATION, ABOUT, HELP, HELP_DOING, QUESTIONS, INDIRECT, REQUEST, BARE_REQUEST,
    WISH, CANNOT,
)  # fmt: skip

ANNOUNCED = ("{I} have a question: ", "{I} would like to know: ")
"""Put before a direct question that no other frame fits; the question stays as it is."""
ANNOUNCING = (
    rf"(?:{KNOW}|(?:i|we)\s+have\s+(?:a|one)\s+question|(?:i|we)\s+(?:need|want)\s+(?:information|info)\s+about)"
    r"\s*[:,]?\s+"
)
"""Regular expression of what may stand before a direct question."""

REPORTED = ("{I} have a problem: ", "{I} have the following problem: ")
"""Put before a report that something does not work, when nothing is asked."""
REPORT = (
    r"\b(?:errors?|fail(?:s|ed|ing|ures?)?|cannot|can['\u2019`]?t|couldn['\u2019`]t|(?:does|do)n['\u2019`]?t"
    r"|(?:does|do|did|is|are)\s+not|not\s+(?:\w+ing|supported|available)|crash(?:es|ed)?|hangs?|hung"
    r"|aborts?|missing|exception|refused|denied|stopped|unexpected|broken|stuck|reset\w*\s+to)\b"
)
"""Regular expression of the words that make a report of a text without a question."""

TASK = (
    r"(?:(?:install|restore|disable|enable|configure|remove|delete|export|reinstall|uninstall)(?=\s+"
    r"(?:an?|the|my|our|all)\s|\s+(?-i:[A-Z]))|(?:add|create|hide|import|reset|rename|replace|renew"
    r"|change|update|set\s+up|transfer|cancel|download|move)(?=\s+(?:an?|the|my|our|all)\s))"
)
"""Regular expression of the verb of a title that names a task: `Hide a column`."""

EMBEDDED = ("can you tell {me} ", "could you tell {me} ", "{I} would like to know ")
"""Put before a question in the order of a statement: `where I can park`."""
