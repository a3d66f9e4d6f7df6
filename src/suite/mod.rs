//! Families, tasks and slices: what a model is asked.
