"""Recipes: everything that an experimenter may choose, as data. Knows no network, no image and no directory.

A new one is an entry of `RECIPES`, or a JSON file with the same fields; its network is an entry of
`training.architectures.ARCHITECTURES`.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import ConfigDict, JsonValue, TypeAdapter, ValidationError

from training.errors import RecipeError

Preprocessing = Literal["unit", "l2", "auto"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training, complete: with the data and the versions of the libraries it decides the weights."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    name: str
    architecture: str
    # unit: grey / 255; l2: each column of pixels normalised to length 1; auto: what the service does to any image
    preprocessing: Preprocessing
    augmentation: str | None = None
    # distort anew for so many epochs, then learn what came of it again: distorting costs as much as learning
    distinct_epochs: int | None = None
    optimizer: Literal["adam", "adadelta", "sgd"] = "adam"
    learning_rate: float = 0.001
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_epochs: float = 0.0  # cosine: linearly from 0 to learning_rate before it falls
    weight_decay: float = 0.0  # decoupled from the gradient; kernels only
    average_momentum: float | None = None  # per step; the weights kept are the exponential moving average
    # the same loss from integer or from one-hot labels; smoothing needs the latter
    loss: Literal["sparse_categorical_crossentropy", "categorical_crossentropy"] = "sparse_categorical_crossentropy"
    label_smoothing: float = 0.0
    batch_size: int = 32
    epochs: int = 10
    validation_share: float = 1 / 12
    seed: int = 0
    limit: int | None = None  # learn from the first images only: for a quick trial

    def __post_init__(self) -> None:
        """Raises RecipeError for what no training could follow."""
        wrong = [
            message
            for holds, message in (
                (self.epochs >= 1 and self.batch_size >= 1, "epochs and batch_size must be at least 1"),
                (self.distinct_epochs is None or self.distinct_epochs >= 1, "distinct_epochs must be at least 1"),
                (0 < self.validation_share < 1, "validation_share must be between 0 and 1"),
                (self.limit is None or self.limit >= 1, "limit must be at least 1"),
                (self.seed >= 0, "seed must not be negative"),
                (
                    not self.label_smoothing or self.loss == "categorical_crossentropy",
                    "label_smoothing needs the loss categorical_crossentropy",
                ),
            )
            if not holds
        ]
        if wrong:
            raise RecipeError(f"recipe {self.name}: {'; '.join(wrong)}")

    def as_json(self) -> dict[str, JsonValue]:
        """The fields, as they stand in recipe.json and in the manifest."""
        return asdict(self)


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="soorya",
            architecture="soorya",
            preprocessing="l2",
            epochs=5,
            validation_share=0.3,
        ),
        Recipe(name="yalcin", architecture="yalcin", preprocessing="unit"),
        Recipe(name="rajwal", architecture="rajwal", preprocessing="unit"),
        Recipe(
            name="adadelta",
            architecture="adadelta",
            preprocessing="unit",
            optimizer="adadelta",
            # Keras at the time of the tutorial; Keras 3 defaults to 0.001, which does not reproduce its figures.
            learning_rate=1.0,
            loss="categorical_crossentropy",
            batch_size=128,
        ),
        Recipe(
            name="compact",
            architecture="compact",
            preprocessing="auto",
            augmentation="drawings",
            learning_rate=0.004,
            schedule="cosine",
            warmup_epochs=1.0,
            weight_decay=0.02,
            average_momentum=0.998,
            batch_size=128,
            epochs=48,
            distinct_epochs=16,
        ),
    )
}


def find_recipe(name: str) -> Recipe:
    """The recipe of that name, or the one in the file of that name when it ends in .json.

    Raises RecipeError when there is none, or when the file does not hold one.
    """
    if name.endswith(".json"):
        return read_recipe(Path(name))
    try:
        return RECIPES[name]
    except KeyError as error:
        raise RecipeError(f"no recipe is called {name!r}; there are {', '.join(RECIPES)}, or FILE.json") from error


def read_recipe(path: Path) -> Recipe:
    """The recipe in a JSON file. Raises RecipeError, naming the first field that is wrong."""
    try:
        return TypeAdapter(Recipe).validate_json(path.read_bytes())
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise RecipeError(f"{path} is no recipe: {field}: {first['msg']}") from error
