"""`mlflow`: where a finished run is logged. It changes no result; credentials are in MLflow's own variables."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, model_validator

from job.config.base import Section


class MLflow(Section):
    tracking_uri: str | None = Field(None, min_length=1, max_length=1000)
    """The URI of the tracking server; `null`: what the variable MLFLOW_TRACKING_URI says."""
    experiment: str | None = Field(None, min_length=1, max_length=500)
    """By default the job's name; it is made where there is none."""
    registered_model: str | None = Field(None, pattern=r"^[^/:]{1,250}$")
    """The registered model that gets a version of each run; `null`: none is registered."""

    @model_validator(mode="after")
    def _holds_no_secret(self) -> MLflow:  # of the section as a whole: an error of one key repeats what was given
        if self.tracking_uri is None:
            return self
        try:
            parts = urlsplit(self.tracking_uri)
        except ValueError as error:
            raise ValueError("tracking_uri is no URI") from error
        if parts.username is not None or parts.password is not None or parts.query:
            raise ValueError(
                "tracking_uri must hold no credentials: they belong in the variables MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD, MLFLOW_TRACKING_TOKEN, or the whole URI in MLFLOW_TRACKING_URI"
            )
        if parts.scheme == "" and self.tracking_uri != "databricks":
            raise ValueError("tracking_uri must begin with a scheme, for example https://")
        return self
