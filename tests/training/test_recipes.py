import json
from pathlib import Path

import pytest

from training.architectures import ARCHITECTURES
from training.data.sources import find_sources
from training.errors import RecipeError
from training.recipes import RECIPES, Recipe, find_recipe


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_name_existing_parts_and_survive_json(name: str, tmp_path: Path) -> None:
    recipe = find_recipe(name)
    assert recipe.architecture in ARCHITECTURES
    find_sources(recipe.sources)
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(recipe.as_json()))
    assert find_recipe(str(file)) == recipe


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(RecipeError, match="soorya, yalcin, rajwal, adadelta, compact"):
        find_recipe("resnet")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("{", "the file"),
        ('{"name": "mine"}', "architecture"),
        ('{"name": "mine", "architecture": "yalcin", "preprocessing": "magic"}', "preprocessing"),
        ('{"name": "mine", "architecture": "yalcin", "preprocessing": "unit", "epochs": "10"}', "epochs"),
        ('{"name": "mine", "architecture": "yalcin", "preprocessing": "unit", "speed": 1}', "speed"),
    ],
    ids=["missing file", "not JSON", "field missing", "unknown choice", "wrong type", "unknown field"],
)
def test_the_error_about_an_invalid_file_names_the_field(text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
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
def test_values_out_of_range_are_refused(field: str, value: float) -> None:
    changes: dict[str, object] = {**RECIPES["yalcin"].as_json(), field: value}
    with pytest.raises(RecipeError, match=field):
        Recipe(**changes)  # type: ignore[arg-type]  # the point of the test
