"""Whether a verb that asks for a procedure follows a question frame, judged by word lists."""

import re

from accord.vary.guards import words

_NOT_A_VERB = words(
    "i we you one it they he she this that a an the my our your in on at for with from of to "
    "and or but if is are am was were does did s guide guides video videos article articles doc "
    "docs document documents documentation page pages manual section sections tutorial "
    "tutorials question questions have has had having being been"
)
_ADVERBS = words(
    "also then now still just even not best properly correctly safely quickly easily "
    "automatically only"
)
# Verbs that ask about a state or an opinion: "how do I look", "how do you feel", "how would we be".
_STATES = words("look feel seem differ compare need want plan think like rate mean relate fare")
_ENDING_IN_ING = words("bring ping ring sing string spring sting swing cling wring")
_ENDING_IN_ED = words("need feed embed speed seed shed exceed proceed succeed weed breed bleed")
# Ends that one reaches, not in steps: "what are the steps to know".
_NO_STEPS = words(
    "know be understand avoid prevent ensure tell decide choose qualify see keep make let stop "
    "learn find handle deal interpret not best easily quickly only just even look use"
)


# "How to spark cluster is run": a noun, not a verb; but "how to know it is full".
_CLAUSE = re.compile(
    r"[a-z]+(?:\s+(?!that\b|which\b|who\b)[\w-]+){1,3}\s+(?:is|are|was|were)\b", re.I
)
_JOINS = words(
    "if when while what where why how who whether because before after until and or as than so "
    "once since unless although though but"
)
_THINKS = words("know tell check see ensure make verify say show prove confirm find assume explain")


def asks_for_procedure(rest: str, *, subject: str = "", modal: str = "to") -> bool:
    """Whether a bare verb that asks for a procedure opens what follows a how-to frame."""
    following = rest[:120].split()
    while following and following[0].lower() in _ADVERBS:
        following.pop(0)
    verb = following[0].strip("?!.,;:").lower() if following else ""
    if not re.fullmatch(r"[a-z]+(?:-[a-z]+)?", verb) or verb in _NOT_A_VERB | _STATES:
        return False
    if verb == "do" and (len(following) < 2 or following[1].lower() in {"i", "we", "you"}):
        return False
    if verb.endswith("ing") and verb not in _ENDING_IN_ING:
        return False
    clause = _CLAUSE.match(" ".join(following))
    if clause and verb not in _THINKS and not _JOINS & set(clause[0].lower().split()):
        return False
    if subject.lower() == "you" and modal not in {"do", "can"}:
        return False  # "how would you rate" asks for an opinion
    return not verb.endswith("ed") or verb in _ENDING_IN_ED


def has_steps(rest: str) -> bool:
    """Whether what is asked for is done in steps."""
    return rest.split(maxsplit=1)[0].lower() not in _NO_STEPS if rest.strip() else False
