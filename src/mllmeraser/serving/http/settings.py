"""Settings of a server."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator


class ServeSettings(BaseModel):
    """Limits and choices of a server; clients cannot change them.

    Attributes:
        max_tokens: Longest answer in tokens; requests for more are cut to it.
        request_seconds: Time from the arrival of a request to its last token.
        max_image_pixels: Largest picture, width times height.
        max_images: Most pictures in a conversation, earlier turns included.
        max_held_pixels: Pixels (four bytes each) of all pictures in memory. Beyond them, requests with pictures get
            429.
        max_text_characters: Longest text of a conversation, all messages together.
        fetch_images: Whether pictures may be given as http(s) URLs.
        logprobs: Whether clients may ask for log-probabilities. They can reveal who was deleted. Admins always may.
        requests_per_minute: Rate limit of one key.
        poll_seconds: Interval of polling the ledger for changes by other servers.
        stale_seconds: Time without a ledger after which the server refuses all requests.
        origins: Origins that browsers may call from (CORS).
        open_metrics: Whether /metrics needs no key. Firing rates reveal how often people ask about a deleted person.
        signing_key: Ed25519 key for certificates, 32 bytes in base64; None issues none.
        webhook: Address that gets messages about changed states; None sends none.
        webhook_secret: Its shared secret (see `webhooks.key_of`).
        max_fits: Requests to forget that may wait for their fit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_name: str
    max_tokens: int = Field(default=512, ge=1)
    request_seconds: float = Field(default=60.0, gt=0)
    max_body_bytes: int = Field(default=20_000_000, ge=1_000)
    max_image_bytes: int = Field(default=10_000_000, ge=1_000)
    max_image_pixels: int = Field(default=25_000_000, ge=1_000)
    max_images: int = Field(default=8, ge=1)
    max_held_pixels: int = Field(default=400_000_000, ge=1_000)
    max_text_characters: int = Field(default=500_000, ge=1)
    fetch_images: bool = False
    logprobs: bool = False
    requests_per_minute: int = Field(default=600, ge=1)
    poll_seconds: float = Field(default=0.25, gt=0)
    stale_seconds: float = Field(default=5.0, gt=0)
    origins: tuple[str, ...] = ()
    open_metrics: bool = False
    page: bool = True
    signing_key: str | None = Field(default=None, repr=False)
    issuer: str = ""
    webhook: str | None = Field(default=None, repr=False)
    webhook_secret: str = Field(default="", repr=False)
    max_fits: int = Field(default=32, ge=1)

    @model_validator(mode="after")
    def _check_pixels(self) -> ServeSettings:
        if self.max_held_pixels < self.max_image_pixels:
            raise ValueError("max_held_pixels is at least max_image_pixels: the largest picture would never be read")
        return self
