//! Training: from a recipe to a student's file.

pub mod checkpoint;
pub mod metrics;
pub mod plots;
pub mod schedule;
