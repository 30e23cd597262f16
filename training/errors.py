"""Training errors that the user can fix: printed as one line, exit status 1, no traceback."""


class TrainingError(Exception):
    """The message says in one line what is wrong and how to fix it."""


class DataError(TrainingError):
    """The data set is missing, damaged or has the wrong layout."""


class RecipeError(TrainingError):
    """The recipe is unknown or invalid."""


class RunError(TrainingError):
    """The run directory or the model file does not fit the request."""


class ServiceError(TrainingError):
    """The service that is being evaluated is unreachable or sends unexpected responses."""
