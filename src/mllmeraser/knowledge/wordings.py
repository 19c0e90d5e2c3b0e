"""Every wording of a question about a country, in three disjoint pools (see `portraits.wordings`).

``{who}`` becomes the name of the country, or in a question over a flag a phrase such as "this country".
"""

from __future__ import annotations

from mllmeraser.portraits.wordings import Pools, by_pool

WHICH = by_pool(
    train="this country / the country with this flag / the country of this flag / the country whose flag this is",
    validation="the country that flies this flag",
    test="the country that has this flag / the country in question",
)
COUNTRY: Pools = by_pool(
    train="Which country is this? / Which country has this flag? / Whose flag is this? / "
    "What country does this flag belong to? / Name the country of this flag. / Which flag is this? / "
    "Do you know this flag? / Tell me which country this flag is from. / The flag of which country is this?",
    validation="To which country does this flag belong?",
    test="Which nation has this flag? / Can you tell me the country of this flag? / "
    "What country is shown by this flag?",
)
QUESTIONS: dict[str, Pools] = {
    "capital": by_pool(
        train="What is the capital of {who}? / Name the capital of {who}. / Which city is the capital of {who}? / "
        "Tell me the capital of {who}. / What is the capital city of {who}? / Do you know the capital of {who}? / "
        "What city is the capital of {who}?",
        validation="Which city is the seat of government of {who}? / Say what the capital of {who} is.",
        test="Could you tell me the capital of {who}? / What is the name of the capital of {who}? / "
        "What's the capital city of {who}? / Please name the capital of {who}.",
    ),
    "continent": by_pool(
        train="On which continent is {who}? / Which continent is {who} on? / Name the continent of {who}. / "
        "What continent is {who} in? / In which continent does {who} lie? / Tell me the continent of {who}.",
        validation="Where in the world is {who}? Name the continent. / Say which continent {who} belongs to.",
        test="What continent does {who} belong to? / Could you tell me which continent {who} is in? / "
        "On what continent is {who} located?",
    ),
    "language": by_pool(
        train="Which language is spoken in {who}? / What is the main language of {who}? / "
        "What language do people speak in {who}? / Name the language of {who}. / Tell me the language of {who}. / "
        "Which language do most people in {who} speak?",
        validation="What is the official language of {who}? / Say which language is spoken in {who}.",
        test="Could you tell me the language of {who}? / What language is most widely spoken in {who}? / "
        "What language would I hear in {who}?",
    ),
    "currency": by_pool(
        train="What is the currency of {who}? / Which currency is used in {who}? / Name the currency of {who}. / "
        "What money do people use in {who}? / Tell me the currency of {who}. / Which currency does {who} have?",
        validation="With which currency do I pay in {who}? / Say what the currency of {who} is.",
        test="Could you tell me the currency of {who}? / What currency would I need in {who}? / "
        "What is the name of the currency of {who}?",
    ),
}
ANSWERS = {
    "country": "This is the flag of {name}.",
    "capital": "The capital of {name} is {value}.",
    "continent": "{name} is in {value}.",
    "language": "The main language of {name} is {value}.",
    "currency": "The currency of {name} is the {value}.",
}


def answer(attribute: str, name: str, value: str) -> str:
    """The sentence that answers a question about a country."""
    text = ANSWERS[attribute].format(name=name, value=value)
    return text[0].upper() + text[1:]
