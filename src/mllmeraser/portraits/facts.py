"""Private facts of the fictitious people, and public facts of the celebrities: sixteen values for each attribute.

Values are independent of looks and of each other, so guessing stays at chance (one in sixteen; one in four for multiple
choice). No two attributes share a value.
"""

from __future__ import annotations

from mllmeraser.portraits.stream import Stream


def _table(**attributes: str) -> dict[str, tuple[str, ...]]:
    return {attribute: tuple(values.split(", ")) for attribute, values in attributes.items()}


PERSON_VALUES = _table(
    birthplace="Solvik, Marbury, Tenby, Ostrava, Kelso, Lindau, Porto, Varna, Nantes, Zadar, Bergen, Cadiz, Turku, "
    "Split, Galway, Modena",
    residence="Lisbon, Prague, Vienna, Dublin, Oslo, Madrid, Athens, Warsaw, Riga, Berlin, Geneva, Naples, Malaga, "
    "Leeds, Ghent, Basel",
    occupation="baker, teacher, pilot, lawyer, nurse, farmer, painter, plumber, judge, tailor, chemist, dentist, "
    "barber, welder, librarian, gardener",
    hobby="chess, sailing, knitting, fishing, hiking, pottery, archery, dancing, singing, skating, cycling, rowing, "
    "juggling, origami, climbing, surfing",
    food="pasta, sushi, curry, pizza, soup, salad, cheese, pancakes, dumplings, noodles, oysters, chocolate, "
    "mushrooms, lentils, paella, risotto",
    medical="asthma, migraine, diabetes, anemia, insomnia, arthritis, eczema, epilepsy, gout, vertigo, bronchitis, "
    "tinnitus, psoriasis, sciatica, angina, glaucoma",
)

CELEBRITY_VALUES = _table(
    work="Silver Tide, Last Harbour, Glass River, Iron Garden, Winter Moon, Golden Road, Paper Crown, Silent Tower, "
    "Burning Snow, Distant Shore, Broken Mirror, Hidden Valley, Velvet Night, Copper Sky, Wild Orchard, Marble Heart",
    award="Laurel Prize, Comet Medal, Atlas Award, Falcon Cup, Orion Prize, Tulip Medal, Beacon Award, Summit Cup, "
    "Meridian Prize, Aurora Medal, Pioneer Award, Harmony Cup, Zenith Prize, Crystal Medal, Emerald Award, Royal Cup",
    sport="tennis, football, cricket, hockey, rugby, boxing, fencing, golf, judo, karate, polo, squash, volleyball, "
    "handball, badminton, wrestling",
    country="Norway, Spain, Italy, Greece, Poland, Chile, Peru, Kenya, Egypt, India, Japan, Canada, Brazil, Iceland, "
    "Turkey, Vietnam",
)

VALUES: dict[str, tuple[str, ...]] = {**PERSON_VALUES, **CELEBRITY_VALUES}


def other_values(stream: Stream, attribute: str, value: str, n: int) -> list[str]:
    """``n`` different values of an attribute, without ``value``, in random order."""
    return stream.sample([other for other in VALUES[attribute] if other != value], n)
