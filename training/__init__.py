"""Training: MNIST in, `models/` out.

The interface is `training.fit.fit(recipe, run_directory, mnist)`; `training.export.export(run_directory, models, ...)`
turns a finished run into the model that the service loads. The service never imports this package.
"""
