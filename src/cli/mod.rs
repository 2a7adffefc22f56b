//! The command line, through the API alone.
