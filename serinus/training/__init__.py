"""Training: sampling, fitting, calibration, evaluation and gates of candidate models."""
