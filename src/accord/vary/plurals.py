"""The singular of an English word by its spelling alone: no tagger, no table but the exceptions.

What is unusual is that the words around do not count. A parser finds the number of a noun in its
sentence and errs in another place in the next wording; here `orders` is `order` everywhere, so that
all wordings of a query are reduced alike. The third person (`it orders`) falls together with the
plural, as it must: it changes with the number of its subject.
"""

from functools import lru_cache

_LONGEST = 40  # characters; no English plural is longer, and the cache stays small whatever comes


def words(text: str) -> frozenset[str]:
    """A set of words written as one string."""
    return frozenset(text.split())


def pairs(text: str) -> dict[str, str]:
    """A table written as one string: `mice:mouse feet:foot`."""
    return dict(pair.split(":") for pair in text.split())


# Words in -s that are no plurals; names; plurals whose singular is another word (goods, customs,
# windows) or could be two (leaves, lives, axes).
_KEPT = words(
    "abbas achilles acoustics adams aeneas aerobics aerodynamics aeronautics aesthetics "
    "afterwards alas algiers alias alps always analytics anders andes andreas andres andrews "
    "angeles annals antilles anyways aras archimedes aries aristophanes arkansas arms arrears "
    "arthritis asbestos astrophysics athens athletics atlas axes backwards bahamas balkans "
    "barbados barnes basics beatles belongings besides bias biceps billiards billings binoculars "
    "biophysics briggs brussels buenos cannes canvas caries celtics ceramics chaos charles chris "
    "christmas cics civics clothes cognos collins congrats congratulations corps cosmos cummings "
    "customs cybernetics cyprus dallas daniels davies davis dbms demographics dennis diabetes "
    "dickens douglas downstairs downwards dues dynamics economics edwards electronics elias "
    "emirates ergonomics ethics ethos euripides evans faeces feces forbes forceps forensics "
    "forwards frances francis furnishings gallows genetics geophysics georges gibbs glasses goods "
    "grassroots griffiths gymnastics hamas hans harris hastings hawkins hayes haynes headquarters "
    "hercules hermes herpes hers himalayas hodges holmes honduras hopkins https hughes humanities "
    "hydraulics indoors inwards its itunes jacobs jacques james jeans jenkins jennings jesus "
    "jonas jones judas jules kansas keras keynes kinematics knicks kubernetes kudos lagos lakers "
    "laos leaves leeds lens linguistics lives lloyds logistics louis lucas lyons macos maldives "
    "marcos marcus mars massachusetts mathematics matthews mcdonalds means measles mechanics meds "
    "mendes mercedes metaphysics michaels midas miniseries minus molasses morales moses mumps "
    "myers naples netherlands news nicholas nichols nicolas nowadays odds olympics onwards "
    "orleans ourselves outdoors outskirts outwards overalls overseas owens pajamas pancreas "
    "pandas pants paris parsons pathos pediatrics perhaps perkins peters philippines philips "
    "phillips physics pliers plus politics postgres premises pyjamas pythagoras rabies rdbms "
    "regards reuters reynolds rhinoceros rhodes richards riches roberts robotics rockies rodgers "
    "rogers rollins sanders santos saunders scabies scissors semantics series siemens silas "
    "simmons socrates sometimes sophocles species starbucks stephens stevens surroundings "
    "tectonics texas thames thanks theirs themselves therapeutics thermodynamics thermos this "
    "thomas thus tights torres towards triceps trousers tweezers ulysses underpants upstairs "
    "upwards vargas vegas venus versailles wales walters watkins whereabouts whereas wilkins "
    "williams windows winnings xmas yankees yes yours yourselves"
)
# Plurals that the rules of `_regular` would get wrong, or that have no -s.
_IRREGULAR = pairs(
    "aches:ache ads:ad algae:alga aliases:alias alibis:alibi alumni:alumnus analyses:analysis "
    "antennae:antenna apis:api apparatuses:apparatus appendices:appendix atlases:atlas "
    "automata:automaton avalanches:avalanche biases:bias bikinis:bikini bonuses:bonus "
    "bookies:bookie bookshelves:bookshelf brownies:brownie bureaus:bureau buses:bus "
    "businessmen:businessman busses:bus caches:cache cacti:cactus cactuses:cactus "
    "calories:calorie calves:calf campuses:campus canoes:canoe canvases:canvas caucuses:caucus "
    "cds:cd censuses:census chairmen:chairman children:child choruses:chorus circuses:circus "
    "cliches:cliche clis:cli cookies:cookie corpuses:corpus cpus:cpu craftsmen:craftsman "
    "crises:crisis criteria:criterion curricula:curriculum diagnoses:diagnosis dies:die "
    "ellipses:ellipsis elves:elf emojis:emoji emus:emu feet:foot fetuses:fetus firemen:fireman "
    "fishermen:fisherman focuses:focus foes:foe formulae:formula freebies:freebie "
    "freshmen:freshman fungi:fungus gases:gas geese:goose genies:genie geniuses:genius "
    "gentlemen:gentleman gpus:gpu grandchildren:grandchild guis:gui gurus:guru halves:half "
    "headaches:headache hippies:hippie hoes:hoe hoodies:hoodie hooves:hoof horseshoes:horseshoe "
    "housewives:housewife hypotheses:hypothesis ids:id indices:index indies:indie irises:iris "
    "kiwis:kiwi knives:knife kpis:kpi larvae:larva lenses:lens lies:lie loaves:loaf "
    "magpies:magpie martinis:martini matrices:matrix maxima:maximum memoranda:memorandum men:man "
    "menus:menu metastases:metastasis mice:mouse midwives:midwife minibuses:minibus "
    "minima:minimum minis:mini moustaches:moustache movies:movie mustaches:mustache "
    "newbies:newbie nexuses:nexus niches:niche nuclei:nucleus octopuses:octopus oldies:oldie "
    "optima:optimum oxen:ox parentheses:parenthesis pcs:pc phenomena:phenomenon pies:pie "
    "plateaus:plateau pluses:plus policemen:policeman prairies:prairie prospectuses:prospectus "
    "prostheses:prosthesis prs:pr psus:psu quizzes:quiz rabbis:rabbi radii:radius radiuses:radius "
    "rookies:rookie safaris:safari salesmen:salesman saris:sari scarves:scarf "
    "schoolchildren:schoolchild selfies:selfie selves:self semis:semi servicemen:serviceman "
    "shelves:shelf shoes:shoe sinuses:sinus skis:ski skus:sku smoothies:smoothie spectra:spectrum "
    "spokesmen:spokesman statesmen:statesman statuses:status stepchildren:stepchild "
    "stimuli:stimulus strata:stratum submenus:submenu surpluses:surplus syllabi:syllabus "
    "synopses:synopsis syntheses:synthesis taxis:taxi teeth:tooth theses:thesis thieves:thief "
    "ties:tie toes:toe tpus:tpu tsunamis:tsunami tvs:tv uis:ui veggies:veggie vertebrae:vertebra "
    "vertices:vertex viruses:virus vms:vm vortices:vortex waltzes:waltz werewolves:werewolf "
    "wikis:wiki wives:wife woes:woe wolves:wolf women:woman zombies:zombie"
)
# After a hyphen particles take the plural too: add-ons, sign-ups.
_PARTICLES = {"ins": "in", "ons": "on", "ups": "up", "outs": "out", "offs": "off"}
_LAST = frozenset("s" + "".join(plural[-1] for plural in _IRREGULAR))
_WHOLE_ES = ("sses", "shes", "ches", "xes", "zzes", "tzes", "oes")


def singular(word: str) -> str:
    """The singular of a lower-case word: `invoices` -> `invoice`; other words as they are.

    Only words of ASCII letters, or such words joined by hyphens (the last one is reduced), change.
    """
    if word[-1:] not in _LAST or len(word) > _LONGEST:
        return word
    return _cached(word)


@lru_cache(maxsize=65536)
def _cached(word: str) -> str:
    head, hyphen, last = word.rpartition("-")
    if not (last.isascii() and last.isalpha()):
        return word
    if hyphen and last in _PARTICLES:
        return head + hyphen + _PARTICLES[last]
    return head + hyphen + _regular(last)


def _regular(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) < 4 or word in _KEPT or not word.endswith("s") or word[-2] in "siu":
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-2] if word.endswith(_WHOLE_ES) else word[:-1]
