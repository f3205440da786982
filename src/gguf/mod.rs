//! The container: one file format for all students, read in place.
