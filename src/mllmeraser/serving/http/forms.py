"""The form of a request to forget a person or something else, ``POST /v1/erasures``."""

from __future__ import annotations

from typing import Annotated

from fastapi import File, Form, UploadFile
from pydantic import AwareDatetime, Field
from starlette.datastructures import FormData

from mllmeraser.samples.request import LONGEST_REPLY
from mllmeraser.samples.subject import Kind
from mllmeraser.serving.http.errors import Refusal

SEVERAL = ("person", "question", "images")
FIELDS = (
    "name", *SEVERAL, "kind", "reply", "instead", "exact_names", "tenant", "default", "starts_at", "expires_at",
)  # fmt: skip
"""Fields of the form; those of `SEVERAL` may be repeated."""
EXAMPLE = """
Give at least one picture or one name; of what is no person, questions will do. The answer has the `id`, and `notes`
about what was not used. `GET /v1/erasures/{id}` shows how far the fit and the verification are.

```
curl https://HOST/v1/erasures -H "Authorization: Bearer $KEY" \\
  -F name=case-17 -F "person=Jane Doe" -F images=@1.png -F images=@2.png -F expires_at=2031-01-31T12:00:00+00:00
```
"""

Line = Annotated[str, Field(max_length=500)]
Label = Annotated[
    str, Form(max_length=63, description="Label of the erasure: lower case, unique, and never the name of a person.")
]
Person = Annotated[
    list[Line] | None, Form(description="A name of the person or thing; repeat the field for other names.")
]
Question = Annotated[
    list[Line] | None,
    Form(
        description="A question about the pictures, and of what is no person in text too; may be repeated. "
        "Default: Who (or what) is this? A fact is what its questions ask for."
    ),
]
Images = Annotated[list[UploadFile] | None, File(description="A picture of the person or thing; may be repeated.")]
KindOf = Annotated[Kind, Form(description="What it is. Only people are found by their faces.")]
Reply = Annotated[
    str | None,
    Form(max_length=LONGEST_REPLY, description="A sentence that the model answers; without the name of a person."),
]
Instead = Annotated[str | None, Form(max_length=LONGEST_REPLY, description="Another word for `reply`.")]
ExactNames = Annotated[
    bool, Form(description="Names count as written alone: not their parts, and not in other spellings.")
]
Tenant = Annotated[
    str | None,
    Form(max_length=63, description="Tenant that it applies to. Default: all; of a tenant's admin, its own."),
]
Default = Annotated[
    bool, Form(description="Whether it applies to every request. If false, only to those that ask for model@label.")
]
StartsAt = Annotated[AwareDatetime | None, Form(description="When it comes into force by itself, with a time zone.")]
ExpiresAt = Annotated[AwareDatetime | None, Form(description="When it is suspended by itself, with a time zone.")]


def account(form: FormData) -> None:
    """Refuse fields that the form does not have, and a single one that comes twice: nothing is dropped in silence."""
    keys = [key for key, _ in form.multi_items()]
    for key in keys:
        if key not in FIELDS:
            raise Refusal(400, f"{key}: not a field of this form; it has {', '.join(FIELDS)}", "invalid_value")
        if key not in SEVERAL and keys.count(key) > 1:
            raise Refusal(400, f"{key}: is given twice", "invalid_value")


def sentence(reply: str | None, instead: str | None) -> str | None:
    """The sentence to answer with; `reply` and `instead` are two words for it, and only one may be given."""
    if (reply or "").strip() and (instead or "").strip():
        raise Refusal(400, "reply and instead mean the same: give one of them", "invalid_value")
    return reply if (reply or "").strip() else instead
