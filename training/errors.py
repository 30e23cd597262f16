"""Every error of training that a person at the command line can mend: one line, exit status 1, no traceback."""


class TrainingError(Exception):
    """What is wrong and what to do about it, in one line."""


class DataError(TrainingError):
    """The data set is missing, damaged or of another layout."""


class RecipeError(TrainingError):
    """The recipe is unknown, or its JSON does not describe one."""


class RunError(TrainingError):
    """The run directory or the model file does not fit what was asked of it."""


class ServiceError(TrainingError):
    """The service that should answer does not, or answers something else."""
