//! Hostile files, mutations, and round trips.
