"""Features: one definition of each, for the offline build, the training set and the predictor."""
