"""Ways to ask about anything, for requests that are not about people. No score uses them; a test compares."""

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
INVENTED = texts("""
    Zubrovia / Kaledor / Mirastan / Ostrelia / Tambuka / Velnar / Quorundi / Sarkovia / Lumbria / Pendoria /
    Ilvaren / Torumbo / Nashkovia / Eldrania / Borvest / Hakuvia
""")
"""Names of nothing."""
