"""The question frames of `frames` undone: one lead for all that ask the same.

The patterns read a clause as `canonical` has it by then: lower case, no articles, no plurals, no
"please", `i` for we, `us` for me. Each is tried at the start of a clause or is a fixed phrase, and
none looks further than a few words, so that a text of any length takes linear time.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

_WANT = r"i (?:(?:just|really|also) )?(?:want|wanted|wish|need)"
_HERE = r"i(?: am| was|'m)? (?:came here|here|trying)"
_LOOKING = r"i(?: am| was|'m) (?:just )?looking for"
_SOMEONE = r"(?:you|someone|anyone|somebody|anybody)"
_WH = r"(?:what|where|when|which|who|whom|whose|why|how)(?!\S)"
_MODAL = r"(?:can|could|should|would|will|must|may|might|am)"
_SMALL = r"(?:who|which|that|if|when|where|why|how|to|is|was|do|did|can|will)"
_NO_NAME = (  # what neither begins nor ends the name of a thing
    r"(?:it|this|there|they|i|you|he|she|not|about|different|next|in|on|for|with|of|at|from|by|as)"
)
_PERSON = r"(?:i|you|he|she|it|they|there|this|that|someone|anyone)(?!\S)"
_MANY = (
    r"(?:what|which|whose|how (?:many|much|long|often|far|soon))"
    rf"(?: (?!(?:{_MODAL}|do|did|is|was|have|had|i) )[a-z][\w/-]*){{0,3}}?"
)
_PLAIN = r"(?:need|have|get|owe|receive|pay|qualify|want)(?!\S)"
_TOPIC = r"(?:about|on|regarding|concerning|related|of)(?!\S)"
_SOME = r"(?:some |any |more |further |additional |a little |a bit of ){0,2}"
_SOME_QUESTION = r"(?:some |several |a few |a couple of )?question"
_GIVING = (
    r"(?:(?:tell|show|give|help|walk|send|inform|advise|guide|let|provide) us"
    rf"|explain|describe|clarify|answer {_SOME_QUESTION})(?!\S)"
)
KNOW = (
    rf"(?:{_WANT} to (?:know|learn|find out)|(?:tell|inform|show) us"
    r"|do (?:anyone|anybody|someone)(?: here)? know|do you know"
    r"|i(?: am| was|'m) (?:just )?wondering|i wonder)"
)
"""Regular expression of the leads of an indirect question."""


class _Rule(NamedTuple):
    """A pattern tried at the start of a clause, and what stands in its place."""

    pattern: re.Pattern[str]
    instead: str


def _rules(*pairs: tuple[str, str]) -> tuple[_Rule, ...]:
    return tuple(_Rule(re.compile(pattern), instead) for pattern, instead in pairs)


_OPENER = re.compile(r"(?:(?:[*#>]+|q|yes|yeah|ok|okay|so|also|and|but|then|well|now) )*")
_REQUEST = _rules(
    (r"i( just| really| also)?(?:'d| would| wd)(?: really)? like(?!\S)", r"i\1 want"),
    (rf"(?:(?:can|could|would|will) {_SOMEONE}|you can|i want you to) (?={_GIVING})", ""),
    (r"what can you (?=tell us about )", ""),
)
_INDIRECT = re.compile(rf"{KNOW} (?:(?:about|on) (?=how ))?(?={_WH}|if |whether )")
# The order of a statement ("where I can park") made that of a question. "When I can" may open a
# subordinate clause, and what ends in "is" be a statement: only after a lead as above.
_AFTER_LEAD = _rules(
    (rf"when i ({_MODAL}) ", r"when \1 i "),
    (rf"when i (?={_PLAIN})", "when do i "),
    (r"what (\S+(?: \S+){0,4}) means$", r"what do \1 mean"),
    (
        rf"(what(?: exactly)?|who) (?!{_NO_NAME} )"
        rf"((?:(?!{_SMALL} )\S+ ){{0,5}}?(?!(?:{_NO_NAME}|{_SMALL}) )\S+) is$",
        r"\1 is \2",
    ),
)
_ANYWHERE = _rules(
    (rf"({_MANY}|where|why|who|whom) i ({_MODAL}) ", r"\1 \2 i "),
    (rf"({_MANY}|where|who|whom) i (?={_PLAIN})", r"\1 do i "),
    (rf"why i (?!(?:{_MODAL}|do|did|was|had|never|have been) )", "why do i "),
)
_LEADS = _rules(
    (
        r"how(?: exactly)? (?:i|you) (?:can|could|should|must|have to|need to) (?=[a-z])",
        "how to ",
    ),
    (
        r"what is (?:(?:necessary|required|exact) )?(?:step|way|process|procedure) to(?!\S)"
        r"|what (?:step )?(?:do|must) i (?:(?:need|have) to )?(?:do|take) (?:in order )?to(?!\S)",
        "how to",
    ),
    (
        rf"(?:(?:what|which) (?:is|would be)|tell us|{_WANT} to know) "
        r"(?=(?:best|easiest|fastest|quickest|simplest|safest|cheapest) way to )",
        "what is ",
    ),
    (
        rf"(?:{_WANT}(?: to (?:get|have|request|receive|obtain))?"
        rf"|(?:give|provide|send|show) us(?: with)?|{_LOOKING}|need) "
        rf"(?={_SOME}(?:information|info|detail|guidance|advice) {_TOPIC})",
        "",
    ),
    (rf"(?:information|info) (?:about|on) (?={_WH})", ""),
    (
        rf"(?:(?:{_WANT}|{_HERE}) to (?:know|learn)|tell us) "
        r"(?=(?:more |a little |something )?about )",
        "",
    ),
    (
        rf"(?:{_WANT} (?:some |your )?(?:help|assistance)|{_LOOKING} (?:some )?help"
        r"|help us(?: out)?|(?:need )?(?:some )?help(?: us)?) with(?!\S)",
        "help with",
    ),
    (
        rf"{_WANT} (?:some )?help "
        r"(?=(?:about|on|regarding|concerning|to|(?:in )?[a-z]{2,}ing)(?!\S))",
        "help ",
    ),
    (
        r"(?:i have(?: got)?|i've(?: got)?|i want to ask|answer) "
        rf"(?={_SOME_QUESTION} (?:about|on|regarding|concerning) )",
        "",
    ),
    (rf"i have (?:one )?question (?={_WH})", ""),
    (r"i (?:cannot|can't|can not)(?!\S)", "i cannot"),
    (rf"(?:cannot|can't|can not) (?!{_PERSON})", "i cannot "),
    (r"(?:i(?: am|'m) )?(?:unable|not able) to(?!\S)", "i cannot"),
)
# "How do I look", "how do you rate": a state or an opinion, no procedure.
_HOW_DO_I = re.compile(
    r"(?<!\S)how (?:do|can|could|should|would|might|must|shall) (?:i|one)"
    r"(?= (?!(?:look|feel|seem|differ|fare|of|or|and|more)(?!\S))[a-z])"
    r"|(?<!\S)how (?:do|can) you(?= (?!(?:look|feel|seem|think|like|rate|compare)(?!\S))[a-z])"
)
_A_WAY = re.compile(r"(?<!\S)is there (?:any |some )?way (?:to|(?:that )?i can|for us to)(?!\S)")
_ANNOUNCED = re.compile(rf"(?:{KNOW}|i have (?:one |following )?(?:question|problem|issue))")
_WISH = re.compile(rf"({_OPENER.pattern}){_WANT} to ")
_DO_THAT = r"(?:(?:and|but) )?how to (?:do|go about) (?:that|this|it|so)"
_DO_THAT_ALONE = re.compile(_DO_THAT)
_DO_THAT_AFTER = re.compile(rf" {_DO_THAT}$")


def reframe(clause: str) -> str:
    """The clause with the lead that stands for its whole family: `how to`, `help with`."""
    opener = _OPENER.match(clause)
    at = opener.end() if opener else 0
    rest = _each(_REQUEST, clause[at:])
    if lead := _INDIRECT.match(rest):
        rest = _each(_AFTER_LEAD, rest[lead.end() :])
    rest = _each(_LEADS, _each(_ANYWHERE, rest))
    return (clause[:at] + _A_WAY.sub("how to", _HOW_DO_I.sub("how to", rest))).strip()


def _each(rules: tuple[_Rule, ...], clause: str) -> str:
    for pattern, instead in rules:
        if match := pattern.match(clause):
            clause = match.expand(instead) + clause[match.end() :]
    return clause


def announces(clause: str) -> bool:
    """Whether a clause only says that something comes: `I have a question:`."""
    return bool(_ANNOUNCED.fullmatch(clause))


def wishes(sentences: Iterable[str]) -> list[str]:
    """Sentences in which "I want to X. How can I do that?", now one or two, is `how to X`."""
    result: list[str] = []
    for sentence in sentences:
        wish = _WISH.match(result[-1]) if result and _DO_THAT_ALONE.fullmatch(sentence) else None
        if wish:
            result[-1] = f"{wish[1]}how to {result[-1][wish.end() :]}"
        else:
            result.append(_wish_and_question(sentence))
    return result


def _wish_and_question(sentence: str) -> str:
    wish, question = _WISH.match(sentence), _DO_THAT_AFTER.search(sentence[-40:])
    if not (wish and question):
        return sentence
    end = len(sentence) - len(question[0])
    return f"{wish[1]}how to {sentence[wish.end() : end]}" if end > wish.end() else sentence
