"""The model card: manifest and scores -> Markdown. Source of its order: Mitchell et al. 2019, Model Cards."""

from app.manifest import Manifest
from training.scoring import Scores

LIBRARIES = ("python", "keras", "tensorflow", "jax", "numpy", "opencv")


def card(manifest: Manifest, scores: Scores) -> str:
    """The card of an exported model, as it stands in models/card.md; its pictures are in figures/ beside it."""
    recipe, trained = manifest.recipe, manifest.trained
    digits = "\n".join(
        f"| {digit} | {sum(row):,} | {_percent(precision)} | {_percent(recall)} |"
        for digit, (row, precision, recall) in enumerate(
            zip(scores.confusion, scores.precision, scores.recall, strict=True)
        )
    )
    libraries = [f"{name} {trained[name]}" for name in LIBRARIES if name in trained]
    facts = {
        "architecture": f"`{manifest.architecture}`",
        "parameters": f"{manifest.parameters:,}",
        "multiply-adds an image": f"{manifest.multiply_adds:,}",
        "preprocessing": f"`auto`, version {manifest.preprocessing}",
        "temperature": f"{manifest.temperature:g}",
        "recipe": f"`{recipe['name']}`, seed {recipe['seed']}, {recipe['epochs']} epochs",
        "augmentation": f"{recipe['augmentation'] or 'none'}",
        "trained": f"{trained['date']}, {', '.join(libraries)}, {trained['cpu']}",
        "sha256": "<br>".join(f"`{digest}` {file}" for file, digest in manifest.sha256.items()),
    }
    rows = "\n".join(f"| {name} | {fact} |" for name, fact in facts.items())
    return f"""\
# Model card: {manifest.name} {manifest.version}

Reads one handwritten digit out of a picture: 28x28 ink in, ten logits out. A softmax at the temperature below makes
them probabilities.

| | |
| --- | --- |
{rows}

## Use

Single digits 0 to 9 written by hand: dark on light or light on dark, from a camera, a scanner or a drawing program.
It is not made for printed numerals, for several digits in one picture, or for telling digits from what is none: ten
probabilities come out of anything that has ink. Do not let it decide alone where a wrong digit does harm.

## Data

Learnt from the training images of the MNIST database (LeCun, Cortes and Burges; CC BY-SA 3.0), all but a fixed share
that is held out: the epochs were watched on it, and the temperature was fitted to it. MNIST's writers were employees
of the United States Census Bureau and high-school students. Hands from elsewhere write some digits otherwise, the one
and the seven above all, and are read less well. The manifest holds the sha256 of each array.

## Figures

Measured on the {scores.images:,} test images through the engine that the service runs, preprocessing included.

| | accuracy | loss (nats) |
| --- | --- | --- |
| test | {_percent(manifest.metrics["test_accuracy"])} % ({scores.wrong} wrong) | {manifest.metrics["test_nll"]:.4f} |
| validation | {_percent(manifest.metrics["validation_accuracy"])} % | {manifest.metrics["validation_nll"]:.4f} |

| digit | test images | precision % | recall % |
| --- | --- | --- | --- |
{digits}

![Learning curves](figures/curves.png)

![Confusion matrix of the test images](figures/confusion.png)

The most confident mistakes:

![Test images that were misread](figures/mistakes.png)

What it learnt from:

![Training images with their labels](figures/samples.png)
"""


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"
