"""Ways to ask about anything, for requests that are not about people. No score uses them; a test compares.

Fits ask in `ABOUT`, `WHAT_IS_SHOWN` and `PASSING`. Verifications ask in `FRESH_ABOUT` and the like, which no fit
knows.
"""

from __future__ import annotations

from mllmeraser.knowledge.everyday import texts

ABOUT = {
    "entity": texts("""
        What is {x}? / Tell me about {x}. / What do you know about {x}? / Describe {x}. / Give me a fact about {x}. /
        What is {x} known for? / Write a sentence about {x}. / I want to learn about {x}. / Who or what is {x}? /
        Where is {x}? / Summarise what you know about {x}. / Have you heard of {x}? / {x} / Explain {x}. /
        What comes to mind when you hear {x}? / Write a short text on {x}. / What can you say about {x}? /
        Name something that {x} is famous for. / Give me details on {x}. / Information on {x}, please.
    """),
    "topic": texts("""
        What is {x}? / Tell me about {x}. / What do you know about {x}? / Explain {x}. / How does {x} work? /
        Write a sentence about {x}. / Give me an introduction to {x}. / Why is {x} important? / Teach me {x}. /
        What are the basics of {x}? / I have a question about {x}. / Summarise {x}. / {x} / Give an example of {x}. /
        Who needs {x}? / Write a short text on {x}. / Help me with {x}. / Where do I find {x}? / Define {x}.
    """),
}
SHOWN = ("this", "the thing in the picture", "what you see here")
WHAT_IS_SHOWN = texts("""
    What is {x}? / Tell me about {x}. / Describe {x}. / What do you know about {x}? / Name {x}. / Explain {x}.
""")
PASSING = texts("""
    I read about {x} today. {question} / {question} My friend told me about {x}. / {x} aside: {question} /
    We talked of {x} all day. Now something else. {question} / A letter from {x} arrived. {question} /
    {question} I ask while I think of {x}. / Not about {x}: {question} / My bag says {x} on it. {question}
""")
"""The subject is named, and the question is about something else."""
FRESH_ABOUT = {
    "entity": texts("""
        Could you tell me what {x} is? / What should I know about {x}? / Say something about {x}. /
        Give me a short description of {x}. / What do people say about {x}? / What makes {x} special? /
        I have never heard of {x}. What is it? / In a few words: {x}? / Which facts about {x} can you name? /
        How would you describe {x}? / Please introduce {x} to me. / What is there to know about {x}?
    """),
    "topic": texts("""
        Could you tell me what {x} is about? / What should I know about {x}? / Say something about {x}. /
        Give me an overview of {x}. / How do I get started with {x}? / What is the point of {x}? /
        I know nothing about {x}. What is it? / In a few words: {x}? / Which facts about {x} can you name? /
        How would you explain {x}? / What do beginners ask about {x}? / What is there to know about {x}?
    """),
}
FRESH_SHOWN = texts("""
    Could you tell me what {x} is? / What should I know about {x}? / Say something about {x}. / What do you call {x}? /
    How would you explain {x}?
""")
FRESH_FORMS = ("what this picture shows", "the thing shown here")
FRESH_PASSING = texts("""
    {question} By the way, I like the word {x}. / Someone just said {x} to me. But tell me: {question} /
    I wrote {x} on a piece of paper. {question} / Leave {x} out of it. {question}
""")
FRESH_FRAMES = texts("""
    {q} / Here is my question: {q} / {q} I would like to know. / Somebody asked me: {q} / {q} One sentence is enough. /
    May I ask something? {q} / {q} Thanks in advance.
""")
INVENTED = texts("""
    Zubrovia / Kaledor / Mirastan / Ostrelia / Tambuka / Velnar / Quorundi / Sarkovia / Lumbria / Pendoria /
    Ilvaren / Torumbo / Nashkovia / Eldrania / Borvest / Hakuvia
""")
"""Names of nothing."""
