"""The one settings object: where the engine keeps things and whom it talks to.

Every field can be set by an environment variable with the prefix ``REFSTAR_``; Label Studio's own
variables (``LABEL_STUDIO_URL`` and so on) are understood too. The command line's ``--home`` wins.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Settings of the engine, read once from the environment.

    Secrets are never written into the settings' representation, so they cannot reach a log.
    """

    model_config = SettingsConfigDict(
        env_prefix="REFSTAR_",
        env_ignore_empty=True,
        frozen=True,
        populate_by_name=True,
        extra="ignore",
    )

    home: Path = Field(
        default=Path("refstar-home"),
        description="Folder that holds all state: database, images, masks, models, runs.",
    )
    database_url: str | None = Field(
        default=None,
        repr=False,  # it may hold a password
        description="SQLAlchemy URL of the engine's database; a SQLite file in the home otherwise.",
    )
    label_studio_url: str | None = Field(
        default=None,
        validation_alias=AliasChoices("LABEL_STUDIO_URL", "REFSTAR_LABEL_STUDIO_URL"),
        description="A Label Studio that runs already; one is started from the home otherwise.",
    )
    label_studio_token: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("LABEL_STUDIO_API_KEY", "REFSTAR_LABEL_STUDIO_TOKEN"),
        description="API key for that Label Studio (legacy token or personal access token).",
    )
    label_studio_public_url: str | None = Field(
        default=None,
        description="How people reach Label Studio through a proxy, with https:// where it has TLS.",
    )
    label_studio_command: Path | None = Field(
        default=None,
        description="The label-studio program; .venv-label-studio/bin/label-studio otherwise.",
    )
    label_studio_database_url: str | None = Field(
        default=None,
        repr=False,  # it may hold a password
        description="URL of a PostgreSQL database for the Label Studio that `engine annotate` starts; "
        "a SQLite file in the home otherwise.",
    )
    label_studio_port: int = Field(
        default=8080, ge=1, le=65535, description="Port of the Label Studio that is started."
    )
    label_studio_project: str = Field(
        default="RefSel-HQ", min_length=3, description="Title of the annotation project."
    )
    service_host: str = Field(
        default="127.0.0.1", description="Address that the pre-annotation service binds to."
    )
    service_port: int = Field(
        default=9090, ge=1, le=65535, description="Port of the pre-annotation service."
    )
    service_url: str | None = Field(
        default=None,
        description="How Label Studio reaches a service that runs elsewhere; one is started otherwise.",
    )
    sync_every: float = Field(
        default=60.0,
        ge=0,
        le=86_400,
        description="Seconds between two syncs of the running service; 0 for none.",
    )
    review_url: str | None = Field(
        default=None,
        description="How people reach the review pages through a proxy; they have to sign in then.",
    )
    review_target: int = Field(
        default=10_000, gt=0, description="Reviewed masks that the progress page counts towards."
    )
    gold_share: float = Field(
        default=0.05, ge=0, lt=0.5, description="Share of gold tasks among what an annotator sees."
    )
    double_share: float = Field(
        default=0.05, ge=0, le=1, description="Share of the pairs that two annotators answer."
    )
    agreement_iou: float = Field(
        default=0.9,
        ge=0,
        le=1,
        description="Least IoU at which two masks count as the same answer.",
    )
    agreement_kappa: float = Field(
        default=0.6, ge=0, le=1, description="Least Cohen's kappa at which they do."
    )
    body_limit: int = Field(
        default=64 * 2**20, gt=0, description="Largest request body that the service reads, bytes."
    )
    log_format: Literal["text", "json"] = Field(
        default="text",
        description="How the service writes its log: text, or one JSON object a line.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least weighty lines that the service's log keeps."
    )
    seed: int = Field(
        default=0, ge=0, description="Seed of splits, of the choice of pairs and of training."
    )
    parser_weights: Path | None = Field(
        default=None, description="ONNX face parser that replaces the built-in face region."
    )
    licence: str = Field(
        default="unknown", description="Licence of the source, carried into exports."
    )
    consent: str = Field(
        default="unknown",
        max_length=255,
        description="What the people in the source agreed to, carried into exports.",
    )

    @field_validator("home")
    @classmethod
    def _expand(cls, home: Path) -> Path:
        return home.expanduser()

    @field_validator("label_studio_url", "label_studio_public_url", "review_url")
    @classmethod
    def _strip(cls, url: str | None) -> str | None:
        # the URL names the server in the database: one server, one spelling
        return (url or "").rstrip("/") or None

    @property
    def resolved_database_url(self) -> str:
        """The database URL, with the SQLite file in the home as the default."""
        if self.database_url is not None:
            return self.database_url
        from sqlalchemy import URL  # noqa: PLC0415 - `engine --help` must not wait for it

        file = str(self.home.absolute() / "refstar.sqlite")
        return URL.create("sqlite", database=file).render_as_string(hide_password=False)

    @property
    def resolved_service_url(self) -> str:
        """The base URL by which Label Studio calls the service."""
        return self.service_url or f"http://{self.service_host}:{self.service_port}"
