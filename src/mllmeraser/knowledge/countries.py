"""Sixty countries: facts that a pretrained language model may know, and the codes of their flags."""

from __future__ import annotations

from dataclasses import dataclass

ATTRIBUTES = ("capital", "continent", "language", "currency")

_TABLE = """
ar | Argentina | Buenos Aires | South America | Spanish | peso
at | Austria | Vienna | Europe | German | euro
au | Australia | Canberra | Oceania | English | dollar
bd | Bangladesh | Dhaka | Asia | Bengali | taka
be | Belgium | Brussels | Europe | Dutch | euro
bg | Bulgaria | Sofia | Europe | Bulgarian | lev
bo | Bolivia | La Paz | South America | Spanish | boliviano
br | Brazil | Brasília | South America | Portuguese | real
ca | Canada | Ottawa | North America | English | dollar
ch | Switzerland | Bern | Europe | German | franc
cl | Chile | Santiago | South America | Spanish | peso
cn | China | Beijing | Asia | Mandarin | yuan
co | Colombia | Bogotá | South America | Spanish | peso
cr | Costa Rica | San José | North America | Spanish | colón
cu | Cuba | Havana | North America | Spanish | peso
cz | the Czech Republic | Prague | Europe | Czech | koruna
de | Germany | Berlin | Europe | German | euro
dk | Denmark | Copenhagen | Europe | Danish | krone
eg | Egypt | Cairo | Africa | Arabic | pound
es | Spain | Madrid | Europe | Spanish | euro
et | Ethiopia | Addis Ababa | Africa | Amharic | birr
fi | Finland | Helsinki | Europe | Finnish | euro
fr | France | Paris | Europe | French | euro
gb | the United Kingdom | London | Europe | English | pound
gh | Ghana | Accra | Africa | English | cedi
gr | Greece | Athens | Europe | Greek | euro
hr | Croatia | Zagreb | Europe | Croatian | euro
hu | Hungary | Budapest | Europe | Hungarian | forint
ie | Ireland | Dublin | Europe | English | euro
il | Israel | Jerusalem | Asia | Hebrew | shekel
in | India | New Delhi | Asia | Hindi | rupee
iq | Iraq | Baghdad | Asia | Arabic | dinar
ir | Iran | Tehran | Asia | Persian | rial
is | Iceland | Reykjavik | Europe | Icelandic | krona
it | Italy | Rome | Europe | Italian | euro
jm | Jamaica | Kingston | North America | English | dollar
jp | Japan | Tokyo | Asia | Japanese | yen
ke | Kenya | Nairobi | Africa | Swahili | shilling
kr | South Korea | Seoul | Asia | Korean | won
lb | Lebanon | Beirut | Asia | Arabic | pound
ma | Morocco | Rabat | Africa | Arabic | dirham
mx | Mexico | Mexico City | North America | Spanish | peso
my | Malaysia | Kuala Lumpur | Asia | Malay | ringgit
ng | Nigeria | Abuja | Africa | English | naira
nl | the Netherlands | Amsterdam | Europe | Dutch | euro
no | Norway | Oslo | Europe | Norwegian | krone
np | Nepal | Kathmandu | Asia | Nepali | rupee
pe | Peru | Lima | South America | Spanish | sol
ph | the Philippines | Manila | Asia | Filipino | peso
pk | Pakistan | Islamabad | Asia | Urdu | rupee
pl | Poland | Warsaw | Europe | Polish | zloty
pt | Portugal | Lisbon | Europe | Portuguese | euro
ru | Russia | Moscow | Europe | Russian | ruble
sa | Saudi Arabia | Riyadh | Asia | Arabic | riyal
se | Sweden | Stockholm | Europe | Swedish | krona
th | Thailand | Bangkok | Asia | Thai | baht
tr | Turkey | Ankara | Asia | Turkish | lira
ua | Ukraine | Kyiv | Europe | Ukrainian | hryvnia
us | the United States | Washington | North America | English | dollar
vn | Vietnam | Hanoi | Asia | Vietnamese | dong
"""


@dataclass(frozen=True)
class Country:
    """A country: the code of its flag (ISO 3166), its name as it stands in a sentence, and its facts by attribute."""

    key: str
    name: str
    facts: dict[str, str]


def _read(line: str) -> Country:
    key, name, *values = line.split(" | ")
    return Country(key, name, dict(zip(ATTRIBUTES, values, strict=True)))


COUNTRIES = tuple(_read(line) for line in _TABLE.strip().splitlines())
