import json
from dataclasses import replace
from pathlib import Path

import pytest

from training.architectures import ARCHITECTURES
from training.errors import RecipeError
from training.preparation import find_augmentation
from training.recipes import RECIPES, Recipe, find_recipe


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_names_what_exists(name: str) -> None:
    recipe = find_recipe(name)
    assert recipe.architecture in ARCHITECTURES
    find_augmentation(recipe.augmentation)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_its_json(name: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(RECIPES[name].as_json()))
    assert find_recipe(str(file)) == RECIPES[name]


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(RecipeError, match="soorya, yalcin, rajwal, adadelta, compact"):
        find_recipe("resnet")


def test_a_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        find_recipe(str(tmp_path / "mine.json"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "the file"),
        ('{"name": "mine"}', "architecture"),
        ('{"name": "mine", "architecture": "yalcin", "preprocessing": "magic"}', "preprocessing"),
        ('{"name": "mine", "architecture": "yalcin", "preprocessing": "unit", "epochs": "10"}', "epochs"),
        ('{"name": "mine", "architecture": "yalcin", "preprocessing": "unit", "speed": 1}', "speed"),
    ],
    ids=["no json", "field missing", "unknown choice", "wrong type", "unknown field"],
)
def test_a_file_that_holds_no_recipe_names_the_field(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(text)
    with pytest.raises(RecipeError, match=message):
        find_recipe(str(tmp_path / "mine.json"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("distinct_epochs", 0),
        ("batch_size", 0),
        ("validation_share", 0.0),
        ("validation_share", 1.0),
        ("limit", 0),
        ("seed", -1),
        ("label_smoothing", 0.1),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused(field: str, value: float) -> None:
    changes: dict[str, object] = {**RECIPES["yalcin"].as_json(), field: value}
    with pytest.raises(RecipeError, match=field):
        Recipe(**changes)  # type: ignore[arg-type]  # the point of the test


def test_labels_can_be_smoothed_where_they_are_one_hot() -> None:
    assert replace(RECIPES["adadelta"], label_smoothing=0.1).label_smoothing == 0.1
