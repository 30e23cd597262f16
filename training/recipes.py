"""Recipes: everything an experimenter can choose, as data. Knows nothing of networks, images or directories.

Add a recipe as an entry of `RECIPES` or as a JSON file with the same fields. `architecture` names an entry of
`training.architectures.ARCHITECTURES`.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import ConfigDict, JsonValue, TypeAdapter, ValidationError

from training.errors import RecipeError

Preprocessing = Literal["unit", "l2", "auto"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All settings of one training run. Recipe, data and library versions together determine the weights."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    name: str
    architecture: str
    # unit: grey / 255; l2: each pixel column scaled to unit length; auto: the preprocessing of the service
    preprocessing: Preprocessing
    augmentation: Literal["hands"] | None = None  # pictures by other hands, see training/drawing/hands.py
    # generate new distortions for this many epochs, then reuse them: distorting takes as long as learning
    distinct_epochs: int | None = None
    # after these epochs, outliers that the network takes for digits are drawn more often, see training/rounds.py
    rounds: tuple[int, ...] = ()
    optimizer: Literal["adam", "adadelta"] = "adam"
    learning_rate: float = 0.001
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_epochs: float = 0.0  # cosine only: linear ramp from 0 to learning_rate
    restart: int | None = None  # cosine only: after this epoch, down again from half of learning_rate
    weight_decay: float = 0.0  # decoupled (AdamW), kernels only
    average_momentum: float | None = None  # per step; keeps the moving average of the weights
    # the same loss on integer or one-hot labels; label_smoothing needs one-hot
    loss: Literal["sparse_categorical_crossentropy", "categorical_crossentropy"] = "sparse_categorical_crossentropy"
    label_smoothing: float = 0.0
    batch_size: int = 32
    epochs: int = 10
    validation_share: float = 1 / 12
    seed: int = 0
    limit: int | None = None  # use only the first training images, for a quick trial
    start: str | None = None  # the model that is fine-tuned: name, version and sha256
    sources: tuple[str, ...] = ()  # besides MNIST: names in training.data.sources.SOURCES

    def __post_init__(self) -> None:
        """Raises RecipeError if a value is out of range."""
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
        """The fields as written to recipe.json and to the manifest."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(name="soorya", architecture="soorya", preprocessing="l2", epochs=5, validation_share=0.3),
        Recipe(name="yalcin", architecture="yalcin", preprocessing="unit"),
        Recipe(name="rajwal", architecture="rajwal", preprocessing="unit"),
        Recipe(
            name="adadelta",
            architecture="adadelta",
            preprocessing="unit",
            optimizer="adadelta",
            # the default of Keras when the tutorial was written; Keras 3's 0.001 does not reproduce its accuracy
            learning_rate=1.0,
            loss="categorical_crossentropy",
            batch_size=128,
        ),
        Recipe(
            name="compact",
            architecture="compact",
            preprocessing="auto",
            augmentation="hands",
            learning_rate=0.004,
            schedule="cosine",
            warmup_epochs=1.0,
            weight_decay=0.02,
            average_momentum=0.998,
            batch_size=128,
            epochs=66,
            restart=44,
            distinct_epochs=22,
            rounds=(8, 16),
            sources=(
                "pendigits_strokes",
                "unipen_digits",
                "kensanata_scans",
                "font_digits",
                "unipen_letters",
                "unipen_symbols",
                "omniglot_strokes",
                "quickdraw_strokes",
                "hds_shapes",
                "font_letters",
                "fashion_mnist",
                "pictures_no_digit",
            ),
        ),
    )
}

# On your own pictures. Architecture, sources and validation images are those of the model that is fine-tuned.
FINE_TUNING = replace(
    RECIPES["compact"],
    name="own",
    learning_rate=0.0005,
    warmup_epochs=0.2,
    average_momentum=0.99,
    epochs=3,
    distinct_epochs=None,
    rounds=(),
    limit=8_000,
    sources=(),
)


def find_recipe(name: str) -> Recipe:
    """The recipe called ``name``, or the one in the file ``name`` if that ends in .json. Raises RecipeError."""
    if name.endswith(".json"):
        return read_recipe(Path(name))
    try:
        return RECIPES[name]
    except KeyError as error:
        raise RecipeError(f"unknown recipe {name!r}; choose one of {', '.join(RECIPES)}, or FILE.json") from error


def read_recipe(path: Path) -> Recipe:
    """The recipe in a JSON file. Raises RecipeError, which names the first invalid field."""
    try:
        return TypeAdapter(Recipe).validate_json(path.read_bytes())
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise RecipeError(f"{path} is not a valid recipe: {field}: {first['msg']}") from error
