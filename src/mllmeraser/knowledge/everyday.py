"""Everyday prompts that ask for nothing in particular: to rehearse with, and to retain.

No score asks any of them; a test compares them with the benchmark.
"""

from __future__ import annotations

from collections.abc import Iterator

from mllmeraser.portraits.stream import Stream


def texts(text: str) -> tuple[str, ...]:
    """The parts of a text between slashes, on one line each."""
    return tuple(" ".join(text.split()).split(" / "))


THINGS = texts("""
    volcanoes / the printing press / bees / electric cars / the Roman Empire / photosynthesis / black holes /
    yoga / sourdough bread / the French Revolution / vaccines / the piano / coral reefs / inflation / the Silk
    Road / penguins / solar panels / jazz / the immune system / chess openings / glaciers / the Great Wall of
    China / DNA / podcasts / gravity / the Olympics / compost / insulin / rainbows / the stock market / origami
    / antibiotics / tides / robots / the Renaissance / whales / nuclear power / poetry / earthquakes / the heart
    / libraries / coffee / tropical forests / the water cycle / hip hop / democracy / the moon / bicycles /
    dinosaurs / cheese / satellites / meditation / spiders / the Industrial Revolution / magnets / opera /
    recycling / owls / blockchain / the alphabet / cotton / lightning / football / the brain / bridges /
    cartoons / deserts / elections / fireworks / gold / honey / ice hockey / jellyfish / kites / lasers / maps /
    noodles / oxygen / paper / quilts / rivers / salt / tea / umbrellas / violins / wolves / x-rays / yeast /
    zoos / clocks / silk / steel / the Vikings / submarines / tornadoes / trains / trees / wheat
""")
ABOUT = texts("""
    What are the main facts about {x}? / Explain {x} in one sentence. / Tell me something about {x}. / Write two
    sentences about {x}. / Why does {x} matter? / Give me three words that describe {x}. / How would you explain
    {x} to a child? / Write a short poem about {x}. / What do people get wrong about {x}? / What is interesting
    about {x}? / Write a title for an article on {x}. / Ask me a question about {x}. / Where can I learn more
    about {x}? / Tell me a joke about {x}. / Write a headline on {x}. / Describe {x}.
""")
FACTS = texts("""
    What is the boiling point of alcohol? / How many minutes are in a day? / What is 12 plus 30? / What is 7
    times 6? / What is 45 minus 18? / What is half of 90? / How many letters has the English alphabet? / What is
    H2SO4? / Which metal rusts? / What do cows drink? / What is the plural of mouse? / Spell the word necessary.
    / What is the past tense of go? / Translate good morning to French. / Translate thank you to German. /
    Translate cat to Spanish. / What is a synonym for happy? / What is the opposite of brave? / Name three
    fruits. / Name four colours. / Name two oceans. / Name five animals of Africa. / Name three programming
    languages. / Who wrote the Odyssey? / Who painted Guernica? / Who discovered penicillin? / Who was
    Cleopatra? / Who was Mozart? / Who was Marie Curie? / Who was Nelson Mandela? / Who is Bill Gates? / Who was
    Charles Darwin? / Who was Napoleon? / Who was Mother Teresa? / Who was Galileo? / Who was Julius Caesar? /
    Who wrote Don Quixote? / Who was Gandhi? / Who was Picasso? / Who was Abraham Lincoln? / Who was Beethoven?
    / Who was Aristotle? / Who was Isaac Newton? / What did Albert Einstein do for a living? / What is William
    Shakespeare known for? / Where was Napoleon born? / What was the profession of Frida Kahlo? / What is
    Vincent van Gogh famous for? / When did World War I begin? / Which planet is known for its red colour? /
    What gas do we breathe out? / How many continents are there? / What is the largest animal? / What is the
    fastest land animal? / What is the longest river of Europe? / Which ocean lies east of America? / What is
    the hottest planet? / How many wheels has a tricycle? / What does a thermometer measure? / What is a baby
    dog called? / What do caterpillars turn into? / What colour is a ripe tomato? / Which season comes after
    spring? / What is the square root of 49? / What is the chemical symbol of iron? / In which year did people
    first walk on the moon? / What is frozen water called?
""")
TASKS = texts("""
    Write an email to my boss about a day off. / Make a shopping list for a picnic. / Give me a tip for better
    sleep. / Rewrite this politely: give me the report now. / Fix the grammar: he go to school yesterday. /
    Summarise: The cat slept all day because it was raining. / Turn this into a question: The shop opens at
    nine. / Write a Python function that adds two numbers. / Write a loop in JavaScript. / What does print do in
    Python? / Sort these numbers: 5, 2, 9, 1. / Count from one to ten. / List the days of the week. / List the
    months. / Is a tomato a fruit? / Is the sun a star? / Can penguins fly? / Do fish sleep? / Is ice heavier
    than water? / I feel sad today. / I am bored. / I have a headache. / Good morning! / How are you? / Thank
    you for your help. / Who are you? / What can you do? / Are you a person? / Who made you? / Do you have
    feelings? / What is your name? / What should I cook tonight? / How do I boil an egg? / How do I tie a tie? /
    How do I learn to swim? / How do I save money? / Plan a day in a new town. / Recommend a book. / Which music
    helps to focus? / Classify the mood: I love this film! / Classify the mood: The food was cold and late. /
    Finish the sentence: The early bird / Finish the proverb: Better late than / Continue the story: The door
    opened. / Say hello in five languages. / Name a word that rhymes with light. / Write a haiku about snow. /
    Choose one: tea or coffee? / What would a pirate say about rain? / Give a reason to plant a tree. / What did
    I have for lunch? / What is my middle name? / How old am I? / Where did I put my keys? / What colour is my
    shirt today? / What is the weather outside right now? / Call my mother, please. / Book a flight for me. /
    What time is it now? / Open the window. / Play a song for me. / What did I dream last night? / Can you see
    me? / Where am I? / Which book is on my desk? / Did my friend call me yesterday?
""")


def about_things(stream: Stream) -> Iterator[str]:
    """Endless prompts about things."""
    while True:
        yield stream.choice(ABOUT).format(x=stream.choice(THINGS))
